/**
 * Statistics registers: 32 bits, stuck at their maximum, cleared by reading; octet counters are 64
 * bits and cleared by reading the high half. Lengths include the FCS. [8254x §13.7]
 */
import type { Memory } from '#common/memory';
import { REG } from '#common/nic/e1000';

const at = (register: { offset: number }): number => register.offset >>> 2;

const FIRST = REG.CRCERRS.offset;
const LAST = REG.TSCTFC.offset;
const RX = {
  total: at(REG.TPR),
  totalOctets: at(REG.TORL),
  good: at(REG.GPRC),
  goodOctets: at(REG.GORCL),
  sizes: at(REG.PRC64),
  broadcast: at(REG.BPRC),
  multicast: at(REG.MPRC),
};
const TX = {
  total: at(REG.TPT),
  totalOctets: at(REG.TOTL),
  good: at(REG.GPTC),
  goodOctets: at(REG.GOTCL),
  sizes: at(REG.PTC64),
  broadcast: at(REG.BPTC),
  multicast: at(REG.MPTC),
};
type Side = typeof RX;

const LOW_HALVES = new Set([REG.GORCL, REG.GOTCL, REG.TORL, REG.TOTL].map(({ offset }) => offset));
const HIGH_HALVES = new Set([REG.GORCH, REG.GOTCH, REG.TORH, REG.TOTH].map(({ offset }) => offset));

/** True for the registers that this file answers. */
export function isStatistic(offset: number): boolean {
  return offset >= FIRST && offset <= LAST;
}

export class Statistics {
  readonly #regs: Uint32Array;
  readonly #u8: Uint8Array;

  /** `regs`: the NIC's registers, indexed by offset / 4. */
  constructor(regs: Uint32Array, memory: Memory) {
    this.#regs = regs;
    this.#u8 = memory.u8;
  }

  read(offset: number): number {
    const index = offset >>> 2;
    const value = this.#regs[index] as number;
    if (LOW_HALVES.has(offset)) return value;
    this.#regs[index] = 0;
    if (HIGH_HALVES.has(offset)) this.#regs[index - 1] = 0;
    return value;
  }

  count(register: { offset: number }): void {
    this.#increment(register.offset >>> 2);
  }

  /** A frame came off the wire, wanted or not. */
  rxSeen(length: number): void {
    this.#increment(RX.total);
    this.#add64(RX.totalOctets, length);
  }

  /** A frame of `length` bytes with its first byte at `offset` went to the host. */
  rxGood(offset: number, length: number): void {
    this.#good(RX, offset, length);
  }

  txGood(offset: number, length: number): void {
    this.#increment(TX.total);
    this.#add64(TX.totalOctets, length);
    this.#good(TX, offset, length);
  }

  #good(side: Side, offset: number, length: number): void {
    this.#increment(side.good);
    this.#add64(side.goodOctets, length);
    this.#increment(side.sizes + sizeClass(length));
    if (((this.#u8[offset] as number) & 1) === 0) return;
    this.#increment(isBroadcast(this.#u8, offset) ? side.broadcast : side.multicast);
  }

  #increment(index: number): void {
    const value = this.#regs[index] as number;
    if (value !== 0xffff_ffff) this.#regs[index] = value + 1;
  }

  #add64(low: number, amount: number): void {
    const before = this.#regs[low] as number;
    const after = (before + amount) >>> 0;
    this.#regs[low] = after;
    if (after < before) this.#increment(low + 1);
  }
}

/** Longest frames of the size counters but the last. */
const SIZE_LIMITS = [64, 127, 255, 511, 1023] as const;

/** 0 for 64 bytes and fewer, then 65-127, 128-255, 256-511, 512-1023, and 5 for more. */
function sizeClass(length: number): number {
  let at = 0;
  while (at < SIZE_LIMITS.length && length > (SIZE_LIMITS[at] as number)) at++;
  return at;
}

export function isBroadcast(u8: Uint8Array, offset: number): boolean {
  for (let n = 0; n < 6; n++) if (u8[offset + n] !== 0xff) return false;
  return true;
}
