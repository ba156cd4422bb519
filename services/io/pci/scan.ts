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

/** A function and what is behind it (bridges). */
export interface FoundFunction {
  readonly pci: PciFunction;
  readonly behind: FoundFunction[];
}

/**
 * Scans one bus and everything behind its bridges.
 * @param seen numbers of the buses already scanned: a bridge that leads back to one of them is not followed
 */
export async function scanPci(
  access: PciAccess,
  log: Log,
  bus = 0,
  seen = new Set<number>(),
): Promise<FoundFunction[]> {
  seen.add(bus);
  const found: FoundFunction[] = [];
  const slots = Array.from({ length: 32 }, (_, device) => ({ segment: 0, bus, device, function: 0 }));
  // Asked all at once: most slots are empty, and each answer takes a round trip to the machine.
  const present = await Promise.all(slots.map((slot) => access.read(slot, PCI.VENDOR_ID, 16)));
  for (const slot of slots.filter((_, device) => isVendor(present[device]))) {
    let functions = 1;
    for (let fn = 0; fn < functions; fn++) {
      const pci = await readFunction(access, { ...slot, function: fn });
      if (pci === undefined) continue;
      if (fn === 0 && (pci.headerType & HEADER_MULTI_FUNCTION) !== 0) functions = 8;
      found.push({ pci, behind: await scanBehind(access, log, pci, seen) });
    }
  }
  return found;
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
  const ids = await access.read(address, PCI.VENDOR_ID, 32);
  const vendor = ids & 0xffff;
  if (!isVendor(vendor)) return undefined;
  const classRevision = await access.read(address, PCI.REVISION & ~3, 32);
  const headerType = await access.read(address, PCI.HEADER_TYPE, 8);
  const header = headerType & 0x7f;
  const subsystemOffset = SUBSYSTEM_BY_HEADER[header];
  const { bars, rom } = await sizeBars(access, address, header);
  const pin = await access.read(address, PCI.INTERRUPT_PIN, 8);
  const route = pin >= 1 && pin <= 4 ? await access.route(address, pin - 1) : undefined;
  const capabilities = await readCapabilities(access, address);
  return {
    address,
    vendor,
    device: ids >>> 16,
    classCode: classRevision >>> 8,
    revision: classRevision & 0xff,
    subsystem: subsystemOffset === undefined ? 0 : await access.read(address, subsystemOffset, 32),
    headerType,
    bars,
    rom,
    route,
    capabilities,
    extendedCapabilities: await readExtendedCapabilities(access, address, capabilities),
    resources: resourcesOf(address, rom === undefined ? bars : [...bars, rom], route),
  };
}

/** No function answers with all ones; 0 is no vendor either. */
function isVendor(vendor: number | undefined): boolean {
  return vendor !== undefined && vendor !== 0xffff && vendor !== 0;
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
