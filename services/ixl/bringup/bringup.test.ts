import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { L4Error } from '#common/ipc/errors';
import { Arena } from '#common/shm/arena';
import { SharedMemories, type SharedMemoryRef } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { IrqSource } from '#common/shm/irq';
import { MMIO_BYTES, MmioServer } from '#common/shm/mmio';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { l4lab } from '../../../proto/gen/messages.js';
import type { IxlEnv } from '../env.ts';
import { CAP, type FakeDevice, FakeVbus, fakeNic, ICU } from '../testing/fake_vbus.ts';
import { FakeLog } from '../testing/fakes.ts';
import { DmaMemories } from './dma.ts';
import { attachMsiOrLegacy, type IrqContext, openIcu } from './interrupts.ts';
import { PciDevice } from './pci.ts';
import { mapRegisters } from './registers.ts';
import type { VbusClient } from './vbus.ts';

const arena = new Arena(2 ** 26);
let runDir: TestRunDir;
let doorbells: Doorbells;
let memories: SharedMemories;

beforeEach(() => {
  runDir = testRunDir();
  doorbells = new Doorbells(runDir.path);
  memories = new SharedMemories(runDir.path, arena);
});
afterEach(() => {
  doorbells.close();
  memories.close();
  runDir[Symbol.dispose]();
});

function setup(nic: FakeDevice = fakeNic(), memAlloc: IxlEnv['memAlloc'] = CAP) {
  const vbus = new FakeVbus([ICU, nic]);
  const env: IxlEnv = {
    ipc: vbus.ipc,
    arena,
    memories,
    doorbells,
    runDir: runDir.path,
    memAlloc,
    task: 'f'.repeat(32),
  };
  const log = new FakeLog();
  const pci = new PciDevice(vbus.client, 2, 'NIC', nic.resources?.length ?? 0);
  const context: IrqContext = { env, vbus: vbus.client, pci, log };
  return { vbus, env, log, pci, context };
}

describe('openIcu()', () => {
  it('says which property to set where when num_msis is missing, and goes on', async () => {
    const { vbus, context, log } = setup();
    vbus.nrMsis = 0;
    await openIcu(context, 1);
    expect(log.lines[0]).toMatch(
      /^\[ERROR\] .*current value of its property num_msis is 0\. In the \.vbus file, write "Property\.num_msis = 1"/,
    );
  });

  it('fails with a sentence on a bus without interrupt controller', async () => {
    const { env, log, pci } = setup();
    const vbus = new FakeVbus([fakeNic()]);
    const context = { env: { ...env, ipc: vbus.ipc }, vbus: vbus.client, pci, log };
    await expect(openIcu(context, 1)).rejects.toMatchObject({ code: 'IXL_NO_ICU' });
  });
});

describe('attachMsiOrLegacy()', () => {
  it('binds INTx, fires while asserted and not masked, and unbinds', async () => {
    const { vbus, env, context, log } = setup();
    const irq = await attachMsiOrLegacy(context, await openIcu(context, 1));
    expect(log.lines).toEqual([
      '[INFO ] Device does not support MSIs. Trying legacy interrupts...',
      '[INFO ] Attached to legacy IRQ 11',
    ]);
    const source = new IrqSource(env.runDir, arena, doorbells, { name: vbus.bound });
    let fired = 0;
    irq.listen(() => {
      fired += 1;
    });
    source.setLevel(true);
    await expect.poll(() => fired).toBe(1);
    irq.unmask();
    await expect.poll(() => fired).toBe(2);
    await irq.close();
    source.close();
    expect(vbus.calls).toEqual(['bind 11', 'unbind 11']);
  });

  it('programs MSI 0 where the NIC has the capability', async () => {
    const nic = fakeNic();
    nic.config
      ?.set(0x04, 0x0010_0000)
      .set(0x34, 0x50)
      .set(0x50, 0x0080_0005)
      .set(0x54, 0)
      .set(0x58, 0)
      .set(0x5c, 0);
    const { vbus, context, log } = setup(nic);
    const irq = await attachMsiOrLegacy(context, await openIcu(context, 1));
    expect([irq.kind, irq.irq]).toEqual(['msi', 0]);
    expect(log.lines).toEqual(['[INFO ] Attached to MSI 0']);
    expect(vbus.calls).toEqual([
      'bind 2147483648',
      'write 0x54 0xfee00000',
      'write 0x58 0x1',
      'write 0x5c 0x41',
      'write 0x52 0x81',
    ]);
    await irq.close();
  });
});

describe('bring-up that fails half-way', () => {
  it('unbinds the interrupt when the ICU has no address for the MSI', async () => {
    const nic = fakeNic();
    nic.config?.set(0x04, 0x0010_0000).set(0x34, 0x50).set(0x50, 0x0080_0005);
    const { vbus, context } = setup(nic);
    vbus.msiRefusal = new L4Error('ENODEV', 'Cannot give MSI address');
    const icu = await openIcu(context, 1);
    await expect(attachMsiOrLegacy(context, icu)).rejects.toThrow(/Cannot give MSI address/);
    expect(vbus.calls).toEqual(['bind 2147483648', 'unbind 2147483648']);
    expect(readdirSync(join(runDir.path, 'b'))).toEqual([]);
  });

  it('releases the DMA space when another driver has the domain', async () => {
    const { vbus, env, pci } = setup();
    vbus.assignRefusal = new L4Error('EBUSY', 'Cannot assign');
    await expect(DmaMemories.create(env, vbus.client, pci)).rejects.toThrow(/Cannot assign/);
    expect(vbus.calls).toEqual(['create -17', 'assignDmaDomain 42 1', 'release']);
  });

  it('unmaps the register channel when its machine is gone by then', async () => {
    const { vbus, env, log, pci } = setup();
    const mapping = memories.create(MMIO_BYTES);
    vbus.mapReply = () => ({ kind: l4lab.MapReply.Kind.MMIO, offset: 0, memory: mapping.ref });
    const before = readFileSync('/proc/self/maps', 'utf8').split(mapping.ref.name).length;
    await expect(mapRegisters({ env, pci, log }, CAP, Infinity)).rejects.toThrow(/Cannot open doorbell/);
    expect(readFileSync('/proc/self/maps', 'utf8').split(mapping.ref.name).length).toBe(before);
    mapping.close();
  });
});

describe('mapRegisters()', () => {
  const MMIO = l4lab.MapReply.Kind.MMIO;

  it.each([
    ['is too small', () => memories.create(4096).ref, /must have \d+ writable bytes: current value is 4096$/],
    ['cannot be written', () => memories.create(MMIO_BYTES, false).ref, /writable bytes: .*, read-only$/],
    ['has no doorbell', () => memories.create(MMIO_BYTES).ref, /Cannot open doorbell/],
    ['is no dataspace', () => ({ name: '../x', size: MMIO_BYTES, writable: true }), /name/],
  ])('refuses a channel that %s, and keeps nothing of it', async (_what, make, message) => {
    const { vbus, env, pci, log } = setup();
    let open = 0;
    const counting = {
      create: memories.create.bind(memories),
      open: (ref: SharedMemoryRef) => {
        const mapping = memories.open(ref);
        open += 1;
        const close = () => {
          mapping.close();
          open -= 1;
        };
        return { offset: mapping.offset, size: mapping.size, ref: mapping.ref, close };
      },
    };
    vbus.mapReply = () => ({ kind: MMIO, memory: make(), offset: 0 });
    const spied = { ...env, memories: counting as unknown as IxlEnv['memories'] };
    await expect(mapRegisters({ env: spied, pci, log }, CAP, Infinity)).rejects.toThrow(message);
    expect(open).toBe(0);
  });

  it.each(['before it is watched', 'afterwards'])(
    'gives a machine up that lives and does not answer: found out %s',
    async (when) => {
      const { vbus, env, log, pci } = setup();
      const mapping = memories.create(MMIO_BYTES);
      const { name } = mapping.ref;
      new MmioServer(arena, mapping.offset);
      const [bell, life] = [doorbells.create(name), doorbells.lifeline(name)];
      vbus.mapReply = () => ({ kind: MMIO, offset: 0, memory: mapping.ref });
      const registers = await mapRegisters({ env, pci, log }, CAP, 30);
      let gone = 0;
      const watch = () => registers.watch(() => gone++);
      if (when === 'afterwards') watch();
      expect(registers.mmio.read32(0)).toBe(0xffff_ffff);
      if (when !== 'afterwards') watch();
      expect([gone, registers.mmio.read32(0)]).toEqual([1, 0xffff_ffff]);
      expect(log.lines).toEqual(['[ERROR] "NIC" has not answered for 0.03 s: it is given up']);
      registers.close();
      for (const half of [bell, life, mapping]) half.close();
    },
  );
});

describe('PciDevice', () => {
  it('asks a device that has billions of resources for some of them only', async () => {
    const { vbus } = setup();
    let asked = 0;
    const client = {
      ...vbus.client,
      getResource: async () => ({ type: 0, start: ++asked }),
    } as unknown as VbusClient;
    await expect(new PciDevice(client, 2, 'NIC', 0xffff_ffff).dmaDomain()).rejects.toMatchObject({
      code: 'IXL_NO_DMA_DOMAIN',
    });
    expect(asked).toBe(64);
  });
});

describe('DmaMemories', () => {
  it('creates a space, assigns the domain, maps memory, and releases', async () => {
    const { vbus, env, pci } = setup();
    const dma = await DmaMemories.create(env, vbus.client, pci);
    const memory = await dma.allocate(5000);
    expect(memory).toMatchObject({ size: 8192, address: 2 ** 21 });
    expect(vbus.calls).toEqual(['create -17', 'assignDmaDomain 42 1']);
    await dma.close();
    expect(vbus.calls.at(-1)).toBe('release');
    expect(() => memories.open(memory.ref)).toThrow(/none of that name/);
  });

  it('says so when the task has no factory', async () => {
    const { vbus, env, pci } = setup();
    const { memAlloc: _, ...rest } = env;
    await expect(DmaMemories.create({ ...rest, memAlloc: undefined }, vbus.client, pci)).rejects.toThrow(
      /no mem_alloc/,
    );
  });
});
