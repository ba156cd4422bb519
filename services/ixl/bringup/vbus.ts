/**
 * Devices of a virtual bus: which there are, and which of them is a NIC (F5.3 step 1).
 *
 * Where the original goes on with a wrong device or ends with an exception (empty vbus, index past the
 * end), the errors here list what is on the bus.
 */
import { L4_ERRNO, L4Error } from '#common/ipc/errors';
import type { Client } from '#common/ipc/service';
import type { Vbus } from '../../../proto/gen/services.js';
import { PciDevice } from './pci.ts';

export type VbusClient = Client<typeof Vbus>;

/** Handle of the bus itself. */
export const ROOT = 0;
const START = -1;
const DEPTH = 100;
/** VbusDevice.type, bit 3. */
const INTERFACE_PCIDEV = 1 << 3;
const CLASS_ETHERNET = 0x0200;
/** A bus that never ends is no bus. */
const MAX_DEVICES = 4096;

interface Found {
  readonly handle: number;
  readonly name: string;
  /** Set for a PCI function. */
  readonly pci?: PciDevice;
  /** Class and subclass, e.g. 0x0200; 0 for other devices. */
  readonly classCode: number;
}

/** The `index`-th Ethernet controller of the bus. Throws L4Error ENODEV with what there is instead. */
export async function findNic(vbus: VbusClient, index: number): Promise<PciDevice> {
  if (!Number.isInteger(index) || index < 0) {
    throw new L4Error('EINVAL', `Cannot find NIC as the index must be 0 or more: current value is ${index}`);
  }
  const devices = await listDevices(vbus);
  const nics = devices.filter(isNic);
  const nic = nics[index]?.pci;
  if (nic) return nic;
  const there = await describeAll(vbus, devices);
  if (nics.length === 0) {
    throw new L4Error(
      'ENODEV',
      `Cannot find NIC ${index} as the vbus has no Ethernet controller (PCI class 0200): it has ${there}. ` +
        'Check what the .vbus file wraps for this bus (match "PCI/CC_0200"), and that the machine has a NIC.',
      { code: 'IXL_NO_NIC' },
    );
  }
  throw new L4Error(
    'ENODEV',
    `Cannot find NIC ${index} as the index must be 0..${nics.length - 1}: the vbus has ${there}`,
    { code: 'IXL_NO_SUCH_INDEX' },
  );
}

/** How many Ethernet controllers the bus has. */
export async function numberOfNics(vbus: VbusClient): Promise<number> {
  return (await listDevices(vbus)).filter(isNic).length;
}

function isNic({ classCode }: Found): boolean {
  return classCode === CLASS_ETHERNET;
}

async function listDevices(vbus: VbusClient): Promise<Found[]> {
  const found: Found[] = [];
  let current = START;
  while (found.length < MAX_DEVICES) {
    const device = await nextDevice(vbus, current);
    if (!device) return found;
    current = device.handle;
    const isPci = (device.type & INTERFACE_PCIDEV) !== 0;
    const pci = isPci ? new PciDevice(vbus, device.handle, device.name, device.numResources) : undefined;
    const classCode = pci ? (await pci.read(8, 32)) >>> 16 : 0;
    found.push({ handle: device.handle, name: device.name, classCode, ...(pci && { pci }) });
  }
  throw new L4Error('ERANGE', `Cannot list vbus as it must have at most ${MAX_DEVICES} devices`);
}

async function nextDevice(vbus: VbusClient, current: number) {
  try {
    return await vbus.getNext({ handle: ROOT, current, depth: DEPTH });
  } catch (err) {
    if (err instanceof L4Error && err.errno === L4_ERRNO.ENODEV) return undefined;
    throw err;
  }
}

async function describeAll(vbus: VbusClient, devices: readonly Found[]): Promise<string> {
  if (devices.length === 0) return 'no device at all';
  const texts = await Promise.all(devices.map((device) => describe(vbus, device)));
  return texts.join(', ');
}

async function describe(vbus: VbusClient, { handle, name, pci, classCode }: Found): Promise<string> {
  if (pci) return `"${name}" (PCI ${await pci.idText()}, class ${hex4(classCode)})`;
  const hid = await vbus.getHid({ handle }).then(
    (reply) => reply.value,
    () => '',
  );
  return hid ? `"${name}" (${hid})` : `"${name}"`;
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
