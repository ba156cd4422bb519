/** The program as Io and a driver see it: over real gates, shared memory, doorbells and interrupt objects. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { ICR_RXT0, ICR_TXDW, REG, TX_CMD_EOP, TX_CMD_IFCS, TX_CMD_RS } from '#common/nic/e1000';
import { COMMAND_MASTER, COMMAND_MEMORY, PCI } from '#common/nic/pci';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { IrqReceiver } from '#common/shm/irq';
import { MmioClient } from '#common/shm/mmio';
import type { TaskEnv } from '#common/task/env';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { l4lab as m } from '../../proto/gen/messages.js';
import {
  Dataspace,
  DmaSpace,
  Factory,
  Icu,
  Iommu,
  MachineControl,
  Meta,
  PciHost,
} from '../../proto/gen/services.js';
import { main } from './main.ts';

const NIC = { device: 3 };
const REQUESTER = 3 << 3;
const DRIVER = 'd'.repeat(32);

describe('machine', () => {
  let dir: TestRunDir;
  let stop: AbortController;
  let status: Promise<number>;
  let errors: string[];
  let client: Ipc;
  let arena: Arena;
  let memories: SharedMemories;
  let doorbells: Doorbells;
  let ends: Map<string, ServerEnd>;
  let ownArena: Arena;
  let cleanups: (() => void)[];

  const cap = (name: string): Capability => rootCapability(ends.get(name) as ServerEnd);
  const start = (...words: string[]): void => {
    const { path: runDir } = dir;
    const own = {
      arena: ownArena,
      memories: new SharedMemories(runDir, ownArena),
      doorbells: new Doorbells(runDir),
      ipc: new Ipc({ runDir, task: 'm'.repeat(32) }),
    };
    const write = async (text: string | Uint8Array): Promise<void> => void errors.push(String(text));
    const env = {
      ...own,
      runDir,
      name: 'machine',
      argv: ['machine', ...words],
      serverEnds: ends,
      signal: stop.signal,
      stdout: { write },
      stderr: { write },
    } as unknown as TaskEnv;
    status = main(env).finally(() => {
      own.ipc.close();
      own.doorbells.close();
      own.memories.close();
    });
  };

  beforeEach(() => {
    dir = testRunDir();
    stop = new AbortController();
    errors = [];
    cleanups = [];
    ends = new Map(['sigma0', 'icu', 'iommu', 'control'].map((name) => [name, createGate()]));
    client = new Ipc({ runDir: dir.path, task: DRIVER });
    arena = new Arena(2 ** 26);
    ownArena = new Arena(2 ** 26);
    memories = new SharedMemories(dir.path, arena);
    doorbells = new Doorbells(dir.path);
  });
  afterEach(async () => {
    for (const cleanup of cleanups) cleanup();
    stop.abort();
    // Whatever became of it, nothing may be left behind; each test looks at the status itself if it wants to.
    await status.catch(() => {});
    client.close();
    doorbells.close();
    memories.close();
    dir[Symbol.dispose]();
  });

  /** Maps the registers; `ring`: instead of ringing the machine's doorbell. */
  const map = async (ring?: () => void): Promise<MmioClient> => {
    const { value } = await client
      .client(PciHost, cap('sigma0'))
      .cfgRead({ address: NIC, offset: PCI.BAR0, width: 32 });
    const reply = await client.client(Dataspace, cap('sigma0')).map({ offset: value, size: 0x20000 });
    expect(reply.kind).toBe(m.MapReply.Kind.MMIO);
    const mapping = memories.open(reply.memory ?? {});
    const bell = doorbells.open(reply.memory?.name ?? '');
    cleanups.push(() => bell.close());
    const life = doorbells.watch(bell.name, () => {});
    cleanups.push(() => life.leave());
    if (ring) bell.ring = ring;
    return new MmioClient(arena, mapping.offset, bell, { lives: () => life.check() });
  };
  it('main() does return 1 with a sentence when an option is wrong or a server end is missing', async () => {
    start('--nic', 'ne2000');
    expect(await status).toBe(1);
    expect(errors.join()).toContain('model must be one of e1000');
  });

  it('sigma0 does answer configuration cycles, routes and mappings', async () => {
    start('--nic', 'e1000,wire=none');
    const pci = client.client(PciHost, cap('sigma0'));
    expect((await pci.cfgRead({ address: NIC, offset: 0, width: 32 })).value).toBe(0x100e8086);
    const sizing = [
      { offset: PCI.COMMAND, width: 16 },
      { offset: PCI.BAR0, width: 32, value: 0xffff_ffff },
      { offset: PCI.BAR0, width: 32 },
      { offset: PCI.BAR0, width: 32, value: 0xfebc_0000 },
      { offset: PCI.BAR0, width: 32 },
    ];
    const { values } = await pci.cfgSequence({ address: NIC, steps: sizing });
    expect(values.slice(1).map((value) => value >>> 0)).toEqual([0xfffe_0000, 0xfebc_0000]);
    const tooMany = { address: NIC, steps: Array.from({ length: 65 }, () => sizing[0] as object) };
    await expect(pci.cfgSequence(tooMany)).rejects.toMatchObject({ errno: 22 });
    expect(await pci.route({ address: NIC, pin: 0 })).toMatchObject({ irq: 19, trigger: 0, polarity: 1 });
    const space = client.client(Dataspace, cap('sigma0'));
    await expect(space.map({ offset: 0x1000, size: 0x1000 })).rejects.toMatchObject({ errno: 34 });
    await expect(space.copyOut({ offset: 0, size: 1 })).rejects.toMatchObject({ errno: 38 });
    const mapped = await space.map({ offset: 0xfebc_2000, size: 0x1000 });
    expect([mapped.kind, mapped.offset]).toEqual([m.MapReply.Kind.MMIO, 0x2000]);
  });

  it('sigma0 does end the old register channel when a driver maps again', async () => {
    start('--nic', 'e1000,wire=none');
    const first = await map();
    const second = await map();
    expect([first.closed, second.closed]).toEqual([true, false]);
    expect(first.read32(REG.STATUS.offset)).toBe(0xffff_ffff);
  });

  it('sigma0 does let no register access of a driver come into a sequence that has the registers switched off', async () => {
    start('--nic', 'e1000,wire=none');
    const irq = new IrqReceiver(dir.path, arena, doorbells);
    cleanups.push(() => irq.close());
    const fired = new Promise<void>((resolve) => irq.listen(resolve));
    await client.client(Icu, cap('icu')).bind({ irq: 19, object: irq.ref });
    let asleep = false;
    const mmio = await map(() => {
      asleep = true;
    });
    const pci = client.client(PciHost, cap('sigma0'));
    const command = (value: number) => ({ offset: PCI.COMMAND, width: 16, value });
    // A machine that sleeps is rung. What is written then waits until the sequence wakes it.
    await expect
      .poll(() => {
        mmio.write32(REG.IMS.offset, ICR_RXT0);
        return asleep;
      })
      .toBe(true);
    mmio.write32(REG.ICS.offset, ICR_RXT0);
    irq.unmask();
    await pci.cfgSequence({ address: NIC, steps: [command(0), command(COMMAND_MEMORY)] });
    await fired;
  });

  it('icu does deliver level interrupts, refuse a second bind, and go on when the task that bound has ended', async () => {
    start('--nic', 'e1000,wire=none');
    const icu = client.client(Icu, cap('icu'));
    expect(await icu.info()).toMatchObject({ features: 0, nrIrqs: 24, nrMsis: 0 });
    const irq = new IrqReceiver(dir.path, arena, doorbells);
    const other = new IrqReceiver(dir.path, arena, doorbells);
    cleanups.push(
      () => irq.close(),
      () => other.close(),
    );
    expect(await icu.bind({ irq: 19, object: irq.ref })).toMatchObject({ unmaskViaIcu: 0 });
    await expect(icu.bind({ irq: 19, object: other.ref })).rejects.toMatchObject({ errno: 1 });
    await expect(icu.bind({ irq: 24, object: other.ref })).rejects.toMatchObject({ errno: 2 });
    await expect(icu.bind({ irq: 0x8000_0000, object: other.ref })).rejects.toMatchObject({ errno: 2 });
    await expect(icu.bind({ irq: 5, object: { name: 'x' } })).rejects.toMatchObject({ errno: 22 });

    const mmio = await map();
    let wake = () => {};
    irq.listen(() => wake());
    const fire = async (): Promise<void> => {
      // Writing its bit lowers the line.
      mmio.write32(REG.ICR.offset, ICR_RXT0);
      const fired = new Promise<void>((resolve) => {
        wake = resolve;
      });
      irq.unmask();
      mmio.write32(REG.ICS.offset, ICR_RXT0);
      await fired;
    };
    mmio.write32(REG.IMS.offset, ICR_RXT0);
    await fire();

    await client.client(Meta, cap('icu')).taskGone({ task: DRIVER });
    await fire();
    await icu.bind({ irq: 19, object: other.ref });
    await icu.unbind({ irq: 19 });
    await expect(icu.unbind({ irq: 19 })).rejects.toMatchObject({ errno: 2 });
    await icu.bind({ irq: 19, object: other.ref });
    other.close();
    await icu.bind({ irq: 19, object: irq.ref });
  });

  it('iommu does let a NIC send from mapped memory, and reset it when the driver is gone', async () => {
    start('--nic', 'e1000,wire=none,link=up');
    await client
      .client(PciHost, cap('sigma0'))
      .cfgWrite({ address: NIC, offset: PCI.COMMAND, width: 16, value: COMMAND_MASTER | COMMAND_MEMORY });
    const factory = client.client(Factory, cap('iommu'));
    const iommu = client.client(Iommu, cap('iommu'));
    await expect(factory.create({ type: -16 })).rejects.toMatchObject({ errno: 19 });
    const { object } = await factory.create({ type: -17 });
    await iommu.assign({ requester: REQUESTER, dmaSpace: object ?? null, bind: true });
    await expect(
      iommu.assign({ requester: 0x20, dmaSpace: object ?? null, bind: true }),
    ).rejects.toMatchObject({ errno: 2 });
    await expect(
      iommu.assign({ requester: REQUESTER, dmaSpace: cap('icu'), bind: true }),
    ).rejects.toMatchObject({ errno: 22 });
    const second = await factory.create({ type: -17 });
    await expect(
      iommu.assign({ requester: REQUESTER, dmaSpace: second.object ?? null, bind: true }),
    ).rejects.toMatchObject({ errno: 16 });

    const memory = memories.create(8192);
    const space = client.client(DmaSpace, object as Capability);
    const { address } = await space.map({ memory: memory.ref, offset: 0, size: 8192, direction: 0 });
    await expect(
      space.map({ memory: memory.ref, offset: 4096, size: 8192, direction: 0 }),
    ).rejects.toMatchObject({ errno: 22 });
    const mmio = await map();
    arena.u32.set([address + 4096, 0, 100 | TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS, 0], memory.offset >>> 2);
    mmio.write32(REG.TDBAL.offset, address);
    mmio.write32(REG.TDLEN.offset, 4096);
    mmio.write32(REG.IMS.offset, ICR_TXDW);
    mmio.write32(REG.TCTL.offset, 2);
    mmio.write32(REG.TDT.offset, 1);
    await expect.poll(() => arena.u32[(memory.offset >>> 2) + 3]).toBe(1);
    const control = client.client(MachineControl, cap('control'));
    expect((await control.status()).nics).toMatchObject([
      { model: 'e1000', mac: '52:54:00:12:34:56', wire: 'none', txPackets: 1, txBytes: 100, dmaFaults: 0 },
    ]);

    await expect(control.cable({ nic: 1, plugged: true })).rejects.toMatchObject({ errno: 2 });

    await client.client(Meta, cap('iommu')).taskGone({ task: DRIVER });
    await expect(space.unmap({ address, size: 8192 })).rejects.toMatchObject({ errno: 2004 });
    mmio.write32(REG.TDLEN.offset, 4096);
    mmio.write32(REG.TCTL.offset, 2);
    mmio.write32(REG.TDT.offset, 1);
    await expect.poll(async () => (await control.status()).nics?.[0]?.dmaFaults).toBeGreaterThan(0);
    expect(errors.join()).toContain('no DMA space');
  });
});
