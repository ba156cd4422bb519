/**
 * Configuration space as a client of a vbus sees it, for the three kinds of functions on a virtual PCI bus.
 *
 * A proxied function mixes: identification and most registers are physical, BARs, ROM and the links of the
 * capability lists are virtual. An access is aligned down to its width, as the original does.
 */
import { COMMAND_IO, COMMAND_MEMORY, PCI } from '#common/nic/pci';
import type { Log } from '../log.ts';
import {
  type CfgWidth,
  formatAddress,
  type PciAccess,
  type PciExtendedCapability,
  type PciFunction,
} from '../pci/function.ts';
import { VirtualBars } from './bars.ts';

export interface ConfigSpace {
  /** @param offset is aligned down to the width */
  read(offset: number, width: CfgWidth): Promise<number>;
  write(offset: number, width: CfgWidth, value: number): Promise<void>;
}

const MULTI_FUNCTION = 0x00800000;
const ROM_ENABLE = 1;
const EXTENDED_START = 0x100;
const CONFIG_END = 0x1000;

const EXT_ACS = 0x0d;
const EXT_SR_IOV = 0x10;
const EXT_RESIZABLE_BAR = 0x15;
/** Put in place of a hidden extended capability: an id that PCI-SIG has reserved. */
const EXT_DUMMY = 0xfe;
/** Bytes that a hidden extended capability covers at most. [PCIe 3.0 §7.16], [SR-IOV 1.1 §3.3], [PCIe 3.0 §7.22] */
const HIDDEN_SIZE = new Map([
  [EXT_ACS, 8],
  [EXT_SR_IOV, 0x40],
  [EXT_RESIZABLE_BAR, 0x34],
]);

/** The part of a dword that an access of `width` bits at `offset` touches. */
export function laneMask(offset: number, width: CfgWidth): number {
  return width === 32 ? 0xffffffff : (((1 << width) - 1) << (8 * (offset & 3))) >>> 0;
}

const align = (offset: number, width: CfgWidth): number => (offset & ~(width / 8 - 1)) >>> 0;
const extract = (dword: number, offset: number, width: CfgWidth): number =>
  (((dword & laneMask(offset, width)) >>> 0) >>> (8 * (offset & 3))) >>> 0;

/** A function of the machine behind a vbus. */
export class ProxyConfigSpace implements ConfigSpace {
  readonly #pci: PciFunction;
  readonly #access: PciAccess;
  readonly #log: Log;
  readonly #bars: VirtualBars;
  #rom: number;
  /** Offset of a capability to its virtual header (id, next). */
  readonly #headers = new Map<number, number>();
  readonly #firstCapability: number;
  readonly #extended: readonly PciExtendedCapability[];
  /** Read-modify-write of the command register must not interleave with itself. */
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(pci: PciFunction, access: PciAccess, log: Log) {
    this.#pci = pci;
    this.#access = access;
    this.#log = log;
    this.#bars = new VirtualBars(pci.bars);
    this.#rom = pci.rom?.base ?? 0;
    const capabilities = [...pci.capabilities].sort((a, b) => a.offset - b.offset);
    this.#firstCapability = capabilities[0]?.offset ?? 0;
    for (const [i, { offset, id }] of capabilities.entries()) {
      this.#headers.set(offset, id | ((capabilities[i + 1]?.offset ?? 0) << 8));
    }
    this.#extended = [...pci.extendedCapabilities].sort((a, b) => a.offset - b.offset);
  }

  async read(offset: number, width: CfgWidth): Promise<number> {
    const at = align(offset, width);
    if (at >= CONFIG_END) return laneMask(0, width);
    const dword = at & ~3;
    const header = this.#headers.get(dword);
    if (header !== undefined) {
      const physical = await this.#access.read(this.#pci.address, dword, 32);
      return extract((physical & 0xffff0000) | header, at, width);
    }
    const virtual = await this.#readVirtual(dword);
    return virtual === undefined
      ? this.#access.read(this.#pci.address, at, width)
      : extract(virtual, at, width);
  }

  async #readVirtual(dword: number): Promise<number | undefined> {
    const pci = this.#pci;
    switch (dword) {
      case PCI.VENDOR_ID:
        return (pci.vendor | (pci.device << 16)) >>> 0;
      case PCI.REVISION:
        return (pci.revision | (pci.classCode << 8)) >>> 0;
      case PCI.CACHE_LINE_SIZE:
        return ((await this.#access.read(pci.address, dword, 32)) | MULTI_FUNCTION) >>> 0;
      case PCI.SUBSYSTEM_VENDOR:
        return pci.subsystem;
      case PCI.ROM:
        return this.#rom;
      case PCI.CAPABILITIES:
        return this.#firstCapability;
      case 0x38:
        return 0;
      default:
        if (dword >= PCI.BAR0 && dword < PCI.CARDBUS_CIS) return this.#bars.read((dword - PCI.BAR0) >>> 2);
        return dword < EXTENDED_START ? undefined : this.#readExtended(dword);
    }
  }

  #readExtended(dword: number): number | undefined {
    if (this.#extended.length === 0) return dword === EXTENDED_START ? 0xffff : 0xffffffff;
    const index = this.#extended.findIndex(({ offset }) => offset === dword);
    const capability = this.#extended[index];
    if (capability !== undefined) {
      const id = HIDDEN_SIZE.has(capability.id) ? EXT_DUMMY : capability.id;
      const next = this.#extended[index + 1]?.offset ?? 0;
      return (id | (capability.version << 16) | (next << 20)) >>> 0;
    }
    return this.#isHidden(dword) ? 0xffffffff : undefined;
  }

  #isHidden(dword: number): boolean {
    return this.#extended.some(
      ({ offset, id }) => dword >= offset && dword < offset + (HIDDEN_SIZE.get(id) ?? 0),
    );
  }

  write(offset: number, width: CfgWidth, value: number): Promise<void> {
    const done = this.#lastWrite.then(() => this.#write(align(offset, width), width, value));
    this.#lastWrite = done.catch(() => undefined);
    return done;
  }

  async #write(at: number, width: CfgWidth, value: number): Promise<void> {
    const dword = at & ~3;
    const mask = laneMask(at, width);
    const lanes = ((value << (8 * (at & 3))) & mask) >>> 0;
    if (at >= CONFIG_END) return;
    if (this.#headers.has(dword)) return this.#writeHeader(at, width, value);
    switch (dword) {
      case PCI.VENDOR_ID:
      case PCI.REVISION:
      case PCI.SUBSYSTEM_VENDOR:
      case PCI.CAPABILITIES:
      case 0x38:
        return;
      case PCI.COMMAND:
        return this.#writeCommandStatus(mask, lanes);
      case PCI.ROM:
        return this.#writeRom(mask, lanes);
    }
    if (dword >= PCI.BAR0 && dword < PCI.CARDBUS_CIS) {
      this.#bars.write((dword - PCI.BAR0) >>> 2, lanes, mask);
    } else if (dword < EXTENDED_START || this.#isWritableExtended(dword)) {
      await this.#access.write(this.#pci.address, at, width, value);
    }
  }

  /** The first two bytes of a capability are read-only. */
  async #writeHeader(at: number, width: CfgWidth, value: number): Promise<void> {
    const { address } = this.#pci;
    if (width === 32) await this.#access.write(address, at + 2, 16, value >>> 16);
    else if ((at & 2) !== 0) await this.#access.write(address, at, width, value);
  }

  #isWritableExtended(dword: number): boolean {
    const isHeader = this.#extended.some(({ offset }) => offset === dword);
    return this.#extended.length > 0 && !isHeader && !this.#isHidden(dword);
  }

  async #writeCommandStatus(mask: number, lanes: number): Promise<void> {
    const { address } = this.#pci;
    if ((mask & 0xffff) !== 0) {
      const old = await this.#access.read(address, PCI.COMMAND, 16);
      const wanted = (old & ~mask & 0xffff) | (lanes & 0xffff);
      const command = wanted & ~this.#forbiddenDecoders(wanted & ~old);
      if (command !== old) await this.#access.write(address, PCI.COMMAND, 16, command);
    }
    // The bits of the status register are cleared by writing ones: zeros leave the others as they are.
    const status = lanes >>> 16;
    if (status !== 0) await this.#access.write(address, PCI.STATUS, 16, status);
  }

  /** Of the decoders about to be switched on, those whose BARs have no address. */
  #forbiddenDecoders(enabled: number): number {
    let forbidden = 0;
    for (const { kind, base } of this.#pci.bars) {
      if (base === 0) forbidden |= enabled & (kind === 'port' ? COMMAND_IO : COMMAND_MEMORY);
    }
    if (forbidden !== 0) {
      this.#log.warn(`warning: could not set bars of ${formatAddress(this.#pci.address)}, disable decoders`);
    }
    return forbidden;
  }

  async #writeRom(mask: number, lanes: number): Promise<void> {
    const { rom } = this.#pci;
    if (rom === undefined) return;
    const bits = mask & (-rom.size | ROM_ENABLE);
    this.#rom = ((this.#rom & ~bits) | (lanes & bits)) >>> 0;
    if (rom.base !== 0)
      await this.#access.write(this.#pci.address, PCI.ROM, 32, rom.base | (this.#rom & ROM_ENABLE));
  }
}

/** A function that exists only on the vbus: a few fixed bytes. */
export class FixedConfigSpace implements ConfigSpace {
  readonly #view: DataView;

  /** @param dwords the header; everything behind reads as 0 */
  constructor(dwords: readonly number[]) {
    this.#view = new DataView(new ArrayBuffer(dwords.length * 4));
    for (const [i, dword] of dwords.entries()) this.#view.setUint32(4 * i, dword, true);
  }

  async read(offset: number, width: CfgWidth): Promise<number> {
    const at = align(offset, width);
    const dword = at & ~3;
    return dword + 4 > this.#view.byteLength ? 0 : extract(this.#view.getUint32(dword, true), at, width);
  }

  async write(): Promise<void> {}
}

/** PCI_dummy_device: ids and class as the original has them. */
export function dummyConfigSpace(): ConfigSpace {
  return new FixedConfigSpace([0x02000400, 0, 0x36440000, MULTI_FUNCTION]);
}

/** PCI_PCI_bridge: a type 1 header with its bus numbers. [PCI-to-PCI Bridge 1.2 §3.2] */
export function bridgeConfigSpace(primary: number, secondary: number, subordinate: number): ConfigSpace {
  const buses = primary | (secondary << 8) | (subordinate << 16);
  return new FixedConfigSpace([0x02000400, 0, 0x06040000, MULTI_FUNCTION | (1 << 16), 0, 0, buses]);
}
