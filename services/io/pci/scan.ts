/**
 * Finds the functions of the machine: bus 0 of segment 0 and every bus behind a bridge.
 */
import { HEADER_MULTI_FUNCTION, PCI } from '#common/nic/pci';
import type { Log } from '../log.ts';
import {
  FLAG_64BIT,
  FLAG_DISABLED,
  IRQ_FALLING,
  IRQ_LEVEL_HIGH,
  IRQ_LEVEL_LOW,
  IRQ_RISING,
  MEM_PREFETCHABLE,
  MEM_R,
  MEM_W,
  RESOURCE,
  type Resource,
  resource,
} from '../tree/resource.ts';
import { sizeBars } from './bars.ts';
import { readCapabilities, readExtendedCapabilities } from './capabilities.ts';
import {
  type Bar,
  formatAddress,
  type PciAccess,
  type PciAddress,
  type PciFunction,
  type PciRoute,
  requesterOf,
} from './function.ts';

const SUBSYSTEM_BY_HEADER = [PCI.SUBSYSTEM_VENDOR, undefined, 0x40];
const SECONDARY_BUS = 0x19;
const PCI_BRIDGE = 0x0604;
const HEADER_BYTES = 64;

/** A function and what is behind it (bridges). */
export interface FoundFunction {
  readonly pci: PciFunction;
  readonly behind: FoundFunction[];
}

/**
 * Scans one bus and everything behind its bridges. What does not depend on each other is asked at once: most
 * places are empty, and each answer takes a round trip to the machine.
 * @param seen numbers of the buses already scanned: a bridge that leads back to one of them is not followed
 */
export async function scanPci(
  access: PciAccess,
  log: Log,
  bus = 0,
  seen = new Set<number>(),
): Promise<FoundFunction[]> {
  seen.add(bus);
  const slots = Array.from({ length: 32 }, (_, device) => ({ segment: 0, bus, device, function: 0 }));
  const devices = await Promise.all(slots.map((slot) => readDevice(access, slot)));
  const found: FoundFunction[] = [];
  for (const pci of devices.flat()) found.push({ pci, behind: await scanBehind(access, log, pci, seen) });
  return found;
}

/** The functions of one slot. */
async function readDevice(access: PciAccess, slot: PciAddress): Promise<PciFunction[]> {
  const first = await readFunction(access, slot);
  if (first === undefined) return [];
  if ((first.headerType & HEADER_MULTI_FUNCTION) === 0) return [first];
  const others = [1, 2, 3, 4, 5, 6, 7].map((fn) => readFunction(access, { ...slot, function: fn }));
  return [first, ...(await Promise.all(others)).filter((pci) => pci !== undefined)];
}

async function scanBehind(
  access: PciAccess,
  log: Log,
  pci: PciFunction,
  seen: Set<number>,
): Promise<FoundFunction[]> {
  if (pci.classCode >>> 8 !== PCI_BRIDGE || (pci.headerType & 0x7f) !== 1) return [];
  const secondary = await access.read(pci.address, SECONDARY_BUS, 8);
  if (seen.has(secondary)) {
    log.error(
      `error: PCI bridge ${formatAddress(pci.address)} leads to bus ${secondary}, which was scanned already: ignored`,
    );
    return [];
  }
  return scanPci(access, log, secondary, seen);
}

async function readFunction(access: PciAccess, address: PciAddress): Promise<PciFunction | undefined> {
  if (!isVendor(await access.read(address, PCI.VENDOR_ID, 16))) return undefined;
  const header = await readHeader(access, address);
  const classRevision = header.getUint32(PCI.REVISION & ~3, true);
  const headerType = header.getUint8(PCI.HEADER_TYPE);
  const subsystemOffset = SUBSYSTEM_BY_HEADER[headerType & 0x7f];
  const pin = header.getUint8(PCI.INTERRUPT_PIN);
  const [{ bars, rom }, route, capabilities, subsystem] = await Promise.all([
    sizeBars(access, address, header),
    pin >= 1 && pin <= 4 ? access.route(address, pin - 1) : undefined,
    readCapabilities(access, address, header),
    subsystemOffset === undefined ? 0 : readSubsystem(access, address, header, subsystemOffset),
  ]);
  return {
    address,
    vendor: header.getUint16(PCI.VENDOR_ID, true),
    device: header.getUint16(PCI.DEVICE_ID, true),
    classCode: classRevision >>> 8,
    revision: classRevision & 0xff,
    subsystem,
    headerType,
    bars,
    rom,
    route,
    capabilities,
    extendedCapabilities: await readExtendedCapabilities(access, address, capabilities),
    resources: resourcesOf(address, rom === undefined ? bars : [...bars, rom], route),
  };
}

function readSubsystem(
  access: PciAccess,
  address: PciAddress,
  header: DataView,
  offset: number,
): number | Promise<number> {
  return offset < HEADER_BYTES ? header.getUint32(offset, true) : access.read(address, offset, 32);
}

/** The first 64 bytes of configuration space. */
async function readHeader(access: PciAccess, address: PciAddress): Promise<DataView> {
  const offsets = Array.from({ length: HEADER_BYTES / 4 }, (_, n) => 4 * n);
  const words = await Promise.all(offsets.map((offset) => access.read(address, offset, 32)));
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  for (const [n, word] of words.entries()) header.setUint32(4 * n, word, true);
  return header;
}

/** No function answers with all ones; 0 is no vendor either. */
function isVendor(vendor: number): boolean {
  return vendor !== 0xffff && vendor !== 0;
}

/** BAR0..BAR5, ROM, PIN and DMAD, as a vbus lists them. */
function resourcesOf(address: PciAddress, bars: readonly Bar[], route: PciRoute | undefined): Resource[] {
  const domain = requesterOf(address);
  const found = bars.map(barResource);
  if (route !== undefined) {
    found.push(resource(RESOURCE.IRQ, 'PIN', route.irq, route.irq, irqMode(route)));
  }
  found.push(resource(RESOURCE.DMA_DOMAIN, 'DMAD', domain, domain, 0));
  return found;
}

function barResource(bar: Bar): Resource {
  const id = bar.kind === 'rom' ? 'ROM' : `BAR${bar.index}`;
  // Without an address there is nothing to hand out; the ROM is off until its enable bit is set.
  const low = (bar.is64bit ? FLAG_64BIT : 0) + (bar.base === 0 ? FLAG_DISABLED : 0);
  const end = bar.base + bar.size - 1;
  if (bar.kind === 'port') return resource(RESOURCE.PORT, id, bar.base, end, 0, low);
  const rights = bar.kind === 'rom' ? MEM_R : MEM_R | MEM_W;
  return resource(RESOURCE.MEM, id, bar.base, end, rights | (bar.prefetchable ? MEM_PREFETCHABLE : 0), low);
}

/** L4 irq mode bits of a routed pin. */
function irqMode(route: PciRoute): number {
  if (route.trigger === 0) return route.polarity === 0 ? IRQ_LEVEL_HIGH : IRQ_LEVEL_LOW;
  return route.polarity === 0 ? IRQ_RISING : IRQ_FALLING;
}
