/**
 * Which device addresses lead to which bytes: the memory that a driver has registered (F4.4).
 *
 *   device addresses [base, base + size)  ->  our Memory [where, where + size)
 *
 * A range must lie in one region as a whole. The original does not check for overlaps and takes the
 * first region that fits; here an overlap is refused. Regions survive a device reset as they do
 * there, but they are *stale* from then on: a driver that starts anew in the same address range
 * replaces them, instead of talking to the memory of its predecessor. Numbers are bytes.
 */
import { VirtioError } from './errors.ts';

/** What gives the memory of a region back. */
export interface RegionOwner {
  /** The memory was taken away: what is there now is shared with nobody. */
  readonly lost?: boolean;
  close(): void;
}

const NOTHING: RegionOwner = { close: () => {} };

export class Regions {
  /** ds-max: the largest number of regions. */
  readonly max: number;
  /** Whether the range that `translate` found last may be written. */
  hitWritable = false;
  // Doubles are exact up to 2^53; free slots never match: their base is infinite.
  readonly #base: Float64Array;
  readonly #end: Float64Array;
  readonly #where: Float64Array;
  readonly #writable: Uint8Array;
  readonly #stale: Uint8Array;
  readonly #owner: RegionOwner[] = [];
  #count = 0;
  #last = 0;

  constructor(max: number) {
    this.max = max;
    const slots = Math.max(max, 1);
    this.#base = new Float64Array(slots).fill(Number.POSITIVE_INFINITY);
    this.#end = new Float64Array(slots).fill(-1);
    this.#where = new Float64Array(slots);
    this.#writable = new Uint8Array(slots);
    this.#stale = new Uint8Array(slots);
  }

  get count(): number {
    return this.#count;
  }

  /**
   * The offset in our memory of [hi:lo, hi:lo + len), or -1 when it does not lie in one region.
   * `lo`, `hi` and `len` are unsigned 32-bit numbers. Sets `hitWritable`. Does not allocate.
   */
  translate(lo: number, hi: number, len: number): number {
    const address = hi * 4294967296 + lo;
    const last = this.#last;
    const base = this.#base[last] as number;
    if (address >= base && address + len <= (this.#end[last] as number)) {
      return address - base + (this.#where[last] as number);
    }
    return this.#search(address, len);
  }

  /** `translate` for an address in one number. */
  find(address: number, len: number): number {
    return Number.isSafeInteger(address) && address >= 0 ? this.#search(address, len) : -1;
  }

  /**
   * Registers device addresses [base, base + size) as our memory from `where` on.
   * Throws VirtioError EINVAL (not a range of addresses, overlap with a living region) or ENOMEM (full);
   * `owner` is closed when the region goes, not when this throws.
   */
  add(base: number, size: number, where: number, writable: boolean, owner: RegionOwner = NOTHING): void {
    const end = base + size;
    this.check(base, size);
    this.drop(base, size);
    const i = this.#count++;
    this.#base[i] = base;
    this.#end[i] = end;
    this.#where[i] = where;
    this.#writable[i] = writable ? 1 : 0;
    this.#stale[i] = 0;
    this.#owner[i] = owner;
    this.#select(i);
  }

  /** Throws what `add` would throw. */
  check(base: number, size: number): void {
    const end = base + size;
    if (!Number.isSafeInteger(base) || base < 0 || !(size > 0) || !Number.isSafeInteger(end)) {
      throw new VirtioError(
        'EINVAL',
        `Cannot register memory as base and size must be a range of addresses below 2^53: current value is ${base} + ${size}`,
      );
    }
    let replaced = 0;
    for (let i = 0; i < this.#count; i++) {
      if (!this.#overlaps(i, base, end)) continue;
      if (this.#stale[i] === 0) {
        throw new VirtioError(
          'EINVAL',
          `Cannot register memory at ${range(base, end)} as it must not overlap what is registered: ${range(this.#base[i] as number, this.#end[i] as number)}`,
        );
      }
      replaced += 1;
    }
    if (this.#count - replaced >= this.max) {
      throw new VirtioError(
        'ENOMEM',
        `Cannot register memory at ${range(base, end)} as at most ds-max=${this.max} dataspaces may be registered: give the port a larger ds-max`,
      );
    }
  }

  /** Forgets the regions that overlap device addresses [base, base + size). */
  drop(base: number, size: number): void {
    for (let i = this.#count - 1; i >= 0; i--) if (this.#overlaps(i, base, base + size)) this.#remove(i);
    this.#select(0);
  }

  /** After a reset: what is registered stays, and may be replaced. */
  markStale(): void {
    this.#stale.fill(1, 0, this.#count);
  }

  /** The driver builds on what is registered: it may not be replaced any more. */
  keep(): void {
    this.#stale.fill(0, 0, this.#count);
  }

  /** Forgets the regions whose memory was taken away. Returns how many they were. */
  dropLost(): number {
    const before = this.#count;
    for (let i = before - 1; i >= 0; i--) if (this.#owner[i]?.lost === true) this.#remove(i);
    this.#select(0);
    return before - this.#count;
  }

  /** Forgets all regions and closes their owners. */
  clear(): void {
    while (this.#count > 0) this.#remove(this.#count - 1);
  }

  #search(address: number, len: number): number {
    for (let i = 0; i < this.#count; i++) {
      const base = this.#base[i] as number;
      if (address < base || address + len > (this.#end[i] as number)) continue;
      this.#select(i);
      return address - base + (this.#where[i] as number);
    }
    return -1;
  }

  #select(i: number): void {
    this.#last = i;
    this.hitWritable = this.#writable[i] === 1;
  }

  #overlaps(i: number, base: number, end: number): boolean {
    return base < (this.#end[i] as number) && (this.#base[i] as number) < end;
  }

  /** The last region takes the slot. The caller selects afresh, or has none left. */
  #remove(i: number): void {
    const owner = this.#owner[i] as RegionOwner;
    const last = --this.#count;
    this.#base[i] = this.#base[last] as number;
    this.#end[i] = this.#end[last] as number;
    this.#where[i] = this.#where[last] as number;
    this.#writable[i] = this.#writable[last] as number;
    this.#stale[i] = this.#stale[last] as number;
    this.#owner[i] = this.#owner[last] as RegionOwner;
    this.#base[last] = Number.POSITIVE_INFINITY;
    this.#end[last] = -1;
    this.#owner.length = last;
    owner.close();
  }
}

function range(base: number, end: number): string {
  return `0x${base.toString(16)}..0x${(end - 1).toString(16)}`;
}
