/**
 * What the machine and a NIC model know of each other.
 *
 * A model is registers, descriptor rings and timers over a `NicHost`. It knows neither processes nor
 * files, so a test drives it over an ArrayBuffer with a clock of its own.
 */
import type { Memory } from '#common/memory';
import type { PciIdentity } from './pci/config_space.ts';
import type { WireEnd } from './wire.ts';

/** DMA of one PCI function. Offsets are arena offsets of `NicHost.memory`. */
export interface Dma {
  /** Bus mastering is on: without it a function can do no DMA and does not try. */
  readonly enabled: boolean;
  /**
   * Where `length` (at most DMA_MAX) bytes at I/O address `address` can be read. A fault is counted
   * and logged, and yields a place that reads as all ones.
   */
  read(address: number, length: number): number;
  /** Where `length` bytes at `address` can be written; -1 on a fault, which is counted and logged. */
  write(address: number, length: number): number;
}

/** Longest single DMA in bytes; longer transfers are split. */
export const DMA_MAX = 0x4000;
/** Private bytes of `NicHost.memory` that each NIC gets to assemble frames in. */
export const SCRATCH_BYTES = 0x10000;

/** The machine as a NIC model sees it. */
export interface NicHost {
  readonly memory: Memory;
  /** Offset of SCRATCH_BYTES bytes, a multiple of 4096. */
  readonly scratch: number;
  readonly dma: Dma;
  /** Level of the function's interrupt pin. */
  setIrq(asserted: boolean): void;
  /** Monotonic clock in microseconds. */
  now(): number;
  /** Asks for `timer()` at `at` (microseconds, the clock of `now`); Infinity: no more. Replaces the last one. */
  setTimer(at: number): void;
  /** Sends a frame without FCS to the wire; the bytes are valid during the call only. */
  transmit(offset: number, length: number): void;
  /** One line for people, e.g. about a driver that does what hardware would not survive. */
  log(text: string): void;
}

/** Counters that no driver resets, for `MachineControl.Status`. */
export interface NicCounters {
  rxPackets: number;
  rxBytes: number;
  txPackets: number;
  txBytes: number;
  /** Frames that found no free descriptor. */
  rxMissed: number;
}

export interface NicModel extends WireEnd {
  /** E.g. `e1000`. */
  readonly name: string;
  readonly pci: PciIdentity;
  readonly counters: NicCounters;
  /** Registers of BAR0: 32 bits wide, `offset` in bytes. Never throws, whatever the driver does. */
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  /** One bounded turn of the transmit rings. True when anything was done. */
  poll(): boolean;
  /** The time asked for with `setTimer` has come. */
  timer(): void;
  /** As after power-on: rings stopped, interrupt lowered. The wire and its link stay. */
  reset(): void;
}
