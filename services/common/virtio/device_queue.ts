/**
 * Device half of a split virtqueue in shared memory, for drivers that are not trusted.
 *
 * The driver writes the descriptor table and the avail ring, we write the used ring; we never read
 * back what we wrote there, for the driver could have changed it. Memory order [VIRTIO 1.2 §2.7.13]: only the
 * two indices and the suppression words are touched with Atomics, one operation per batch; a load of
 * the peer's index acquires all it wrote before, a store of ours releases all we wrote.
 * `pop`, `push`, `rewind` and `flush` do not allocate.
 */
import type { Memory } from '#common/memory';
import { Chain } from './chain.ts';
import { RingError } from './errors.ts';
import { F_EVENT_IDX, F_INDIRECT_DESC, type Features, hasFeature } from './features.ts';
import {
  AVAIL_F_NO_INTERRUPT,
  checkLayout,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  DESC_SIZE,
  needsEvent,
  type QueueLayout,
  ringWords,
  USED_F_NO_NOTIFY,
} from './layout.ts';
import type { Regions } from './regions.ts';

/** [VIRTIO 1.2 §2.7.5.2] */
const MAX_CHAIN_BYTES = 2 ** 32;

export class DeviceQueue {
  readonly size: number;
  /** For messages: "rx", "queue 1". */
  readonly name: string;
  readonly #mask: number;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #regions: Regions;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #view: DataView;
  readonly #desc: number; // byte offset
  readonly #availFlags: number; // indices into #u16
  readonly #availIdx: number;
  readonly #availRing: number;
  readonly #usedEvent: number;
  readonly #usedFlags: number;
  readonly #usedIdx: number;
  readonly #availEvent: number;
  readonly #usedRing: number; // index into #u32

  /** avail idx up to which the driver is known to have published. */
  #known = 0;
  /** Next avail entry that `pop` takes. */
  #seen = 0;
  /** Next used entry that `push` writes. */
  #used = 0;
  /** used idx as the driver sees it. */
  #shown = 0;

  /** `layout` holds offsets in `memory`; its areas must lie in registered memory, used in writable memory. */
  constructor(memory: Memory, layout: QueueLayout, features: Features, regions: Regions, name = 'queue') {
    checkLayout(layout, memory.buffer.byteLength);
    const { size } = layout;
    this.size = size;
    this.name = name;
    this.#mask = size - 1;
    this.#eventIdx = hasFeature(features, F_EVENT_IDX);
    this.#indirect = hasFeature(features, F_INDIRECT_DESC);
    this.#regions = regions;
    this.#u16 = memory.u16;
    this.#u32 = memory.u32;
    this.#view = memory.view;
    this.#desc = layout.desc;
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
  }

  /** A chain that is large enough for any of this queue. */
  newChain(): Chain {
    return new Chain(this.size);
  }

  /** Number of chains that wait for `pop`, looked up afresh. Throws RingError when the avail idx is impossible. */
  available(): number {
    this.#look();
    return (this.#known - this.#seen) & 0xffff;
  }

  /** True when at least so many chains wait for `pop`; looks only when those known are fewer. Throws as `available`. */
  holds(count: number): boolean {
    return ((this.#known - this.#seen) & 0xffff) >= count || this.available() >= count;
  }

  /** True when chains seem to wait for `pop`. Checks nothing: that is `pop`'s work. */
  get hasAvailable(): boolean {
    return Atomics.load(this.#u16, this.#availIdx) !== this.#seen;
  }

  /**
   * Takes the next available chain into `chain`; false when the driver has given us none.
   * Throws RingError when the driver broke a rule: nothing is taken then, and the device is to be stopped.
   */
  pop(chain: Chain): boolean {
    if (this.#seen === this.#known && !this.#look()) return false;
    this.#walk(this.#u16[this.#availRing + (this.#seen & this.#mask)] as number, chain);
    this.#seen = (this.#seen + 1) & 0xffff;
    return true;
  }

  /** Gives the last `count` popped chains back, none of them pushed; the next `pop` returns the first of them again. */
  rewind(count: number): void {
    if (count < 0 || count > this.inFlight) {
      throw new RangeError(
        `Cannot rewind ${this.name} as at most the ${this.inFlight} chains taken can be given back: current value is ${count}`,
      );
    }
    this.#seen = (this.#seen - count) & 0xffff;
  }

  /** Returns a chain with the number of bytes written into it. The driver does not see it before `flush`. */
  push(head: number, written: number): void {
    if (this.#used === this.#seen)
      throw new RangeError(`Cannot push to ${this.name} more chains than were popped`);
    const word = this.#usedRing + (this.#used & this.#mask) * 2;
    this.#u32[word] = head;
    this.#u32[word + 1] = written;
    this.#used = (this.#used + 1) & 0xffff;
  }

  /**
   * Shows the driver all pushed chains. True when it is to be interrupted: by the flag of the avail
   * ring, or with EVENT_IDX by used_event [VIRTIO 1.2 §2.7.7.2].
   */
  flush(): boolean {
    const before = this.#shown;
    const now = this.#used;
    if (now === before) return false;
    this.#shown = now;
    // The store must be visible before the peer's word is read, which only Atomics guarantee.
    Atomics.store(this.#u16, this.#usedIdx, now);
    if (this.#eventIdx) return needsEvent(Atomics.load(this.#u16, this.#usedEvent), now, before);
    return (Atomics.load(this.#u16, this.#availFlags) & AVAIL_F_NO_INTERRUPT) === 0;
  }

  /** Number of chains popped and not pushed yet. */
  get inFlight(): number {
    return (this.#seen - this.#used) & 0xffff;
  }

  /** Tells the driver that we look by ourselves. Advice only: it may notify nevertheless. */
  disableNotifications(): void {
    // With EVENT_IDX the flag stays 0 and the event is an entry that has been passed already.
    if (this.#eventIdx) this.#u16[this.#availEvent] = this.#seen - 1;
    else this.#u16[this.#usedFlags] = USED_F_NO_NOTIFY;
  }

  /** Asks for a notification with the next chain. True when chains wait already: none may come for those. */
  enableNotifications(): boolean {
    if (this.#eventIdx) Atomics.store(this.#u16, this.#availEvent, this.#seen);
    else Atomics.store(this.#u16, this.#usedFlags, 0);
    return this.hasAvailable;
  }

  /** Reads avail idx, once. True when there is something to pop. */
  #look(): boolean {
    const idx = Atomics.load(this.#u16, this.#availIdx);
    const pending = (idx - this.#seen) & 0xffff;
    // Each chain takes at least one of `size` descriptors, those that we still hold included.
    if (pending > this.size - this.inFlight) {
      throw new RingError(
        'VIRTIO_INDEX',
        `Cannot pop chain from ${this.name} as avail idx may be at most ${this.size - this.inFlight} ahead of ${this.#seen}: current value is ${idx}`,
      );
    }
    this.#known = idx;
    return pending !== 0;
  }

  #walk(head: number, chain: Chain): void {
    let table = this.#desc;
    let entries = this.size;
    let i = head;
    const bound = Math.min(this.size, chain.where.length);
    const view = this.#view;
    let nested = false;
    chain.begin(head);
    while (chain.count < bound) {
      if (i >= entries)
        this.#refuse(
          'VIRTIO_DESCRIPTOR',
          head,
          `a descriptor must be 0..${entries - 1}: current value is ${i}`,
        );
      const at = table + i * DESC_SIZE;
      // Each word once, flags and next together: what was checked is what is used.
      const lo = view.getUint32(at, true);
      const hi = view.getUint32(at + 4, true);
      const len = view.getUint32(at + 8, true);
      const link = view.getUint32(at + 12, true);
      if ((link & DESC_F_INDIRECT) !== 0) {
        if (nested) this.#refuse('VIRTIO_INDIRECT', head, 'an indirect table must not name another one');
        table = this.#enterTable(head, lo, hi, len, link);
        entries = len / DESC_SIZE;
        nested = true;
        i = 0;
        continue;
      }
      this.#addPiece(chain, lo, hi, len, link & DESC_F_WRITE);
      if ((link & DESC_F_NEXT) === 0) return;
      i = link >>> 16;
    }
    this.#refuse(
      'VIRTIO_CHAIN',
      head,
      `a chain may have at most ${bound} descriptors: it is longer or loops`,
    );
  }

  /** [VIRTIO 1.2 §2.7.5.3] Byte offset of an indirect table, which ends a chain: most often it is all of it. */
  #enterTable(head: number, lo: number, hi: number, len: number, link: number): number {
    if (!this.#indirect) this.#refuse('VIRTIO_INDIRECT', head, 'INDIRECT_DESC was not negotiated');
    if ((link & DESC_F_NEXT) !== 0)
      this.#refuse('VIRTIO_INDIRECT', head, 'an indirect descriptor must not have NEXT');
    if (len === 0 || len % DESC_SIZE !== 0) {
      this.#refuse(
        'VIRTIO_INDIRECT',
        head,
        `the length of an indirect table must be a multiple of 16: current value is ${len}`,
      );
    }
    const where = this.#regions.translate(lo, hi, len);
    if (where < 0) this.#refuseAddress(head, 'an indirect table', lo, hi, len);
    return where;
  }

  #addPiece(chain: Chain, lo: number, hi: number, len: number, write: number): void {
    const n = chain.count;
    const regions = this.#regions;
    const where = regions.translate(lo, hi, len);
    if (where < 0) this.#refuseAddress(chain.head, 'a buffer', lo, hi, len);
    if (write !== 0) {
      if (!regions.hitWritable) {
        this.#refuse(
          'VIRTIO_RIGHTS',
          chain.head,
          `a buffer to be written must lie in writable memory: current address is ${hex(lo, hi)}`,
        );
      }
      chain.writable[n] = 1;
    } else {
      chain.writable[n] = 0;
    }
    chain.where[n] = where;
    chain.len[n] = len;
    chain.bytes += len;
    if (chain.bytes > MAX_CHAIN_BYTES)
      this.#refuse('VIRTIO_CHAIN', chain.head, 'a chain may have at most 2^32 bytes');
    chain.count = n + 1;
  }

  #refuseAddress(head: number, what: string, lo: number, hi: number, len: number): never {
    this.#refuse(
      'VIRTIO_ADDRESS',
      head,
      `${what} must lie inside one registered region: current value is ${hex(lo, hi)} + ${len}`,
    );
  }

  #refuse(code: RingError['code'], head: number, why: string): never {
    throw new RingError(code, `Cannot pop chain ${head} from ${this.name} as ${why}`);
  }
}

function hex(lo: number, hi: number): string {
  return hi === 0 ? `0x${lo.toString(16)}` : `0x${hi.toString(16)}${lo.toString(16).padStart(8, '0')}`;
}
