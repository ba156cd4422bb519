/**
 * Frames on their way to a NIC: a ring of 2 KiB slots in the machine's arena.
 *
 * A wire fills it (`slot`, then `commit`), `deliver` offers the frames to the NIC in order and keeps what the NIC has
 * no descriptor for. An empty ring starts again at its first slot, so that a ring that keeps up stays in the cache.
 */

import type { Arena } from '#common/shm/arena';
import type { WireEnd } from '../wire.ts';

export const SLOT_SIZE = 2048;
/** Frames start 2 bytes into their slot: the IP header behind 14 bytes of Ethernet is then aligned to 4. */
const HEADROOM = 2;
/** Longest frame a slot takes. */
export const MAX_SLOT_FRAME = SLOT_SIZE - HEADROOM;

export class FrameRing {
  readonly slots: number;
  readonly #arena: Arena;
  readonly #base: number;
  readonly #mask: number;
  readonly #sound: boolean;
  readonly #lengths: Uint16Array;
  #head = 0;
  #tail = 0;

  /** `slots` is a power of two. `sound`: all frames have right checksums (`WireEnd.receive`). */
  constructor(arena: Arena, slots: number, sound = false) {
    if (slots < 1 || (slots & (slots - 1)) !== 0) {
      throw new RangeError(`Cannot make frame ring as slots must be a power of 2: current value is ${slots}`);
    }
    this.slots = slots;
    this.#arena = arena;
    this.#mask = slots - 1;
    this.#sound = sound;
    this.#lengths = new Uint16Array(slots);
    this.#base = arena.mapPrivate(slots * SLOT_SIZE);
  }

  /** Frames waiting for the NIC. */
  get count(): number {
    return this.#tail - this.#head;
  }

  get free(): number {
    return this.slots - this.count;
  }

  /** Arena offset where the next frame is to be written, or -1 when the ring is full. Not taken before `commit`. */
  slot(): number {
    if (this.#head === this.#tail) {
      this.#head = 0;
      this.#tail = 0;
    }
    return this.count === this.slots ? -1 : this.#base + (this.#tail & this.#mask) * SLOT_SIZE + HEADROOM;
  }

  /** The frame of `length` bytes at `slot()` is complete. */
  commit(length: number): void {
    this.#lengths[this.#tail & this.#mask] = length;
    this.#tail += 1;
  }

  /** Offers frames to the NIC until it refuses one. True when it took any. */
  deliver(end: WireEnd): boolean {
    const before = this.#head;
    while (this.#head !== this.#tail) {
      const index = this.#head & this.#mask;
      const offset = this.#base + index * SLOT_SIZE + HEADROOM;
      if (!end.receive(offset, this.#lengths[index] as number, this.#sound)) break;
      this.#head += 1;
    }
    return this.#head !== before;
  }

  close(): void {
    this.#head = this.#tail;
    this.#arena.unmap(this.#base, this.slots * SLOT_SIZE);
  }
}
