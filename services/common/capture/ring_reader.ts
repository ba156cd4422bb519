/** The reader's half of a capture ring (ring.ts). What the switch wrote is checked before it is used. */
import type { Memory } from '../memory.ts';
import { dataOffset, FILLER, INTERFACE, NOT_DROPPED, RECORD, RING, ringBytes } from './ring.ts';

/** The record that `next` has found; overwritten by the next call. */
export interface RingRecord {
  interfaceId: number;
  /** INBOUND or OUTBOUND. */
  direction: number;
  /** -1, or the one of DROP for which the frame was not forwarded or delivered. */
  reason: number;
  seconds: number;
  nanoseconds: number;
  /** Offset of the bytes in the memory; they stay until `release`. */
  at: number;
  captured: number;
  /** Length of the frame on the port. */
  original: number;
}

/** The ring is not what the switch promised. */
export class RingBroken extends Error {
  override readonly name = 'RingBroken';
  readonly code = 'CAPTURE_RING';
}

export class RingReader {
  readonly record: RingRecord = {
    interfaceId: 0,
    direction: 0,
    reason: -1,
    seconds: 0,
    nanoseconds: 0,
    at: 0,
    captured: 0,
    original: 0,
  };
  readonly #memory: Memory;
  readonly #at: number;
  readonly #data: number;
  readonly #capacity: number;
  readonly #interfaces: number;
  #tail = 0;

  /** `bytes` of shared memory at `at`: a ring of that many interfaces. */
  constructor(memory: Memory, at: number, bytes: number, interfaces: number) {
    const capacity = bytes - dataOffset(interfaces);
    if (capacity <= 0 || ringBytes(interfaces, capacity) !== bytes || (capacity & (capacity - 1)) !== 0)
      throw new RingBroken(`Cannot read capture ring as its size is impossible: current value is ${bytes}`);
    this.#memory = memory;
    this.#at = at;
    this.#data = at + dataOffset(interfaces);
    this.#capacity = capacity;
    this.#interfaces = interfaces;
  }

  /** True when there was a frame: it is in `record`. Throws RingBroken. */
  next(): boolean {
    const { u32 } = this.#memory;
    for (let fillers = 0; fillers < 2; fillers++) {
      const waiting = (Atomics.load(u32, (this.#at + RING.HEAD) >>> 2) - this.#tail) >>> 0;
      if (waiting === 0) return false;
      const offset = this.#tail & (this.#capacity - 1);
      const at = this.#data + offset;
      const size = u32[(at + RECORD.SIZE) >>> 2] as number;
      const captured = u32[(at + RECORD.CAPTURED) >>> 2] as number;
      if (size === 0 || size % 8 !== 0 || size > waiting || offset + size > this.#capacity)
        throw new RingBroken(`Cannot read capture ring as a record has an impossible size: ${size}`);
      this.#tail = (this.#tail + size) >>> 0;
      if (captured === FILLER) continue;
      this.#take(at, size, captured);
      return true;
    }
    throw new RingBroken('Cannot read capture ring as it has no frames');
  }

  /** Gives the room of all frames so far back to the switch. */
  release(): void {
    Atomics.store(this.#memory.u32, (this.#at + RING.TAIL) >>> 2, this.#tail);
  }

  /** Asks for the doorbell with the next frame. True when there is one already: none may be rung for it. */
  arm(): boolean {
    const { u32 } = this.#memory;
    Atomics.store(u32, (this.#at + RING.ASLEEP) >>> 2, 1);
    const empty = Atomics.load(u32, (this.#at + RING.HEAD) >>> 2) === this.#tail;
    if (!empty) Atomics.store(u32, (this.#at + RING.ASLEEP) >>> 2, 0);
    return !empty;
  }

  /** The port of that interface is gone; frames of it may still wait. */
  ended(interfaceId: number): boolean {
    return Atomics.load(this.#memory.u32, (this.#entry(interfaceId) + INTERFACE.ENDED) >>> 2) !== 0;
  }

  /** Frames of the port since the capture began, and how many of them found no room. */
  counts(interfaceId: number): { seen: number; lost: number } {
    const { view } = this.#memory;
    const at = this.#entry(interfaceId);
    return {
      seen: view.getFloat64(at + INTERFACE.SEEN, true),
      lost: view.getFloat64(at + INTERFACE.LOST, true),
    };
  }

  #take(at: number, size: number, captured: number): void {
    const { u8, u16, u32 } = this.#memory;
    const { record } = this;
    record.interfaceId = u16[(at + RECORD.INTERFACE) >>> 1] as number;
    if (RECORD.DATA + captured > size || record.interfaceId >= this.#interfaces)
      throw new RingBroken(
        `Cannot read capture ring as a record does not fit its frame of ${captured} bytes`,
      );
    const reason = u8[at + RECORD.REASON] as number;
    record.reason = reason === NOT_DROPPED ? -1 : reason;
    record.direction = u8[at + RECORD.DIRECTION] as number;
    record.seconds = u32[(at + RECORD.SECONDS) >>> 2] as number;
    record.nanoseconds = u32[(at + RECORD.NANOSECONDS) >>> 2] as number;
    record.original = u32[(at + RECORD.ORIGINAL) >>> 2] as number;
    record.captured = captured;
    record.at = at + RECORD.DATA;
  }

  #entry(interfaceId: number): number {
    return this.#at + RING.INTERFACES + interfaceId * INTERFACE.SIZE;
  }
}
