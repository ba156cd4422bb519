/**
 * Driver half of a split virtqueue in shared memory, for devices that are not trusted.
 *
 * We write the descriptor table and the avail ring, the device writes the used ring. All our state
 * (free list, what is with the device, how much it may write) is private: the shared memory is only
 * written, except used idx, used entries and the suppression word, each read once and checked. Memory
 * order [VIRTIO 1.2 §2.7.13, §2.7.14] as in `device_queue.ts`. `add`, `flush` and `pop` do not allocate.
 *
 * A chain's head (0..size-1) is its name: keep what belongs to a buffer in arrays indexed by it.
 */
import type { Memory } from '#common/memory';
import { RingError } from './errors.ts';
import { F_EVENT_IDX, type Features, hasFeature } from './features.ts';
import {
  AVAIL_F_NO_INTERRUPT,
  availBytes,
  checkLayout,
  DESC_F_NEXT,
  DESC_F_WRITE,
  descBytes,
  needsEvent,
  type QueueLayout,
  ringWords,
  USED_F_NO_NOTIFY,
  usedBytes,
} from './layout.ts';
import type { Pieces } from './pieces.ts';

const NO_DESC = 0xffff;

export class DriverQueue {
  readonly size: number;
  /** For messages: "rx", "queue 1". */
  readonly name: string;
  /** Bytes that the device wrote into the chain that `pop` returned last; never more than it had room for. */
  usedLength = 0;
  readonly #mask: number;
  readonly #eventIdx: boolean;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #desc: number; // index into #u32
  readonly #availFlags: number; // indices into #u16
  readonly #availIdx: number;
  readonly #availRing: number;
  readonly #usedEvent: number;
  readonly #usedFlags: number;
  readonly #usedIdx: number;
  readonly #availEvent: number;
  readonly #usedRing: number; // index into #u32

  /** Per descriptor: the one that follows, in the free list or in its chain. */
  readonly #next: Uint16Array;
  /** Per head: number of descriptors; 0 when no chain starts there. */
  readonly #length: Uint16Array;
  /** Per head: bytes that the device may write. */
  readonly #room: Float64Array;
  /** Per head: how manieth chain it was, mod 2^32. */
  readonly #serial: Uint32Array;
  #firstFree = 0;
  #free: number;
  /** Chains added so far, mod 2^32; the low 16 bits are the next avail idx. */
  #added = 0;
  /** The same, as the device sees it. */
  #published = 0;
  /** used idx up to which we have popped, and up to which the device is known to have written. */
  #seen = 0;
  #known = 0;
  #broken: RingError | undefined;

  /** `layout` holds offsets in `memory`, which is ours: the three areas are set to zero. */
  constructor(memory: Memory, layout: QueueLayout, features: Features, name = 'queue') {
    checkLayout(layout, memory.buffer.byteLength);
    const { size } = layout;
    this.size = size;
    this.name = name;
    this.#mask = size - 1;
    this.#eventIdx = hasFeature(features, F_EVENT_IDX);
    this.#u16 = memory.u16;
    this.#u32 = memory.u32;
    this.#desc = layout.desc / 4;
    // Fields of our own: one load each on the way of every chain.
    const words = ringWords(layout);
    this.#availFlags = words.availFlags;
    this.#availIdx = words.availIdx;
    this.#availRing = words.availRing;
    this.#usedEvent = words.usedEvent;
    this.#usedFlags = words.usedFlags;
    this.#usedIdx = words.usedIdx;
    this.#availEvent = words.availEvent;
    this.#usedRing = words.usedRing;
    this.#next = new Uint16Array(size);
    for (let i = 0; i < size; i++) this.#next[i] = i + 1 < size ? i + 1 : NO_DESC;
    this.#length = new Uint16Array(size);
    this.#room = new Float64Array(size);
    this.#serial = new Uint32Array(size);
    this.#free = size;
    memory.u8.fill(0, layout.desc, layout.desc + descBytes(size));
    memory.u8.fill(0, layout.avail, layout.avail + availBytes(size));
    memory.u8.fill(0, layout.used, layout.used + usedBytes(size));
  }

  /** Number of free descriptors. */
  get free(): number {
    return this.#free;
  }

  /** Why the queue cannot be used any more; undefined while it can. Reset the device. */
  get broken(): RingError | undefined {
    return this.#broken;
  }

  /** Number of chains that are with the device. */
  get outstanding(): number {
    return (this.#published - this.#seen) & 0xffff;
  }

  /** True when the device has used all chains that it was given: for more it has had none. Checks nothing. */
  get exhausted(): boolean {
    return Atomics.load(this.#u16, this.#usedIdx) === (this.#published & 0xffff) && this.outstanding > 0;
  }

  /**
   * Offers one buffer: device address, bytes, whether the device writes it. Returns its head, or -1 when
   * no descriptor is free. The device does not see it before `flush`.
   */
  add(address: number, len: number, writable: boolean): number {
    const head = this.#firstFree;
    if (this.#free === 0) return -1;
    this.#firstFree = this.#next[head] as number;
    this.#free -= 1;
    this.#writeDesc(head, address, len, writable ? DESC_F_WRITE : 0, 0);
    this.#offer(head, 1, writable ? len : 0);
    return head;
  }

  /** Offers a chain of buffers, at least one. Returns its head, or -1 when too few descriptors are free. */
  addChain(pieces: Pieces): number {
    const { count } = pieces;
    if (count === 0)
      throw new RangeError(`Cannot add chain to ${this.name} as it must have at least one piece`);
    if (count > this.#free) return -1;
    const head = this.#firstFree;
    let i = head;
    let room = 0;
    for (let n = 0; n < count; n++) {
      const len = pieces.len[n] as number;
      const next = this.#next[i] as number;
      let flags = n + 1 < count ? DESC_F_NEXT : 0;
      if (pieces.writable[n] === 1) {
        flags |= DESC_F_WRITE;
        room += len;
      }
      this.#writeDesc(i, pieces.address[n] as number, len, flags, n + 1 < count ? next : 0);
      this.#firstFree = next;
      i = next;
    }
    this.#free -= count;
    this.#offer(head, count, room);
    return head;
  }

  /**
   * Shows the device all chains added. True when it is to be notified: by the flag of the used ring, or
   * with EVENT_IDX by avail_event [VIRTIO 1.2 §2.7.10.1].
   */
  flush(): boolean {
    const before = this.#published;
    const now = this.#added;
    if (now === before) return false;
    this.#published = now;
    // The store must be visible before the peer's word is read, which only Atomics guarantee.
    Atomics.store(this.#u16, this.#availIdx, now & 0xffff);
    if (this.#eventIdx)
      return needsEvent(Atomics.load(this.#u16, this.#availEvent), now & 0xffff, before & 0xffff);
    return (Atomics.load(this.#u16, this.#usedFlags) & USED_F_NO_NOTIFY) === 0;
  }

  /**
   * Takes back the next chain that the device has done with, its descriptors are free again. Returns
   * its head and sets `usedLength`; -1 when there is none.
   * Throws RingError when the device broke a rule, and from then on whenever it is called.
   */
  pop(): number {
    if (this.#seen === this.#known && !this.#look()) return -1;
    const word = this.#usedRing + (this.#seen & this.#mask) * 2;
    const id = this.#u32[word] as number;
    const len = this.#u32[word + 1] as number;
    if (id >= this.size)
      this.#break('VIRTIO_DESCRIPTOR', `used id must be 0..${this.#mask}: current value is ${id}`);
    const length = this.#length[id] as number;
    // A chain that was added but not published is not with the device either.
    const age = (this.#added - (this.#serial[id] as number)) >>> 0;
    if (length === 0 || age <= (this.#added - this.#published) >>> 0) {
      this.#break(
        'VIRTIO_DESCRIPTOR',
        `used id must name a chain that the device has: current value is ${id}`,
      );
    }
    const room = this.#room[id] as number;
    if (len > room)
      this.#break(
        'VIRTIO_LENGTH',
        `used length of chain ${id} may be at most ${room}: current value is ${len}`,
      );
    this.#release(id, length);
    this.usedLength = len;
    this.#seen = (this.#seen + 1) & 0xffff;
    return id;
  }

  /** Tells the device that we look by ourselves. Advice only: it may interrupt nevertheless. */
  disableInterrupts(): void {
    // With EVENT_IDX the flag stays 0 and the event is an entry that has been passed already.
    if (this.#eventIdx) this.#u16[this.#usedEvent] = this.#seen - 1;
    else this.#u16[this.#availFlags] = AVAIL_F_NO_INTERRUPT;
  }

  /** Asks for an interrupt with the next used chain. True when some wait already: none may come for those. */
  enableInterrupts(): boolean {
    if (this.#eventIdx) Atomics.store(this.#u16, this.#usedEvent, this.#seen);
    else Atomics.store(this.#u16, this.#availFlags, 0);
    return Atomics.load(this.#u16, this.#usedIdx) !== this.#seen;
  }

  /** Reads used idx, once. True when there is something to pop. */
  #look(): boolean {
    if (this.#broken) throw this.#broken;
    const idx = Atomics.load(this.#u16, this.#usedIdx);
    const pending = (idx - this.#seen) & 0xffff;
    if (pending > this.outstanding) {
      this.#break(
        'VIRTIO_INDEX',
        `used idx may be at most ${this.outstanding} ahead of ${this.#seen}: current value is ${idx}`,
      );
    }
    this.#known = idx;
    return pending !== 0;
  }

  #writeDesc(i: number, address: number, len: number, flags: number, next: number): void {
    const word = this.#desc + i * 4;
    this.#u32[word] = address;
    this.#u32[word + 1] = address < 4294967296 ? 0 : Math.floor(address / 4294967296);
    this.#u32[word + 2] = len;
    this.#u32[word + 3] = flags | (next << 16);
  }

  #offer(head: number, length: number, room: number): void {
    this.#length[head] = length;
    this.#room[head] = room;
    this.#serial[head] = this.#added;
    this.#u16[this.#availRing + (this.#added & this.#mask)] = head;
    this.#added = (this.#added + 1) >>> 0;
  }

  #release(head: number, length: number): void {
    this.#length[head] = 0;
    let last = head;
    for (let n = 1; n < length; n++) last = this.#next[last] as number;
    this.#next[last] = this.#firstFree;
    this.#firstFree = head;
    this.#free += length;
  }

  #break(code: RingError['code'], why: string): never {
    this.#broken = new RingError(code, `Cannot take chain from ${this.name} as ${why}`);
    // Whoever pops again meets the error again.
    this.#known = this.#seen;
    throw this.#broken;
  }
}
