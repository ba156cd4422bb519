/**
 * The capability lists of a function. [PCI 3.0 §6.7], [PCIe 3.0 §7.9]
 *
 * The lists are foreign memory: both walks end after as many entries as fit, whatever the links say.
 */
import { CAP_PCI_EXPRESS, PCI, STATUS_CAPABILITIES } from '#common/nic/pci';
import type { PciAccess, PciAddress, PciCapability, PciExtendedCapability } from './function.ts';

const FIRST_OFFSET = 0x40;
const MAX_CAPABILITIES = (0x100 - FIRST_OFFSET) / 4;
const EXTENDED_START = 0x100;
const MAX_EXTENDED = (0x1000 - EXTENDED_START) / 8;

/**
 * The list that starts at 0x34, in list order.
 * @param start the function's first 64 bytes
 */
export async function readCapabilities(
  access: PciAccess,
  address: PciAddress,
  start: DataView,
): Promise<PciCapability[]> {
  if ((start.getUint16(PCI.STATUS, true) & STATUS_CAPABILITIES) === 0) return [];
  const found: PciCapability[] = [];
  let offset = start.getUint8(PCI.CAPABILITIES) & ~3;
  while (offset >= FIRST_OFFSET && found.length < MAX_CAPABILITIES) {
    if (found.some((capability) => capability.offset === offset)) break;
    const header = await access.read(address, offset, 16);
    if ((header & 0xff) === 0xff) break;
    found.push({ offset, id: header & 0xff });
    offset = (header >>> 8) & ~3;
  }
  return found;
}

/** The list that starts at 0x100; empty for a function that is not PCI Express. */
export async function readExtendedCapabilities(
  access: PciAccess,
  address: PciAddress,
  capabilities: readonly PciCapability[],
): Promise<PciExtendedCapability[]> {
  if (!capabilities.some(({ id }) => id === CAP_PCI_EXPRESS)) return [];
  const found: PciExtendedCapability[] = [];
  let offset = EXTENDED_START;
  while (offset >= EXTENDED_START && found.length < MAX_EXTENDED) {
    if (found.some((capability) => capability.offset === offset)) break;
    const header = await access.read(address, offset, 32);
    if (header === 0 || header === 0xffffffff) break;
    found.push({ offset, id: header & 0xffff, version: (header >>> 16) & 0xf });
    offset = (header >>> 20) & ~3;
  }
  return found;
}
