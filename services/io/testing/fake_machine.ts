/**
 * An in-memory machine for tests: PCI functions with register semantics, interrupts, DMA, device memory.
 */
import { L4Error } from '#common/ipc/errors';
import { COMMAND_MEMORY, PCI, requesterId, STATUS_CAPABILITIES } from '#common/nic/pci';
import { Log } from '../log.ts';
import {
  type CfgWidth,
  type PciAccess,
  type PciAddress,
  type PciRoute,
  type PciStep,
  requesterOf,
} from '../pci/function.ts';
import type { MemoryAccess } from '../vbus/device_memory.ts';
import { type IcuAccess, type IrqObject, withMsiFlag } from '../vbus/interrupts.ts';
import type { DmaAccess } from '../vbus/operations.ts';

export interface FakeBar {
  readonly index: number;
  readonly base: number;
  readonly size: number;
  /** BAR type bits: 1 port, 4 64-bit, 8 prefetchable. */
  readonly flags?: number;
}

export interface FakeFunction {
  readonly device: number;
  readonly function?: number;
  readonly bus?: number;
  readonly ids: readonly [vendor: number, device: number];
  /** 24 bits. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystem?: number;
  readonly headerType?: number;
  readonly bars?: readonly FakeBar[];
  readonly rom?: { base: number; size: number };
  /** 0..3 */
  readonly pin?: number;
  readonly irq?: number;
  /** Dwords by offset. */
  readonly extra?: Readonly<Record<number, number>>;
  /** Start of the capability list; default the lowest offset of `extra` from 0x40 on. */
  readonly firstCapability?: number;
  readonly secondaryBus?: number;
}

/** Configuration space of one function; BARs keep their size bits at zero as registers do. */
class FakeConfig {
  readonly bytes = new DataView(new ArrayBuffer(4096));
  readonly #masks = new Map<number, number>();

  constructor(fn: FakeFunction) {
    const set = (offset: number, value: number): void => this.bytes.setUint32(offset, value, true);
    set(0, fn.ids[0] | (fn.ids[1] << 16));
    set(8, (fn.classCode << 8) | (fn.revision ?? 0));
    set(0x2c, fn.subsystem ?? 0);
    this.bytes.setUint8(PCI.HEADER_TYPE, fn.headerType ?? 0);
    this.bytes.setUint16(PCI.COMMAND, COMMAND_MEMORY, true);
    if (fn.pin !== undefined) this.bytes.setUint8(PCI.INTERRUPT_PIN, fn.pin + 1);
    for (let i = 0; i < 6; i++) this.#masks.set(PCI.BAR0 + 4 * i, 0);
    for (const bar of fn.bars ?? []) this.#addBar(bar);
    this.#masks.set(PCI.ROM, 0);
    if (fn.rom) {
      set(PCI.ROM, fn.rom.base);
      this.#masks.set(PCI.ROM, (-fn.rom.size | 1) >>> 0);
    }
    for (const [offset, value] of Object.entries(fn.extra ?? {})) set(Number(offset), value);
    const lowest = Object.keys(fn.extra ?? {})
      .map(Number)
      .find((offset) => offset >= 0x40 && offset < 0x100);
    const first = fn.firstCapability ?? lowest;
    if (first !== undefined) {
      this.bytes.setUint8(PCI.CAPABILITIES, first);
      this.bytes.setUint16(PCI.STATUS, STATUS_CAPABILITIES, true);
    }
    if (fn.secondaryBus !== undefined) this.bytes.setUint8(0x19, fn.secondaryBus);
  }

  #addBar({ index, base, size, flags = 0 }: FakeBar): void {
    const at = PCI.BAR0 + 4 * index;
    this.bytes.setUint32(at, (base % 2 ** 32) | flags, true);
    this.#masks.set(at, (size >= 2 ** 32 ? 0 : -size) >>> 0);
    if ((flags & 4) === 0) return;
    this.bytes.setUint32(at + 4, Math.floor(base / 2 ** 32), true);
    this.#masks.set(at + 4, size > 2 ** 32 ? -(size / 2 ** 32) >>> 0 : 0xffffffff);
  }

  read(offset: number, width: CfgWidth): number {
    if (width === 8) return this.bytes.getUint8(offset);
    return width === 16 ? this.bytes.getUint16(offset, true) : this.bytes.getUint32(offset, true);
  }

  write(offset: number, width: CfgWidth, value: number): void {
    if (offset === PCI.STATUS) {
      this.bytes.setUint16(offset, this.read(offset, 16) & ~(value & 0xf900), true);
      return;
    }
    const mask = this.#masks.get(offset);
    if (mask !== undefined) {
      const flags = this.read(offset, 32) & ~mask & 0xf;
      this.bytes.setUint32(offset, (value & mask) | flags, true);
    } else if (width === 8) this.bytes.setUint8(offset, value);
    else if (width === 16) this.bytes.setUint16(offset, value, true);
    else this.bytes.setUint32(offset, value, true);
  }
}

export class FakePci implements PciAccess {
  readonly configs = new Map<number, FakeConfig>();
  readonly #routes = new Map<number, PciRoute>();
  readonly writes: string[] = [];

  constructor(functions: readonly FakeFunction[]) {
    for (const fn of functions) {
      const id = requesterId(fn.bus ?? 0, fn.device, fn.function ?? 0);
      this.configs.set(id, new FakeConfig(fn));
      if (fn.irq !== undefined) this.#routes.set(id, { irq: fn.irq, trigger: 0, polarity: 1 });
    }
  }

  async read(address: PciAddress, offset: number, width: CfgWidth): Promise<number> {
    if (offset % (width / 8) !== 0)
      throw new L4Error('EINVAL', `unaligned read of ${width} bits at ${offset}`);
    const config = this.configs.get(requesterOf(address));
    return config?.read(offset, width) ?? 2 ** width - 1;
  }

  async write(address: PciAddress, offset: number, width: CfgWidth, value: number): Promise<void> {
    if (offset % (width / 8) !== 0)
      throw new L4Error('EINVAL', `unaligned write of ${width} bits at ${offset}`);
    this.writes.push(`${offset.toString(16)}/${width}=${(value >>> 0).toString(16)}`);
    this.configs.get(requesterOf(address))?.write(offset, width, value);
  }

  async sequence(address: PciAddress, steps: readonly PciStep[]): Promise<number[]> {
    const values: number[] = [];
    for (const { offset, width, value } of steps) {
      if (value === undefined) values.push(await this.read(address, offset, width));
      else await this.write(address, offset, width, value);
    }
    return values;
  }

  async route(address: PciAddress): Promise<PciRoute | undefined> {
    return this.#routes.get(requesterOf(address));
  }
}

export class FakeIcu implements IcuAccess {
  readonly bound = new Map<number, string>();
  readonly modes: string[] = [];
  readonly unmasked: number[] = [];
  nrMsis = 4;

  async info(): Promise<{ nrIrqs: number; nrMsis: number }> {
    return { nrIrqs: 24, nrMsis: this.nrMsis };
  }

  async bind(irq: number, object: IrqObject): Promise<number> {
    if (this.bound.has(irq)) throw new L4Error('EPERM', `machine: ${irq} is bound`);
    this.bound.set(irq, object.name);
    return irq >= withMsiFlag(0) ? 1 : 0;
  }

  async unbind(irq: number): Promise<void> {
    this.bound.delete(irq);
  }

  async msiInfo(irq: number, source: number): Promise<{ address: number; data: number }> {
    return { address: 0xfee00000 + source, data: irq & 0xff };
  }

  async setMode(irq: number, mode: number): Promise<void> {
    this.modes.push(`${irq}=${mode}`);
  }

  async unmask(irq: number): Promise<void> {
    this.unmasked.push(irq);
  }
}

export class FakeDma implements DmaAccess<string> {
  readonly bound = new Map<number, string>();

  async assign(requester: number, space: string, bind: boolean): Promise<void> {
    if (!bind) this.bound.delete(requester);
    else if (this.bound.has(requester)) throw new L4Error('EBUSY', 'machine: in another space');
    else this.bound.set(requester, space);
  }
}

export class FakeMemory implements MemoryAccess {
  async map(address: number, size: number): ReturnType<MemoryAccess['map']> {
    return { memory: { name: 'bar', size, writable: true }, kind: 1, offset: address % 4096 };
  }
}

/** A log that keeps its lines. */
export function recordingLog(level = 1): { log: Log; lines: string[] } {
  const lines: string[] = [];
  return { log: new Log(level, (line) => lines.push(line)), lines };
}

export const HOST_BRIDGE: FakeFunction = {
  device: 0,
  ids: [0x8086, 0x1237],
  classCode: 0x060000,
  revision: 2,
};

/** 82540EM as QEMU has it: INTx only, 128 KiB of registers, 64 ports, no capabilities. */
export const E1000: FakeFunction = {
  device: 3,
  ids: [0x8086, 0x100e],
  classCode: 0x020000,
  revision: 3,
  subsystem: 0x11001af4,
  bars: [
    { index: 0, base: 0xfebc0000, size: 0x20000 },
    { index: 1, base: 0xc000, size: 0x40, flags: 1 },
  ],
  rom: { base: 0xfeb80000, size: 0x40000 },
  pin: 0,
  irq: 11,
};

/** I350, two ports: PCI Express, MSI, MSI-X, extended capabilities with ACS and SR-IOV. */
export const I350 = (fn: number): FakeFunction => ({
  device: 4,
  function: fn,
  ids: [0x8086, 0x1521],
  classCode: 0x020000,
  headerType: 0x80,
  bars: [
    { index: 0, base: 0xfe000000 + fn * 0x200000, size: 0x100000 },
    { index: 3, base: 0x800000000 + fn * 0x4000, size: 0x4000, flags: 0xc },
  ],
  pin: fn,
  irq: 10 + fn,
  extra: {
    // 0x40 PM -> 0x50 MSI -> 0x70 MSI-X -> 0xa0 PCIe
    64: 0x4803_5001,
    68: 0x00002008,
    80: 0x0180_7005,
    112: 0x0009_a011,
    116: 0x00000003,
    160: 0x0002_0010,
    // AER -> SR-IOV -> ACS
    256: 0x16010001,
    260: 0x12345678,
    352: 0x1a010010,
    356: 0x11111111,
    416: 0x0001000d,
    420: 0x22222222,
  },
});

export const X540: FakeFunction = {
  device: 5,
  ids: [0x8086, 0x1528],
  classCode: 0x020000,
  bars: [{ index: 0, base: 0x900000000, size: 0x200000, flags: 0xc }],
  pin: 0,
  irq: 11,
};
