import { describe, expect, it } from 'vitest';
import {
  E1000,
  type FakeFunction,
  FakePci,
  HOST_BRIDGE,
  I350,
  recordingLog,
} from '../testing/fake_machine.ts';
import { describeResource, vbusFlags } from '../tree/resource.ts';
import { formatIdentity } from './function.ts';
import { type FoundFunction, scanPci } from './scan.ts';

async function scan(
  functions: readonly FakeFunction[],
): Promise<{ pci: FakePci; found: FoundFunction[]; lines: string[] }> {
  const pci = new FakePci(functions);
  const { log, lines } = recordingLog();
  return { pci, found: await scanPci(pci, log), lines };
}

describe('scanPci()', () => {
  it('finds functions, sizes their BARs and leaves the registers as they were', async () => {
    const { pci, found } = await scan([HOST_BRIDGE, E1000]);
    expect(found.map((one) => formatIdentity(one.pci))).toEqual([
      '00:00.0 8086:1237 class 0600',
      '00:03.0 8086:100e class 0200',
    ]);
    const nic = found[1]?.pci;
    expect(nic?.bars).toEqual([
      { index: 0, kind: 'memory', base: 0xfebc0000, size: 0x20000, is64bit: false, prefetchable: false },
      { index: 1, kind: 'port', base: 0xc000, size: 0x40, is64bit: false, prefetchable: false },
    ]);
    expect(nic?.resources.map((r) => `${describeResource(r)} ${vbusFlags(r)}`)).toEqual([
      'BAR0 MEM 0xfebc0000-0xfebdffff 3',
      'BAR1 PORT 0xc000-0xc03f 0',
      'ROM MEM 0xfeb80000-0xfebbffff 1',
      'PIN IRQ 11 7',
      'DMAD DMA domain 24 0',
    ]);
    const config = pci.configs.get(0x18);
    expect([0x04, 0x10, 0x14, 0x30].map((at) => config?.read(at, 32))).toEqual([
      2, 0xfebc0000, 0xc001, 0xfeb80000,
    ]);
  });

  it('switches decoding off while all ones stand in a BAR', async () => {
    const { pci } = await scan([E1000]);
    expect(pci.writes[0]).toBe('4/16=0');
    expect(pci.writes.at(-1)).toBe('4/16=2');
  });

  it('does not wait for the answer to one access before it makes the next', async () => {
    const pci = new FakePci([HOST_BRIDGE, E1000]);
    const { log } = recordingLog();
    // A machine that answers at the next turn of the event loop: turns count round trips.
    let turns = 0;
    let turning = false;
    const answer = async <T>(result: Promise<T>): Promise<T> => {
      if (!turning) setImmediate(() => ([turns, turning] = [turns + 1, false]));
      turning = true;
      await new Promise((resolve) => setImmediate(resolve));
      return result;
    };
    const found = await scanPci(
      {
        read: (...access) => answer(pci.read(...access)),
        write: (...access) => answer(pci.write(...access)),
        sequence: (...access) => answer(pci.sequence(...access)),
        route: (address) => answer(pci.route(address)),
      },
      log,
    );
    expect(found).toHaveLength(2);
    expect(turns).toBe(3);
  });

  it('finds all functions of a multi-function device, 64-bit BARs and both capability lists', async () => {
    const { found } = await scan([I350(0), I350(2)]);
    expect(found.map((one) => one.pci.address.function)).toEqual([0, 2]);
    const nic = found[0]?.pci;
    expect(nic?.bars[1]).toEqual({
      index: 3,
      kind: 'memory',
      base: 0x800000000,
      size: 0x4000,
      is64bit: true,
      prefetchable: true,
    });
    expect(nic?.capabilities.map(({ id }) => id)).toEqual([1, 5, 0x11, 0x10]);
    expect(nic?.extendedCapabilities).toEqual([
      { offset: 0x100, id: 1, version: 1 },
      { offset: 0x160, id: 0x10, version: 1 },
      { offset: 0x1a0, id: 0x0d, version: 1 },
    ]);
  });

  it('does not look at functions 1..7 of a single-function device', async () => {
    const { found } = await scan([E1000, { ...E1000, function: 1 }]);
    expect(found).toHaveLength(1);
  });

  it('sizes BARs of 4 GiB and more', async () => {
    const bars = [
      { index: 0, base: 0x1000000000, size: 0x100000000, flags: 4 },
      { index: 2, base: 0x2000000000, size: 0x800000000, flags: 0xc },
    ];
    const { found } = await scan([{ ...E1000, bars }]);
    expect(found[0]?.pci.bars.map(({ size }) => size)).toEqual([0x100000000, 0x800000000]);
  });

  it('marks a BAR without address as disabled', async () => {
    const { found } = await scan([{ ...E1000, bars: [{ index: 0, base: 0, size: 0x1000 }] }]);
    expect((found[0]?.pci.resources[0]?.flags ?? 0) & 0x100).toBe(0x100);
  });

  const bridge = (device: number, secondaryBus: number, bus = 0): FakeFunction => ({
    device,
    bus,
    ids: [0x8086, 0x244e],
    classCode: 0x060400,
    headerType: 1,
    secondaryBus,
  });

  it('follows bridges', async () => {
    const { found } = await scan([bridge(1, 1), { ...E1000, bus: 1 }]);
    expect(found[0]?.behind.map((one) => formatIdentity(one.pci))).toEqual(['01:03.0 8086:100e class 0200']);
  });

  it('does not follow a bridge in a circle', async () => {
    const { found, lines } = await scan([bridge(1, 1), bridge(2, 0, 1)]);
    expect(found[0]?.behind).toHaveLength(1);
    expect(lines).toEqual(['error: PCI bridge 01:02.0 leads to bus 0, which was scanned already: ignored']);
  });

  it('ends on capability lists that loop', async () => {
    const { found } = await scan([{ ...E1000, extra: { 64: 0x5001, 80: 0x4010, 256: 0x10010001 } }]);
    expect(found[0]?.pci.capabilities.map(({ offset }) => offset)).toEqual([0x40, 0x50]);
    expect(found[0]?.pci.extendedCapabilities).toHaveLength(1);
  });
});
