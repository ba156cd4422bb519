import { describe, expect, it } from 'vitest';
import { testBus } from '../testing/bus.ts';
import {
  E1000,
  FakeDma,
  type FakeFunction,
  FakeMemory,
  HOST_BRIDGE,
  I350,
  recordingLog,
} from '../testing/fake_machine.ts';
import { scenario } from '../testing/scenario.ts';
import { resourceName } from '../tree/resource.ts';
import { DeviceMemory } from './device_memory.ts';
import { INHIBITOR_SUSPEND, Inhibitors } from './inhibitor.ts';
import { VbusOperations } from './operations.ts';

async function setup(functions: readonly FakeFunction[] = [E1000]) {
  const { bus, pci, log, lines } = await testBus(functions);
  const [dma, inhibitors] = [new FakeDma(), new Inhibitors()];
  const operations = new VbusOperations<string>(bus, pci, dma, inhibitors, log);
  return { bus, operations, dma, inhibitors, memory: new DeviceMemory(bus, new FakeMemory(), log), lines };
}

const errno = (number: number) => expect.objectContaining({ errno: number });

describe('device records', () => {
  it('have interfaces, names for devices with HID and for proxies, and flags', async () => {
    const { operations } = await setup();
    expect([0, 1, 2, 3].map((handle) => operations.getDevice(handle))).toEqual([
      { handle: 0, type: 0x30, name: '', numResources: 0, flags: 0x10 },
      { handle: 1, type: 0x01, name: 'L4ICU', numResources: 0, flags: 0 },
      { handle: 2, type: 0x04, name: 'PCI0', numResources: 1, flags: 0x10 },
      { handle: 3, type: 0x08, name: 'PCI device', numResources: 5, flags: 0 },
    ]);
    expect(() => operations.getDevice(4)).toThrow(errno(19));
  });

  it('getNext() walks in pre-order to ENODEV, within a depth', async () => {
    const { operations } = await setup([HOST_BRIDGE, E1000]);
    const walk = (handle: number, depth: number): number[] => {
      const seen: number[] = [];
      for (let current = -1; ; ) {
        try {
          current = operations.getNext(handle, current, depth).handle;
          seen.push(current);
        } catch (error) {
          expect(error).toEqual(errno(19));
          return seen;
        }
      }
    };
    expect(walk(0, 100)).toEqual([1, 2, 3, 4]);
    expect(walk(0, 1)).toEqual([1, 2]);
    expect(walk(2, 1)).toEqual([3, 4]);
    expect(walk(0, 0)).toEqual([]);
    expect(() => operations.getNext(2, 1, 100)).toThrow(errno(22));
    expect(() => operations.getNext(9, -1, 100)).toThrow(errno(19));
  });

  it('getByHid() compares exactly and goes on behind the current device', async () => {
    const { operations } = await setup();
    expect(operations.getByHid(0, -1, 100, 'L40009').handle).toBe(1);
    expect(operations.getByHid(0, 1, 100, 'PNP0A03').handle).toBe(2);
    expect(() => operations.getByHid(0, 1, 100, 'L40009')).toThrow(errno(2));
    expect(() => operations.getByHid(0, -1, 100, 'L4*')).toThrow(errno(2));
    expect(() => operations.getByHid(0, -1, 100, '')).toThrow(errno(22));
  });

  it('getHid(), getAdr(), isCompatible()', async () => {
    const { operations } = await setup([E1000, I350(0), I350(1)]);
    expect([0, 1, 2, 3].map((handle) => operations.getHid(handle))).toEqual(['', 'L40009', 'PNP0A03', '']);
    expect([3, 4, 5].map((handle) => operations.getAdr(handle))).toEqual([0, 0x10000, 0x10001]);
    expect(() => operations.getAdr(0)).toThrow(errno(38));
    expect(operations.isCompatible(3, 'PCI/CC_02&DEV_100e')).toBe(true);
    expect(operations.isCompatible(3, 'PCI/DEV_1521')).toBe(false);
    expect(operations.isCompatible(1, 'L4000?')).toBe(true);
    expect(operations.isCompatible(0, '*')).toBe(false);
  });

  it('getResource() lists what is in use, with the handle as provider', async () => {
    const { operations } = await setup();
    const all = [0, 1, 2, 3, 4].map((index) => operations.getResource(3, index));
    expect(all.map(({ id, type, flags, start, end }) => [resourceName(id), type, flags, start, end])).toEqual(
      [
        ['BAR0', 2, 3, 0xfebc0000, 0xfebdffff],
        ['BAR1', 3, 0, 0xc000, 0xc03f],
        ['ROM', 2, 1, 0xfeb80000, 0xfebbffff],
        ['PIN', 1, 7, 11, 11],
        ['DMAD', 6, 0, 24, 24],
      ],
    );
    expect(all[0]?.provider).toBe(3);
    expect(() => operations.getResource(3, 5)).toThrow(errno(2));
    const { operations: unset } = await setup([
      { ...E1000, bars: [{ index: 0, base: 0, size: 4096 }], rom: { base: 0xfeb80000, size: 0x800 } },
    ]);
    expect(resourceName(unset.getResource(3, 0).id)).toBe('ROM');
  });
});

describe('PCI operations', () => {
  it('reach a function by handle, and by place through the host bridge', async () => {
    const { operations } = await setup([HOST_BRIDGE, E1000]);
    expect(await operations.cfgRead(4, 0, 32, 0, 0)).toBe(0x100e8086);
    expect(await operations.cfgRead(2, 0, 32, 0, 0x10000)).toBe(0x100e8086);
    expect(await operations.cfgRead(2, 0, 16, 0, 0x20000)).toBe(0xffff);
    expect(await operations.cfgRead(2, 0, 32, 1, 0)).toBe(0xffffffff);
    await operations.cfgWrite(2, 4, 16, 7, 0, 0x50000);
    await operations.cfgWrite(4, 4, 16, 6, 0, 0);
    expect(await operations.cfgRead(4, 4, 16, 0, 0)).toBe(6);
  });

  it('keep the virtual registers of a device between calls', async () => {
    const { operations } = await setup();
    await operations.cfgWrite(3, 0x10, 32, 0xffffffff, 0, 0);
    expect(await operations.cfgRead(3, 0x10, 32, 0, 0)).toBe(0xfffe0000);
  });

  it('refuse other devices and widths', async () => {
    const { operations } = await setup();
    await expect(operations.cfgRead(1, 0, 32, 0, 0)).rejects.toEqual(errno(38));
    await expect(operations.cfgRead(0, 0, 32, 0, 0)).rejects.toEqual(errno(38));
    await expect(operations.cfgRead(3, 0, 64, 0, 0)).rejects.toEqual(errno(22));
    await expect(operations.cfgRead(7, 0, 32, 0, 0)).rejects.toEqual(errno(19));
  });

  it('irqEnable() tells number, trigger and polarity', async () => {
    const { operations } = await setup([HOST_BRIDGE, E1000]);
    expect(operations.irqEnable(4, 0, 0)).toEqual({ irq: 11, trigger: 0, polarity: 1 });
    expect(operations.irqEnable(2, 0, 0x10000)).toEqual({ irq: 11, trigger: 0, polarity: 1 });
    expect(operations.irqEnable(2, 0, 0x90000).irq).toBe(-1);
    expect(() => operations.irqEnable(3, 0, 0)).toThrow(errno(22));
    expect(() => operations.irqEnable(1, 0, 0)).toThrow(errno(38));
  });

  it('reach functions behind a virtual bridge by bus number, and see dummies and bridges', async () => {
    const made = await scenario([E1000]);
    made.run(`Io.add_vbusses { v = Io.Vi.System_bus(function() PCI0 = Io.Vi.PCI_bus(function()
      dummy = Io.Vi.PCI_dummy_device()
      br = Io.Vi.PCI_PCI_bridge(function() nic = wrap(Io.system_bus():match("PCI/ethernet")) end) end) end) }`);
    const { log } = recordingLog();
    const operations = new VbusOperations<string>(
      made.bus('v'),
      made.pci,
      new FakeDma(),
      new Inhibitors(),
      log,
    );
    expect(await operations.cfgRead(2, 0, 32, 1, 0)).toBe(0x100e8086);
    expect(await operations.cfgRead(2, 0x18, 32, 0, 0x10000)).toBe(0x010100);
    expect(await operations.cfgRead(3, 0, 32, 0, 0)).toBe(0x02000400);
    made.close();
  });
});

describe('bus operations', () => {
  it('requestResource() grants ports of the bus only', async () => {
    const { operations } = await setup();
    operations.requestResource(0, { type: 3, start: 0xc000, end: 0xc00f });
    expect(() => operations.requestResource(0, { type: 3, start: 0xc000, end: 0xc040 })).toThrow(errno(2));
    expect(() => operations.requestResource(0, { type: 2, start: 0xfebc0000, end: 0xfebc0fff })).toThrow(
      errno(2),
    );
    expect(() => operations.requestResource(0, undefined)).toThrow(errno(22));
    expect(() => operations.requestResource(3, { type: 3, start: 0xc000, end: 0xc00f })).toThrow(errno(38));
    expect(() => operations.releaseResource(0)).toThrow(errno(38));
  });

  it('assignDmaDomain() binds and unbinds at the machine', async () => {
    const { operations, dma } = await setup();
    await operations.assignDmaDomain(0, 24, 1, 'space');
    expect(dma.bound).toEqual(new Map([[0x18, 'space']]));
    await expect(operations.assignDmaDomain(0, 24, 1, 'other')).rejects.toEqual(errno(16));
    await operations.assignDmaDomain(0, 24, 0, 'space');
    await operations.assignDmaDomain(0, 24, 1, 'other');
  });

  it('assignDmaDomain() refuses what is not there', async () => {
    const { operations } = await setup();
    await expect(operations.assignDmaDomain(0, 25, 1, 's')).rejects.toEqual(errno(2));
    await expect(operations.assignDmaDomain(0, 0xffffffff, 1, 's')).rejects.toEqual(errno(2));
    await expect(operations.assignDmaDomain(0, 24, 1, undefined)).rejects.toEqual(errno(22));
    await expect(operations.assignDmaDomain(0, 24, 3, 's')).rejects.toEqual(errno(22));
    await expect(operations.assignDmaDomain(3, 24, 1, 's')).rejects.toEqual(errno(38));
  });

  it('suspend and resume of the bus release and take the suspend inhibitor', async () => {
    const { operations, inhibitors } = await setup();
    operations.pmResume(0);
    expect(inhibitors.heldFor(INHIBITOR_SUSPEND)).toBe('vbus active');
    operations.pmSuspend(0);
    expect(inhibitors.heldFor(INHIBITOR_SUSPEND)).toBeUndefined();
    expect(() => operations.pmSuspend(3)).toThrow(errno(38));
  });
});

describe('DeviceMemory.map()', () => {
  it('maps pages of memory resources, read-only where the resource is', async () => {
    const { memory } = await setup();
    expect(await memory.map(0xfebc0000, 0x20000)).toMatchObject({
      memory: { size: 0x20000, writable: true },
    });
    expect(await memory.map(0xfebd0000, 0x1000)).toMatchObject({ kind: 1 });
    expect(await memory.map(0xfeb80000, 0x1000)).toMatchObject({ memory: { writable: false } });
    expect(memory.info()).toEqual({ size: 2 ** 48, writable: true });
  });

  it('gives the whole page of a small resource', async () => {
    const { memory } = await setup([{ ...E1000, bars: [{ index: 0, base: 0xfebc0100, size: 0x100 }] }]);
    expect(await memory.map(0xfebc0000, 0x1000)).toMatchObject({ kind: 1 });
  });

  it.each([
    ['outside', 0xfec00000, 0x1000],
    ['over the end', 0xfebd0000, 0x20000],
    ['a port', 0xc000, 0x10],
    ['before the start', 0xfeb7f000, 0x2000],
  ])('refuses an address %s', async (_what, address, size) => {
    const { memory, lines } = await setup();
    await expect(memory.map(address, size)).rejects.toMatchObject({
      errno: 34,
      message: expect.stringContaining('it has BAR0 MEM 0xfebc0000-0xfebdffff'),
    });
    expect(lines[0]).toBe(`request: no MMIO resource at ${address.toString(16)}`);
  });
});

describe('Inhibitors', () => {
  it('enumerate, release twice, and refuse unknown ids', () => {
    const inhibitors = new Inhibitors();
    expect([-1, 0, 1].map((id) => inhibitors.next(id))).toEqual([
      { id: 0, name: 'suspend' },
      { id: 1, name: 'shutdown' },
      { id: 2, name: 'wakeup' },
    ]);
    expect(() => inhibitors.next(2)).toThrow(errno(19));
    inhibitors.acquire(1, 'busy');
    inhibitors.release(1);
    inhibitors.release(1);
    expect(() => inhibitors.acquire(3, 'x')).toThrow(errno(19));
  });
});
