/**
 * Virtual devices: what a configuration file puts on a vbus and a client sees there.
 *
 *   SystemBus            the vbus itself, handle 0
 *     VirtualIcuDevice   L4ICU, always the first child
 *     PciBus             PNP0A03, takes PCI devices only
 *       ProxyDevice      stands for a hardware device
 *     ProxyDevice        (a non-PCI one)
 */
import { CLASS_NETWORK } from '#common/nic/pci';
import { formatIdentity, type PciFunction } from '../pci/function.ts';
import { Device } from './device.ts';
import { globMatches } from './glob.ts';
import type { HwDevice } from './hw.ts';
import { FLAG_DISABLED, RESOURCE, type Resource, resource } from './resource.ts';

/** Interfaces of a device: bits of its type word on the vbus. */
export const IF_ICU = 1 << 0;
export const IF_PCI_HOST = 1 << 2;
export const IF_PCI_DEVICE = 1 << 3;
export const IF_PM = 1 << 4;
export const IF_BUS = 1 << 5;

/** Virtual MSIs of one bus at most; the machine's own limit is asked when they are bound. */
const MAX_MSIS = 0xffff;

export abstract class VirtualDevice extends Device {
  /** Number by which clients name the device; given by `SystemBus.finalise`. */
  handle = -1;
  readonly interfaces: number = 0;
  readonly #resources: Resource[] = [];

  override get hid(): string | undefined {
    return undefined;
  }

  /** Its place on a virtual PCI bus. */
  override get adr(): number | undefined {
    return this.parent instanceof PciContainer ? this.parent.placeOf(this) : undefined;
  }

  override get resources(): readonly Resource[] {
    return this.#resources;
  }

  override addResource(resource: Resource): void {
    this.#resources.push(resource);
  }

  /** True for what a PCI bus takes. */
  get isPci(): boolean {
    return false;
  }

  override matches(id: string): boolean {
    return (this.hid !== undefined && globMatches(id, this.hid)) || this.compatible.includes(id);
  }
}

export class VirtualIcuDevice extends VirtualDevice {
  override readonly interfaces = IF_ICU;

  constructor() {
    super();
    this.name = 'L4ICU';
  }

  override get hid(): string {
    return 'L40009';
  }

  override describe(): string {
    return 'L4ICU';
  }
}

export class SystemBus extends VirtualDevice {
  override readonly interfaces = IF_BUS | IF_PM;
  #byHandle: readonly VirtualDevice[] = [];
  /** Searches that found nothing for this bus, for the message about an empty bus. */
  readonly emptySearches: string[] = [];

  constructor() {
    super();
    this.properties.integer('num_msis', 0, 0, MAX_MSIS);
    this.addChild(new VirtualIcuDevice());
  }

  get numMsis(): number {
    return this.properties.number('num_msis') ?? 0;
  }

  override describe(): string {
    return `vbus '${this.name}'`;
  }

  /** The devices of the bus that stand for hardware. */
  get proxies(): ProxyDevice[] {
    return [...this.walk()].filter((device): device is ProxyDevice => device instanceof ProxyDevice);
  }

  /** Gives handles in pre-order (0 is the bus) and numbers to the PCI buses. Nothing may be added afterwards. */
  finalise(): void {
    this.#byHandle = [...this.walk()].filter(
      (device): device is VirtualDevice => device instanceof VirtualDevice,
    );
    for (const [handle, device] of this.#byHandle.entries()) {
      device.handle = handle;
      if (device instanceof PciBus) device.numberBuses();
    }
  }

  deviceOf(handle: number): VirtualDevice | undefined {
    return this.#byHandle[handle];
  }

  /** All resources of the devices on the bus that are in use. */
  get allResources(): Resource[] {
    return this.#byHandle.flatMap((device) =>
      device.resources.filter((r) => (r.flags & FLAG_DISABLED) === 0),
    );
  }
}

/** A device that stands for a hardware device. */
export class ProxyDevice extends VirtualDevice {
  readonly hardware: HwDevice;
  override readonly interfaces: number;

  constructor(hardware: HwDevice) {
    super();
    this.hardware = hardware;
    this.name = hardware.name;
    this.interfaces = hardware.pci === undefined ? 0 : IF_PCI_DEVICE;
  }

  get pci(): PciFunction | undefined {
    return this.hardware.pci;
  }

  override get isPci(): boolean {
    return this.pci !== undefined;
  }

  /** True for a network controller. */
  get isNic(): boolean {
    return this.pci !== undefined && this.pci.classCode >>> 16 === CLASS_NETWORK;
  }

  override get hid(): string | undefined {
    return this.hardware.hid;
  }

  override get adr(): number | undefined {
    return super.adr ?? this.hardware.adr;
  }

  override get resources(): readonly Resource[] {
    return [...this.hardware.resources, ...super.resources];
  }

  override matches(id: string): boolean {
    return this.hardware.matches(id) || this.compatible.includes(id);
  }

  override describe(): string {
    return this.hardware.describe();
  }

  /** The bus at the root, once the device is part of one. */
  get bus(): SystemBus | undefined {
    let node: Device = this;
    while (node.parent !== undefined) node = node.parent;
    return node instanceof SystemBus ? node : undefined;
  }

  /** "00:03.0 8086:100e class 0200", or the name of a device that is not PCI. */
  get identity(): string {
    return this.pci === undefined ? `'${this.hardware.name}'` : formatIdentity(this.pci);
  }
}

/** Something with 32 PCI slots of 8 functions. */
export abstract class PciContainer extends VirtualDevice {
  /** Physical device numbers are kept (PCI_bus_ident). */
  readonly ident: boolean = false;
  busNumber = 0;
  readonly #slots: VirtualDevice[][] = [];

  override refuses(child: Device): string | undefined {
    const reason = super.refuses(child);
    if (reason !== undefined || !(child instanceof VirtualDevice)) return reason;
    if (this.#findPlace(child) !== undefined) return undefined;
    const where = this.ident
      ? 'its place on the physical bus is taken here'
      : 'all places of its slot or all 32 slots are taken';
    return `Cannot add ${child.describe()} to PCI bus '${this.name}' as ${where}`;
  }

  override addChild(child: Device): void {
    super.addChild(child);
    const place = child instanceof VirtualDevice ? this.#findPlace(child) : undefined;
    if (place === undefined) return;
    const [slot, fn] = place;
    const functions = this.#slots[slot] ?? [];
    functions[fn] = child as VirtualDevice;
    this.#slots[slot] = functions;
  }

  /** Device << 16 | function of a child. */
  placeOf(child: VirtualDevice): number | undefined {
    for (const [slot, functions] of this.#slots.entries()) {
      const fn = functions?.indexOf(child) ?? -1;
      if (fn >= 0) return (slot << 16) | fn;
    }
    return undefined;
  }

  /** The child at device << 16 | function. */
  childAt(devfn: number): VirtualDevice | undefined {
    return this.#slots[devfn >>> 16]?.[devfn & 0xffff];
  }

  #findPlace(child: VirtualDevice): [slot: number, fn: number] | undefined {
    const pci = child instanceof ProxyDevice ? child.pci : undefined;
    if (this.ident && pci !== undefined) {
      const { device, function: fn } = pci.address;
      return this.#slots[device]?.[fn] === undefined ? [device, fn] : undefined;
    }
    for (let slot = 0; slot < 32; slot++) {
      const functions = this.#slots[slot] ?? [];
      if (functions.length === 0) return [slot, 0];
      const shared = pci !== undefined && functions.some((other) => isSamePhysicalDevice(other, pci));
      if (shared) return functions.length < 8 ? [slot, functions.length] : undefined;
    }
    return undefined;
  }
}

function isSamePhysicalDevice(other: VirtualDevice, pci: PciFunction): boolean {
  const address = other instanceof ProxyDevice ? other.pci?.address : undefined;
  return address !== undefined && address.bus === pci.address.bus && address.device === pci.address.device;
}

/** A virtual PCI root bus. */
export class PciBus extends PciContainer {
  override readonly interfaces = IF_PCI_HOST;
  override readonly ident: boolean;

  constructor(ident: boolean) {
    super();
    this.ident = ident;
    this.addResource(resource(RESOURCE.BUS, 'BUS', 0, 100, 0));
  }

  override get hid(): string {
    return 'PNP0A03';
  }

  override describe(): string {
    return `${this.ident ? 'PCI_bus_ident' : 'PCI_bus'} '${this.name}'`;
  }

  /** Bus numbers: 0 for this one, 1.. in pre-order for the bridges below. */
  numberBuses(): void {
    const containers = [...this.walk()].filter(
      (device): device is PciContainer => device instanceof PciContainer,
    );
    for (const [number, container] of containers.entries()) container.busNumber = number;
  }

  /** The function at a bus number and device << 16 | function. */
  functionAt(bus: number, devfn: number): VirtualDevice | undefined {
    for (const device of this.walk()) {
      if (device instanceof PciContainer && device.busNumber === bus) return device.childAt(devfn);
    }
    return undefined;
  }
}

/** A virtual PCI-to-PCI bridge. */
export class PciBridge extends PciContainer {
  override readonly interfaces = IF_PCI_DEVICE;

  override get isPci(): boolean {
    return true;
  }

  override describe(): string {
    return `PCI_PCI_bridge '${this.name}'`;
  }
}

/** A PCI function that is there and does nothing: keeps slot 0 occupied for clients that insist on it. */
export class DummyPciDevice extends VirtualDevice {
  override readonly interfaces = IF_PCI_DEVICE;

  override get isPci(): boolean {
    return true;
  }

  override describe(): string {
    return `PCI_dummy_device '${this.name}'`;
  }
}

/** The virtual device types of `Io.Vi`. */
export const VI_TYPES: Readonly<Record<string, () => VirtualDevice>> = {
  System_bus: () => new SystemBus(),
  PCI_bus: () => new PciBus(false),
  PCI_bus_ident: () => new PciBus(true),
  PCI_PCI_bridge: () => new PciBridge(),
  PCI_dummy_device: () => new DummyPciDevice(),
};
