/**
 * The operations of the vbus protocol (libvbus) as plain functions over a finalised bus.
 *
 * Unknown handle: ENODEV; an operation of an interface that the device has not: ENOSYS.
 */
import { L4Error } from '#common/ipc/errors';
import type { Log } from '../log.ts';
import { type CfgWidth, type PciAccess, requesterOf } from '../pci/function.ts';
import {
  FLAG_DISABLED,
  IRQ_LEVEL,
  IRQ_NEGATIVE,
  RESOURCE,
  type Resource,
  vbusFlags,
} from '../tree/resource.ts';
import {
  DummyPciDevice,
  IF_BUS,
  IF_ICU,
  IF_PCI_DEVICE,
  IF_PM,
  PciBridge,
  PciBus,
  PciContainer,
  ProxyDevice,
  type SystemBus,
  type VirtualDevice,
} from '../tree/vi.ts';
import {
  bridgeConfigSpace,
  type ConfigSpace,
  dummyConfigSpace,
  laneMask,
  ProxyConfigSpace,
} from './config_space.ts';
import { INHIBITOR_SUSPEND, type Inhibitors } from './inhibitor.ts';

/** Message VbusDevice. */
export interface DeviceRecord {
  handle: number;
  type: number;
  name: string;
  numResources: number;
  flags: number;
}

/** Message VbusResource. */
export interface ResourceRecord {
  type: number;
  flags: number;
  start: number;
  end: number;
  provider: number;
  id: number;
}

/** Message VbusIrqEnableReply. */
export interface IrqRecord {
  /** -1: there is no such function. */
  irq: number;
  trigger: number;
  polarity: number;
}

/** The machine's DMA remapping (service Iommu). */
export interface DmaAccess<Space> {
  assign(requester: number, space: Space, bind: boolean): Promise<void>;
}

const HANDLE_NULL = -1;
const DEVICE_HAS_CHILDREN = 0x10;
const MAX_NAME = 63;
const DMA_BIND = 1;
const DMA_KERNEL_SPACE = 2;
const WHOLE_BUS = 0xffffffff;

/** @typeParam Space what names a DMA space (a capability) */
export class VbusOperations<Space> {
  readonly #bus: SystemBus;
  readonly #access: PciAccess;
  readonly #dma: DmaAccess<Space>;
  readonly #inhibitors: Inhibitors;
  readonly #log: Log;
  readonly #spaces = new Map<VirtualDevice, ConfigSpace>();

  constructor(bus: SystemBus, access: PciAccess, dma: DmaAccess<Space>, inhibitors: Inhibitors, log: Log) {
    this.#bus = bus;
    this.#access = access;
    this.#dma = dma;
    this.#inhibitors = inhibitors;
    this.#log = log;
  }

  getDevice(handle: number): DeviceRecord {
    return this.#record(this.#device(handle));
  }

  /** @throws L4Error ENODEV at the end, EINVAL when `current` is not below `handle` */
  getNext(handle: number, current: number, depth: number): DeviceRecord {
    const [next] = this.#behind(handle, current, depth);
    if (next !== undefined) return this.#record(next);
    throw new L4Error('ENODEV', `No device behind handle ${current} on vbus '${this.#bus.name}'`, {
      code: 'VBUS_END',
    });
  }

  /** @throws L4Error ENOENT, EINVAL for an empty id */
  getByHid(handle: number, current: number, depth: number, hid: string): DeviceRecord {
    const candidates = this.#behind(handle, current, depth);
    if (hid === '') throw new L4Error('EINVAL', 'Cannot look for a device by HID as the HID is empty');
    const found = candidates.find((device) => device.hid === hid);
    if (found !== undefined) return this.#record(found);
    throw new L4Error(
      'ENOENT',
      `No device with HID "${hid}" behind handle ${current} on vbus '${this.#bus.name}'`,
    );
  }

  /** Empty when the device has none. */
  getHid(handle: number): string {
    return this.#device(handle).hid ?? '';
  }

  /** @throws L4Error ENOSYS when the device has none */
  getAdr(handle: number): number {
    const { adr } = this.#device(handle);
    if (adr === undefined)
      throw new L4Error('ENOSYS', `Device ${handle} of vbus '${this.#bus.name}' has no bus address`);
    return adr;
  }

  isCompatible(handle: number, id: string): boolean {
    return this.#device(handle).matches(id);
  }

  /** @throws L4Error ENOENT behind the last */
  getResource(handle: number, index: number): ResourceRecord {
    const resources = usable(this.#device(handle));
    const found = resources[index];
    if (found === undefined) {
      throw new L4Error(
        'ENOENT',
        `Device ${handle} of vbus '${this.#bus.name}' has ${resources.length} resources: no number ${index}`,
      );
    }
    const { type, start, end, id } = found;
    return { type, flags: vbusFlags(found), start, end, provider: handle, id };
  }

  /** @throws L4Error ENOSYS unless `handle` is the virtual interrupt controller */
  checkIcu(handle: number): void {
    this.#device(handle, IF_ICU);
  }

  /** PCIDEV: the device itself. PCI (host bridge): the function at `bus` and `devfn`, all ones if none. */
  async cfgRead(handle: number, offset: number, width: number, bus: number, devfn: number): Promise<number> {
    const bits = checkWidth(width);
    const device = this.#function(handle, bus, devfn);
    return device === undefined ? laneMask(0, bits) : this.#space(device).read(offset, bits);
  }

  /** A write to a function that is not there is ignored. */
  async cfgWrite(
    handle: number,
    offset: number,
    width: number,
    value: number,
    bus: number,
    devfn: number,
  ): Promise<void> {
    const bits = checkWidth(width);
    const device = this.#function(handle, bus, devfn);
    if (device !== undefined) await this.#space(device).write(offset, bits, value);
  }

  /** @throws L4Error EINVAL when the device has no interrupt */
  irqEnable(handle: number, bus: number, devfn: number): IrqRecord {
    const device = this.#function(handle, bus, devfn);
    if (device === undefined) return { irq: -1, trigger: 0, polarity: 0 };
    const irq = usable(device).find(({ type }) => type === RESOURCE.IRQ);
    if (irq === undefined) {
      throw new L4Error(
        'EINVAL',
        `Cannot enable the interrupt of device ${handle} of vbus '${this.#bus.name}' as it has none`,
      );
    }
    const mode = vbusFlags(irq);
    return { irq: irq.start, trigger: mode & IRQ_LEVEL ? 0 : 1, polarity: mode & IRQ_NEGATIVE ? 1 : 0 };
  }

  pmSuspend(handle: number): void {
    this.#device(handle, IF_PM);
    this.#inhibitors.release(INHIBITOR_SUSPEND);
  }

  pmResume(handle: number): void {
    this.#device(handle, IF_PM);
    this.#inhibitors.acquire(INHIBITOR_SUSPEND, 'vbus active');
  }

  /** Ports need no mapping on this machine: asking for those of the bus succeeds. @throws L4Error ENOENT */
  requestResource(handle: number, wanted: { type: number; start: number; end: number } | undefined): void {
    this.#device(handle, IF_BUS);
    if (wanted === undefined || wanted.end < wanted.start) {
      throw new L4Error('EINVAL', 'Cannot request a resource as its end is before its start');
    }
    const inside = ({ type, start, end }: Resource): boolean =>
      type === wanted.type && wanted.start >= start && wanted.end <= end;
    if (wanted.type === RESOURCE.PORT && this.#bus.allResources.some(inside)) return;
    throw new L4Error(
      'ENOENT',
      `Cannot request a resource of type ${wanted.type} as only port ranges of the bus can be requested`,
    );
  }

  /** @throws L4Error ENOSYS, as in the original */
  releaseResource(handle: number): void {
    this.#device(handle, IF_BUS);
    throw new L4Error('ENOSYS', 'Resources cannot be released: they end with the vbus');
  }

  /**
   * Binds a DMA space to a DMA domain of the bus. The machine keeps the binding and ends it with the space.
   * @param domain start of a DMA_DOMAIN resource
   * @param flags BIND 1, KERNEL_DMA_SPACE 2
   * @throws L4Error ENOENT (no such domain), EINVAL (no space), EBUSY (bound already)
   */
  async assignDmaDomain(
    handle: number,
    domain: number,
    flags: number,
    space: Space | undefined,
  ): Promise<void> {
    this.#device(handle, IF_BUS);
    const name = `DMA domain 0x${domain.toString(16)} of vbus '${this.#bus.name}'`;
    if (space === undefined) throw new L4Error('EINVAL', `Cannot assign ${name} as no DMA space was given`);
    if (domain === WHOLE_BUS) {
      throw new L4Error(
        'ENOENT',
        `Cannot assign a DMA space to all of vbus '${this.#bus.name}' as it has no global DMA domain: assign the domain of each device`,
      );
    }
    const device = this.#bus.proxies.find((proxy) =>
      proxy.resources.some(({ type, start }) => type === RESOURCE.DMA_DOMAIN && start === domain),
    );
    if (device?.pci === undefined)
      throw new L4Error('ENOENT', `Cannot assign ${name} as no device of the bus has it`);
    if ((flags & DMA_KERNEL_SPACE) !== 0) {
      throw new L4Error(
        'EINVAL',
        `Cannot assign a kernel DMA space to ${name} as this machine has none: create one through L4.Proto.Dma_space`,
      );
    }
    await this.#dma.assign(requesterOf(device.pci.address), space, (flags & DMA_BIND) !== 0);
  }

  #device(handle: number, needed = 0): VirtualDevice {
    const device = this.#bus.deviceOf(handle);
    if (device === undefined) {
      throw new L4Error('ENODEV', `vbus '${this.#bus.name}' has no device with handle ${handle}`);
    }
    if ((device.interfaces & needed) === needed) return device;
    throw new L4Error(
      'ENOSYS',
      `Device ${handle} (${device.describe()}) of vbus '${this.#bus.name}' does not have this operation`,
    );
  }

  /** The function that a PCI operation means; undefined when the host bridge has none there. */
  #function(handle: number, bus: number, devfn: number): VirtualDevice | undefined {
    const device = this.#device(handle);
    if (device instanceof PciBus) return device.functionAt(bus, devfn);
    return this.#device(handle, IF_PCI_DEVICE);
  }

  #space(device: VirtualDevice): ConfigSpace {
    let space = this.#spaces.get(device);
    if (space === undefined) {
      space = this.#createSpace(device);
      this.#spaces.set(device, space);
    }
    return space;
  }

  #createSpace(device: VirtualDevice): ConfigSpace {
    if (device instanceof ProxyDevice && device.pci !== undefined) {
      return new ProxyConfigSpace(device.pci, this.#access, this.#log);
    }
    if (device instanceof PciBridge) {
      const primary = device.parent instanceof PciContainer ? device.parent.busNumber : 0;
      const below = [...device.walk()].map((node) => (node instanceof PciContainer ? node.busNumber : 0));
      return bridgeConfigSpace(primary, device.busNumber, Math.max(...below));
    }
    if (device instanceof DummyPciDevice) return dummyConfigSpace();
    throw new L4Error('ENOSYS', `${device.describe()} has no PCI configuration space`);
  }

  /** Everything behind `current` in pre-order, at most `depth` levels below `handle`. */
  #behind(handle: number, current: number, depth: number): VirtualDevice[] {
    const parent = this.#device(handle);
    const below = ([...parent.walk(depth)] as VirtualDevice[]).slice(1);
    if (current === HANDLE_NULL || current === handle) return below;
    const at = below.findIndex((device) => device.handle === current);
    if (at >= 0) return below.slice(at + 1);
    throw new L4Error(
      'EINVAL',
      `Cannot go on behind handle ${current} as it is not below handle ${handle} of vbus '${this.#bus.name}'`,
    );
  }

  /** The name is told only for devices that have a HID and for those that stand for hardware. */
  #record(device: VirtualDevice): DeviceRecord {
    const named = device.hid !== undefined || device instanceof ProxyDevice;
    return {
      handle: device.handle,
      type: device.interfaces,
      name: named ? device.name.slice(0, MAX_NAME) : '',
      numResources: usable(device).length,
      flags: device.children.length > 0 ? DEVICE_HAS_CHILDREN : 0,
    };
  }
}

function usable(device: VirtualDevice): Resource[] {
  return device.resources.filter(({ flags }) => (flags & FLAG_DISABLED) === 0);
}

function checkWidth(width: number): CfgWidth {
  if (width === 8 || width === 16 || width === 32) return width;
  throw new L4Error(
    'EINVAL',
    `Cannot access configuration space as the width must be 8, 16 or 32 bits: current value is ${width}`,
  );
}
