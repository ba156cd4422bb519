/**
 * Which port a MAC address was last seen on, per VLAN.
 *
 * An open-addressing hash (linear probing, at most half full) of integers: no allocation and about 6 ns for a
 * lookup. Entries also have a place in a round-robin list of `CAPACITY` slots: a new key takes the place at the
 * hand, whoever had it is forgotten, so the table never grows.
 *
 * With a greatest age, an entry that has not been seen for longer is passed over by `lookup`; it keeps its place until
 * it is seen again or makes room. Ages are compared when they matter: no timer runs.
 *
 * A key is two integers: `lo`, the last four bytes of the MAC, and `hi`, the first two bytes | VLAN << 16. Both are
 * kept as signed 32-bit words. The hash is seeded at random, so that a client cannot choose MACs that collide.
 */

/** Entries that the table holds. */
export const CAPACITY = 1024;
const BUCKETS = 2 * CAPACITY;
const MASK = BUCKETS - 1;
const SHIFT = 32 - Math.log2(BUCKETS);

// Words of a bucket: key, then port + 1 with the slot in the round-robin list above it (0: bucket is free), then when
// it was last seen. A bucket is a quarter of a cache line.
const LO = 0;
const HI = 1;
const PORT = 2;
const SEEN = 3;
const WORDS = 4;
const PORT_MASK = 0xffff;
const SLOT_SHIFT = 16;
const NO_BUCKET = -1;

/** What `learn` did. */
export const KNOWN = 0;
export const MOVED = 1;
export const LEARNED = 2;
export const REPLACED = 3;

/** Second key word of a MAC whose first two bytes (little-endian) are `macHi`. */
export function keyHi(macHi: number, vlan: number): number {
  return macHi | (vlan << 16);
}

export class MacTable {
  readonly #buckets = new Int32Array(BUCKETS * WORDS);
  /** Bucket that holds the entry of each slot. */
  readonly #slots = new Int32Array(CAPACITY).fill(NO_BUCKET);
  readonly #seedLo: number;
  readonly #seedHi: number;
  /** In seconds; 0: for ever. */
  readonly maxAge: number;
  /** Present time in seconds, as coarse as `maxAge`. */
  #now = 0;
  #hand = 0;
  #size = 0;

  /** `maxAge` in seconds: how long an address is known without being seen; 0: for ever. */
  constructor(seed = Math.floor(Math.random() * 0x1_0000_0000), maxAge = 0) {
    this.maxAge = maxAge;
    this.#seedLo = Math.imul(seed, 0x9e37_79b1) | 1;
    this.#seedHi = Math.imul(seed ^ 0x5bd1_e995, 0x85eb_ca6b) | 1;
  }

  /** Entries in the table. */
  get size(): number {
    return this.#size;
  }

  /** Do addresses grow old? Then `setTime` is to be called before a batch of frames. */
  get ages(): boolean {
    return this.maxAge > 0;
  }

  /** What `setTime` said last. */
  get now(): number {
    return this.#now;
  }

  /** Present time in whole seconds, from any start. */
  setTime(seconds: number): void {
    this.#now = seconds;
  }

  /** The port on which (lo, hi) was last seen, or -1. */
  lookup(lo: number, hi: number): number {
    const buckets = this.#buckets;
    const low = lo | 0;
    for (let bucket = this.#home(low, hi); ; bucket = (bucket + 1) & MASK) {
      const at = bucket * WORDS;
      const port = buckets[at + PORT] as number;
      if (port === 0) return -1;
      if (buckets[at + LO] === low && buckets[at + HI] === hi) {
        if (this.maxAge > 0 && this.#now - (buckets[at + SEEN] as number) > this.maxAge) return -1;
        return (port & PORT_MASK) - 1;
      }
    }
  }

  /** Remembers that (lo, hi) is on `port`. Returns KNOWN, MOVED, LEARNED or REPLACED (an older entry made room). */
  learn(lo: number, hi: number, port: number): number {
    const buckets = this.#buckets;
    const low = lo | 0;
    for (let bucket = this.#home(low, hi); ; bucket = (bucket + 1) & MASK) {
      const at = bucket * WORDS;
      const known = buckets[at + PORT] as number;
      if (known === 0) return this.#insert(low, hi, port);
      if (buckets[at + LO] !== low || buckets[at + HI] !== hi) continue;
      buckets[at + SEEN] = this.#now;
      if ((known & PORT_MASK) === port + 1) return KNOWN;
      buckets[at + PORT] = (known & ~PORT_MASK) | (port + 1);
      return MOVED;
    }
  }

  /** Forgets every address on `port`. Costs a walk over the table: for ports that go. */
  flush(port: number): void {
    for (let slot = 0; slot < CAPACITY; slot++) {
      const bucket = this.#slots[slot] as number;
      if (bucket !== NO_BUCKET && this.#portAt(bucket) === port) this.#remove(slot);
    }
  }

  #insert(lo: number, hi: number, port: number): number {
    const slot = this.#hand;
    this.#hand = (slot + 1) % CAPACITY;
    const replaces = this.#slots[slot] !== NO_BUCKET;
    if (replaces) this.#remove(slot);
    let bucket = this.#home(lo, hi);
    while (this.#buckets[bucket * WORDS + PORT] !== 0) bucket = (bucket + 1) & MASK;
    const at = bucket * WORDS;
    this.#buckets[at + LO] = lo;
    this.#buckets[at + HI] = hi;
    this.#buckets[at + PORT] = (slot << SLOT_SHIFT) | (port + 1);
    this.#buckets[at + SEEN] = this.#now;
    this.#slots[slot] = bucket;
    this.#size += 1;
    return replaces ? REPLACED : LEARNED;
  }

  /** Frees the slot's bucket and moves later entries of the same run up, so that no probe stops early. */
  #remove(slot: number): void {
    const buckets = this.#buckets;
    let hole = this.#slots[slot] as number;
    this.#slots[slot] = NO_BUCKET;
    this.#size -= 1;
    for (let bucket = (hole + 1) & MASK; buckets[bucket * WORDS + PORT] !== 0; bucket = (bucket + 1) & MASK) {
      const at = bucket * WORDS;
      const home = this.#home(buckets[at + LO] as number, buckets[at + HI] as number);
      if (((bucket - home) & MASK) < ((bucket - hole) & MASK)) continue;
      buckets.copyWithin(hole * WORDS, at, at + WORDS);
      this.#slots[(buckets[at + PORT] as number) >>> SLOT_SHIFT] = hole;
      hole = bucket;
    }
    buckets[hole * WORDS + PORT] = 0;
  }

  #portAt(bucket: number): number {
    return ((this.#buckets[bucket * WORDS + PORT] as number) & PORT_MASK) - 1;
  }

  #home(lo: number, hi: number): number {
    const mixed = Math.imul(lo, this.#seedLo) ^ Math.imul(hi, this.#seedHi);
    return Math.imul(mixed ^ (mixed >>> 15), 0x2c1b_3c6d) >>> SHIFT;
  }
}
