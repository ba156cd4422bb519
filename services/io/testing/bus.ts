/** A vbus of PCI functions on a fake machine, for tests of the vbus protocol. */
import { scanPci } from '../pci/scan.ts';
import { createHardwareTree, type HwDevice, pciDevices } from '../tree/hw.ts';
import { PciBus, ProxyDevice, SystemBus } from '../tree/vi.ts';
import { type FakeFunction, FakePci, recordingLog } from './fake_machine.ts';

export interface TestBus {
  readonly bus: SystemBus;
  readonly pci: FakePci;
  readonly hardware: HwDevice;
  readonly lines: string[];
  readonly log: ReturnType<typeof recordingLog>['log'];
}

/** Handles: 0 the bus, 1 L4ICU, 2 PCI0, 3... the functions in scan order. */
export async function testBus(
  functions: readonly FakeFunction[],
  numMsis = 0,
  name = 'ethdevs',
): Promise<TestBus> {
  const { log, lines } = recordingLog(6);
  const pci = new FakePci(functions);
  const hardware = createHardwareTree(await scanPci(pci, log), log);
  const bus = busOver(hardware, numMsis, name);
  pci.writes.length = 0;
  return { bus, pci, hardware, lines, log };
}

/** A further bus with all functions of the same machine. */
export function busOver(hardware: HwDevice, numMsis: number, name: string): SystemBus {
  const bus = new SystemBus();
  bus.name = name;
  bus.properties.set('num_msis', -1, numMsis);
  const host = new PciBus(false);
  host.name = 'PCI0';
  bus.addChild(host);
  for (const device of pciDevices(hardware)) host.addChild(new ProxyDevice(device));
  bus.finalise();
  return bus;
}
