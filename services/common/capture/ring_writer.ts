/** The switch's half of a capture ring (ring.ts). Nothing is allocated per frame, and no frame is waited for. */
import type { Memory } from '../memory.ts';
import { dataOffset, FILLER, INTERFACE, NOT_DROPPED, RECORD, RING, ringBytes } from './ring.ts';

/** Bytes that a record's data may be written over its end before the record is complete. */
export const SLACK = 4;

export class RingWriter {
  readonly #memory: Memory;
  readonly #at: number;
  readonly #data: number;
  readonly #capacity: number;
  readonly #ring: () => void;
  #head = 0;
  /** Where the record that is being written begins and ends. */
  #begin = 0;
  #end = 0;

  /** `at` is the offset of zeroed, shared memory of `ringBytes(interfaces, capacity)`; `ring` wakes the reader. */
  constructor(memory: Memory, at: number, interfaces: number, capacity: number, ring: () => void) {
    if (at % 8 !== 0 || (capacity & (capacity - 1)) !== 0 || ringBytes(interfaces, capacity) <= capacity) {
      throw new RangeError(
        `Cannot make capture ring as its capacity must be a power of two: current value is ${capacity}`,
      );
    }
    this.#memory = memory;
    this.#at = at;
    this.#data = at + dataOffset(interfaces);
    this.#capacity = capacity;
    this.#ring = ring;
  }

  /**
   * A frame of `interfaceId` of which `captured` bytes are to be kept: returns where they go (SLACK more may be written
   * over), or -1 when there is no room: the frame is counted as lost. `commit` is to follow.
   */
  begin(interfaceId: number, captured: number): number {
    this.#count(interfaceId, INTERFACE.SEEN);
    const { u32 } = this.#memory;
    const size = (RECORD.DATA + captured + SLACK + 7) & ~7;
    const at = this.#head & (this.#capacity - 1);
    const room = this.#capacity - at;
    const filler = room < size ? room : 0;
    const used = (this.#head - Atomics.load(u32, (this.#at + RING.TAIL) >>> 2)) >>> 0;
    // A tail that lies leaves no room, at worst for ever: the reader's own loss.
    if (used + filler + size > this.#capacity) {
      this.#count(interfaceId, INTERFACE.LOST);
      return -1;
    }
    if (filler > 0) {
      u32[(this.#data + at + RECORD.SIZE) >>> 2] = filler;
      u32[(this.#data + at + RECORD.CAPTURED) >>> 2] = FILLER;
    }
    this.#begin = this.#data + ((this.#head + filler) & (this.#capacity - 1));
    this.#end = (this.#head + filler + size) >>> 0;
    u32[(this.#begin + RECORD.SIZE) >>> 2] = size;
    u32[(this.#begin + RECORD.CAPTURED) >>> 2] = captured;
    return this.#begin + RECORD.DATA;
  }

  /** The frame's bytes are there: shows it to the reader. `reason` is -1 or one of DROP. */
  commit(
    interfaceId: number,
    original: number,
    direction: number,
    reason: number,
    seconds: number,
    nanoseconds: number,
  ): void {
    const { u8, u16, u32 } = this.#memory;
    const at = this.#begin;
    u32[(at + RECORD.ORIGINAL) >>> 2] = original;
    u16[(at + RECORD.INTERFACE) >>> 1] = interfaceId;
    u8[at + RECORD.DIRECTION] = direction;
    u8[at + RECORD.REASON] = reason < 0 ? NOT_DROPPED : reason;
    u32[(at + RECORD.SECONDS) >>> 2] = seconds;
    u32[(at + RECORD.NANOSECONDS) >>> 2] = nanoseconds;
    this.#head = this.#end;
    Atomics.store(u32, (this.#at + RING.HEAD) >>> 2, this.#end);
    this.#wake();
  }

  /** The port of an interface is gone. */
  end(interfaceId: number): void {
    Atomics.store(this.#memory.u32, (this.#entry(interfaceId) + INTERFACE.ENDED) >>> 2, 1);
    this.#wake();
  }

  #wake(): void {
    const asleep = (this.#at + RING.ASLEEP) >>> 2;
    if (Atomics.load(this.#memory.u32, asleep) === 0) return;
    Atomics.store(this.#memory.u32, asleep, 0);
    this.#ring();
  }

  #count(interfaceId: number, what: number): void {
    const { view } = this.#memory;
    const at = this.#entry(interfaceId) + what;
    view.setFloat64(at, view.getFloat64(at, true) + 1, true);
  }

  #entry(interfaceId: number): number {
    return this.#at + RING.INTERFACES + interfaceId * INTERFACE.SIZE;
  }
}
