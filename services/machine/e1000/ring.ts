/**
 * A descriptor ring as its five registers describe it: the same for both directions. [8254x §3.2.6, §3.4]
 *
 * Hardware owns the descriptors from head up to, not including, tail. Software may write anything into the registers: a
 * tail beyond the ring stands for its last descriptor, a head beyond it (or a length of 0) stops the ring.
 */
import type { Register } from '#common/nic/e1000';

/** Bytes of a descriptor of either kind. */
const SIZE = 16;
const WORD = 2 ** 32;

export interface RingRegisters {
  readonly baseLow: Register;
  readonly baseHigh: Register;
  /** In bytes. */
  readonly length: Register;
  readonly head: Register;
  readonly tail: Register;
}

export class DescriptorRing {
  readonly #regs: Uint32Array;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #length: number;
  readonly #head: number;
  readonly #tail: number;

  /** `regs`: the NIC's registers, indexed by offset / 4. */
  constructor(regs: Uint32Array, registers: RingRegisters) {
    this.#regs = regs;
    this.#baseLow = registers.baseLow.offset >>> 2;
    this.#baseHigh = registers.baseHigh.offset >>> 2;
    this.#length = registers.length.offset >>> 2;
    this.#head = registers.head.offset >>> 2;
    this.#tail = registers.tail.offset >>> 2;
  }

  /** Descriptors in the ring. */
  get count(): number {
    return (this.#regs[this.#length] as number) >>> 4;
  }

  /** Descriptors that hardware owns now. */
  get owned(): number {
    const { count } = this;
    const head = this.#regs[this.#head] as number;
    if (head >= count) return 0;
    const tail = Math.min(this.#regs[this.#tail] as number, count - 1);
    return tail >= head ? tail - head : count - head + tail;
  }

  /** I/O address of the descriptor at the head. */
  get address(): number {
    const base = (this.#regs[this.#baseHigh] as number) * WORD + (this.#regs[this.#baseLow] as number);
    return base + (this.#regs[this.#head] as number) * SIZE;
  }

  /** Hands the descriptor at the head to software. */
  advance(): void {
    const next = (this.#regs[this.#head] as number) + 1;
    this.#regs[this.#head] = next >= this.count ? 0 : next;
  }
}
