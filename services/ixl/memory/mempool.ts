/**
 * A pool of packet buffers: a stack of free buffers in private typed arrays.
 *
 * Nothing that a peer can write decides about allocation, and a buffer that is freed twice ends the
 * program at once: it would be in two frames' hands.
 */
import type { Memory } from '#common/memory';
import { BUFFER } from './buffer.ts';
import type { DmaMemory } from './dma_memory.ts';

/** Consecutive buffers of one DMA memory. */
interface Run {
  readonly offset: number;
  readonly end: number;
  /** Number of the first buffer in the pool. */
  readonly first: number;
}

export class Mempool {
  readonly #memory: Memory;
  readonly #runs: Run[] = [];
  #free = new Int32Array(0);
  #freeCount = 0;
  #taken = new Uint8Array(0);

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  get capacity(): number {
    return this.#free.length;
  }

  /** Buffers that `alloc` can still give. */
  get available(): number {
    return this.#freeCount;
  }

  /** Adds `count` buffers, from byte `from` of `dma` on. */
  add(dma: DmaMemory, from: number, count: number): void {
    const first = this.capacity;
    const free = new Int32Array(first + count);
    free.set(this.#free);
    const taken = new Uint8Array(first + count);
    taken.set(this.#taken);
    this.#free = free;
    this.#taken = taken;
    const start = dma.offset + from;
    this.#runs.push({ offset: start, end: start + count * BUFFER.SIZE, first });
    // Filled from the last to the first: buffers are handed out in ascending order.
    for (let n = count - 1; n >= 0; n--) {
      const buffer = start + n * BUFFER.SIZE;
      const address = dma.address + from + n * BUFFER.SIZE + BUFFER.DATA;
      this.#memory.u32[(buffer + BUFFER.DMA) >>> 2] = address >>> 0;
      this.#memory.u32[(buffer + BUFFER.DMA + 4) >>> 2] = Math.floor(address / 2 ** 32);
      this.#memory.u32[(buffer + BUFFER.INDEX) >>> 2] = first + n;
      this.#free[this.#freeCount++] = buffer;
    }
  }

  /** Takes a buffer; -1 when there is none. */
  alloc(): number {
    if (this.#freeCount === 0) return -1;
    this.#freeCount -= 1;
    const buffer = this.#free[this.#freeCount] as number;
    this.#taken[this.#index(buffer)] = 1;
    return buffer;
  }

  /** Gives a buffer back. Throws RangeError for what is no buffer of this pool or is free already. */
  free(buffer: number): void {
    const index = this.#index(buffer);
    if (index < 0 || this.#taken[index] !== 1) {
      const what = index < 0 ? 'not a buffer of this pool' : 'free already';
      throw new RangeError(`Cannot free packet buffer at ${buffer} as it is ${what}`);
    }
    this.#taken[index] = 0;
    this.#free[this.#freeCount] = buffer;
    this.#freeCount += 1;
  }

  /** True for the offset of one of this pool's buffers. */
  owns(buffer: number): boolean {
    return this.#index(buffer) >= 0;
  }

  #index(buffer: number): number {
    for (let n = 0; n < this.#runs.length; n++) {
      const run = this.#runs[n] as Run;
      const distance = buffer - run.offset;
      if (distance >= 0 && buffer < run.end && (distance & (BUFFER.SIZE - 1)) === 0) {
        return run.first + distance / BUFFER.SIZE;
      }
    }
    return -1;
  }
}
