/**
 * One function of the machine's PCI bus as Io found it, and how Io reaches configuration space.
 */
import { formatRequester, requesterId } from '#common/nic/pci';
import type { Resource } from '../tree/resource.ts';

export interface PciAddress {
  readonly segment: number;
  readonly bus: number;
  /** 0..31 */
  readonly device: number;
  /** 0..7 */
  readonly function: number;
}

/** Width of a configuration access in bits. */
export type CfgWidth = 8 | 16 | 32;

/** Where an interrupt pin leads. */
export interface PciRoute {
  readonly irq: number;
  /** 0 level, 1 edge. */
  readonly trigger: number;
  /** 0 high, 1 low. */
  readonly polarity: number;
}

/** A step of a sequence; without `value` a read. */
export interface PciStep {
  readonly offset: number;
  readonly width: CfgWidth;
  readonly value?: number;
}

/**
 * The machine's PCI host (service PciHost). `offset` is a multiple of the width.
 *
 * Accesses are carried out in the order in which they are made, so none has to wait for the one before it.
 */
export interface PciAccess {
  /** All ones when no function is there. */
  read(address: PciAddress, offset: number, width: CfgWidth): Promise<number>;
  write(address: PciAddress, offset: number, width: CfgWidth, value: number): Promise<void>;
  /** All steps as one access: nobody else comes in between. Returns the values read, in order. */
  sequence(address: PciAddress, steps: readonly PciStep[]): Promise<readonly number[]>;
  /**
   * @param pin 0..3 = INTA..INTD
   * @returns undefined when the machine does not wire that pin
   */
  route(address: PciAddress, pin: number): Promise<PciRoute | undefined>;
}

/** What the match syntax looks at. */
export interface PciIdentity {
  readonly address: PciAddress;
  readonly vendor: number;
  readonly device: number;
  /** Class, subclass and programming interface, 24 bits. */
  readonly classCode: number;
  readonly revision: number;
  /** The dword at 0x2c. */
  readonly subsystem: number;
}

/** One base address register, or a pair of them for 64 bits, or the expansion ROM. */
export interface Bar {
  /** 0..5; the ROM has 6. */
  readonly index: number;
  readonly kind: 'memory' | 'port' | 'rom';
  readonly base: number;
  /** Bytes, a power of 2. */
  readonly size: number;
  readonly is64bit: boolean;
  readonly prefetchable: boolean;
}

/** One entry of the list at 0x34. */
export interface PciCapability {
  readonly offset: number;
  readonly id: number;
}

/** One entry of the list at 0x100. */
export interface PciExtendedCapability {
  readonly offset: number;
  readonly id: number;
  readonly version: number;
}

/** A function as `scanPci` found it. */
export interface PciFunction extends PciIdentity {
  readonly headerType: number;
  readonly bars: readonly Bar[];
  readonly rom: Bar | undefined;
  readonly route: PciRoute | undefined;
  readonly capabilities: readonly PciCapability[];
  readonly extendedCapabilities: readonly PciExtendedCapability[];
  /** BARs, ROM, PIN and DMAD. */
  readonly resources: readonly Resource[];
}

/** Number by which the machine knows the function's DMA: bus << 8 | device << 3 | function. */
export function requesterOf(address: PciAddress): number {
  return requesterId(address.bus, address.device, address.function);
}

/** "00:03.0", with the segment in front when it is not 0. */
export function formatAddress(address: PciAddress): string {
  const short = formatRequester(requesterOf(address));
  return address.segment === 0 ? short : `${address.segment.toString(16).padStart(4, '0')}:${short}`;
}

/** "00:03.0 8086:100e class 0200" */
export function formatIdentity(pci: PciIdentity): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const ids = `${hex(pci.vendor, 4)}:${hex(pci.device, 4)}`;
  return `${formatAddress(pci.address)} ${ids} class ${hex(pci.classCode >>> 8, 4)}`;
}
