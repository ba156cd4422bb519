/**
 * Configuration space of one conventional PCI function: a type 0 header and a capability list.
 *
 * Held as 256 bytes with, for each, a mask of the bits that software may write and one of the bits
 * that a written 1 clears; BAR sizing follows from the masks. [PCI 3.0 §6.1, §6.2.5]
 */
import {
  BAR_IO,
  CAP_PCI_X,
  CAP_POWER_MANAGEMENT,
  COMMAND_INTX_DISABLE,
  COMMAND_INVALIDATE,
  COMMAND_IO,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  COMMAND_PARITY,
  COMMAND_SERR,
  PCI,
  PCI_BARS,
  PCI_CFG_SIZE,
  STATUS_CAPABILITIES,
  STATUS_INTERRUPT,
  STATUS_WRITE_1_CLEARS,
} from '#common/nic/pci';

export interface PciBar {
  readonly kind: 'memory' | 'io';
  /** Bytes, a power of two. */
  readonly size: number;
}

/** What a model says about itself; the slot adds addresses and interrupt routing. */
export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly bars: readonly PciBar[];
  /** 1..4 = INTA..INTD, 0 = none. */
  readonly interruptPin: number;
  readonly capabilities: readonly PciCapability[];
}

export interface PciCapability {
  readonly offset: number;
  readonly id: number;
  /** Bytes behind id and next pointer. */
  readonly body: readonly number[];
  /** Writable bits of the body. */
  readonly writable: readonly number[];
}

/** Power management of version 2, D3hot and D0 only, no PME. [PCI PM 1.1 §3.2] */
export function powerManagement(offset: number): PciCapability {
  return {
    offset,
    id: CAP_POWER_MANAGEMENT,
    body: [0x22, 0x00, 0, 0, 0, 0],
    writable: [0, 0, 0x03, 0, 0, 0],
  };
}

/** PCI-X for a function that reports bus 0xff, as one in a conventional slot does. [PCI-X 1.0a §7.2] */
export function pciX(offset: number, deviceFunction: number): PciCapability {
  return { offset, id: CAP_PCI_X, body: [0, 0, deviceFunction, 0xff, 0, 0], writable: [0x7f, 0, 0, 0, 0, 0] };
}

const COMMAND_WRITABLE =
  COMMAND_IO |
  COMMAND_MEMORY |
  COMMAND_MASTER |
  COMMAND_INVALIDATE |
  COMMAND_PARITY |
  COMMAND_SERR |
  COMMAND_INTX_DISABLE;

export class ConfigSpace {
  readonly bars: readonly PciBar[];
  readonly interruptPin: number;
  readonly #bytes = new Uint8Array(PCI_CFG_SIZE);
  readonly #writable = new Uint8Array(PCI_CFG_SIZE);
  readonly #clears = new Uint8Array(PCI_CFG_SIZE);
  readonly #power: number;
  readonly #onCommand: () => void;

  /** `onCommand` is called when a write may have changed command register or power state. */
  constructor(identity: PciIdentity, onCommand: () => void = () => {}) {
    this.bars = identity.bars;
    this.interruptPin = identity.interruptPin;
    this.#onCommand = onCommand;
    this.#put(PCI.VENDOR_ID, identity.vendor, 2);
    this.#put(PCI.DEVICE_ID, identity.device, 2);
    this.#put(PCI.REVISION, (identity.classCode << 8) | identity.revision, 4);
    this.#put(PCI.SUBSYSTEM_VENDOR, identity.subsystemVendor, 2);
    this.#put(PCI.SUBSYSTEM, identity.subsystem, 2);
    this.#put(PCI.INTERRUPT_PIN, identity.interruptPin, 1);
    this.#allow(PCI.COMMAND, COMMAND_WRITABLE, 2);
    this.#allow(PCI.CACHE_LINE_SIZE, 0xffff, 2);
    this.#allow(PCI.INTERRUPT_LINE, 0xff, 1);
    this.#clears[PCI.STATUS + 1] = STATUS_WRITE_1_CLEARS >>> 8;
    identity.bars.forEach((bar, n) => {
      this.#allow(PCI.BAR0 + 4 * n, -bar.size >>> 0, 4);
      if (bar.kind === 'io') this.#put(PCI.BAR0 + 4 * n, BAR_IO, 4);
    });
    this.#addCapabilities(identity.capabilities);
    this.#power = identity.capabilities.find(({ id }) => id === CAP_POWER_MANAGEMENT)?.offset ?? 0;
  }

  get command(): number {
    return this.read(PCI.COMMAND, 16);
  }

  /** False in D3hot: the function answers configuration cycles only. */
  get powered(): boolean {
    return this.#power === 0 || ((this.#bytes[this.#power + 4] as number) & 3) === 0;
  }

  get memoryEnabled(): boolean {
    return (this.command & COMMAND_MEMORY) !== 0 && this.powered;
  }

  get masterEnabled(): boolean {
    return (this.command & COMMAND_MASTER) !== 0 && this.powered;
  }

  get intxEnabled(): boolean {
    return (this.command & COMMAND_INTX_DISABLE) === 0;
  }

  /** Physical address that BAR `n` decodes, without its flags. */
  barAddress(n: number): number {
    const value = this.read(PCI.BAR0 + 4 * n, 32);
    return (value & ~((this.bars[n]?.size ?? 16) - 1)) >>> 0;
  }

  /** What firmware does at boot: places the BARs and switches decoding on. */
  place(addresses: readonly number[], interruptLine: number): void {
    for (let n = 0; n < PCI_BARS; n++) {
      const address = addresses[n];
      if (address !== undefined) this.write(PCI.BAR0 + 4 * n, 32, address);
    }
    this.write(PCI.INTERRUPT_LINE, 8, interruptLine);
    if (this.bars.length > 0) this.write(PCI.COMMAND, 16, COMMAND_IO | COMMAND_MEMORY);
  }

  /** Undoes what a driver may have left that the next one does not look for: asleep, not decoding, or without its pin. */
  revive(): void {
    if (this.#power !== 0) this.write(this.#power + 4, 8, 0);
    this.write(PCI.COMMAND, 16, (this.command | COMMAND_IO | COMMAND_MEMORY) & ~COMMAND_INTX_DISABLE);
  }

  /** Shows the state of the function's own interrupt in the status register. */
  setInterruptStatus(asserted: boolean): void {
    const status = this.#bytes[PCI.STATUS] as number;
    this.#bytes[PCI.STATUS] = asserted ? status | STATUS_INTERRUPT : status & ~STATUS_INTERRUPT;
  }

  /** `offset` aligned to `width` (8, 16 or 32 bits). Beyond 255 all ones: there is no extended space. */
  read(offset: number, width: number): number {
    let value = 0;
    for (let n = width / 8 - 1; n >= 0; n--) value = value * 256 + (this.#bytes[offset + n] ?? 0xff);
    return value;
  }

  write(offset: number, width: number, value: number): void {
    for (let n = 0; n < width / 8; n++) this.#writeByte(offset + n, (value >>> (8 * n)) & 0xff);
    const first = offset & ~3;
    if (first === PCI.COMMAND || (this.#power !== 0 && first === this.#power + 4)) this.#onCommand();
  }

  #writeByte(offset: number, value: number): void {
    if (offset >= PCI_CFG_SIZE) return;
    const mask = this.#writable[offset] as number;
    const old = this.#bytes[offset] as number;
    const cleared = value & (this.#clears[offset] as number);
    this.#bytes[offset] = ((old & ~mask) | (value & mask)) & ~cleared;
  }

  #addCapabilities(capabilities: readonly PciCapability[]): void {
    if (capabilities.length === 0) return;
    this.#bytes[PCI.STATUS] = STATUS_CAPABILITIES;
    capabilities.forEach(({ offset, id, body, writable }, n) => {
      if (n === 0) this.#bytes[PCI.CAPABILITIES] = offset;
      this.#bytes[offset] = id;
      this.#bytes[offset + 1] = capabilities[n + 1]?.offset ?? 0;
      this.#bytes.set(body, offset + 2);
      this.#writable.set(writable, offset + 2);
    });
  }

  #put(offset: number, value: number, bytes: number): void {
    for (let n = 0; n < bytes; n++) this.#bytes[offset + n] = (value >>> (8 * n)) & 0xff;
  }

  #allow(offset: number, mask: number, bytes: number): void {
    for (let n = 0; n < bytes; n++) this.#writable[offset + n] = (mask >>> (8 * n)) & 0xff;
  }
}
