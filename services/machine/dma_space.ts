/**
 * One address space for DMA: which I/O addresses a device may use, and what memory is behind them.
 *
 * Every mapping starts at a multiple of 2 MiB and is followed by a hole, so running over the end of a
 * buffer pool is a fault and never the next pool. Looked up for every descriptor and frame: sorted
 * arrays, a cache of the last hit, no allocation.
 */
import { L4Error } from '#common/ipc/errors';

export const DMA_ALIGN = 2 * 1024 * 1024;
const PAGE = 4096;
/** First I/O address: not 0, so that a null pointer faults. */
const FIRST_ADDRESS = 0x1000_0000;
/** What the 82540EM's 64-bit descriptors and JavaScript's small integers both hold. */
const END_ADDRESS = 0x7000_0000;

/** Directions of DmaMapRequest. */
export const DMA_BIDIRECTIONAL = 0;
export const DMA_TO_DEVICE = 1;
export const DMA_FROM_DEVICE = 2;

interface Region {
  readonly start: number;
  readonly end: number;
  /** Arena offset = I/O address + delta. */
  readonly delta: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly onUnmap: () => void;
}

const NOWHERE: Region = { start: 0, end: 0, delta: 0, readable: false, writable: false, onUnmap: () => {} };

export class DmaSpace {
  /** Sorted by start; never overlapping. */
  readonly #regions: Region[] = [];
  #last: Region = NOWHERE;

  /**
   * Makes `size` bytes at arena offset `offset` visible to devices. Returns their I/O address.
   * `onUnmap` is called when the mapping ends. Throws EINVAL (bad range) or ENOMEM (space is full).
   */
  map(offset: number, size: number, direction: number, onUnmap: () => void = () => {}): number {
    checkRange('map', offset, size);
    if (![DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE].includes(direction)) {
      throw new L4Error(
        'EINVAL',
        `Cannot map for DMA as the direction must be 0..2: current value is ${direction}`,
      );
    }
    const { start, index } = this.#findHole(size);
    this.#regions.splice(index, 0, {
      start,
      end: start + size,
      delta: offset - start,
      readable: direction !== DMA_FROM_DEVICE,
      writable: direction !== DMA_TO_DEVICE,
      onUnmap,
    });
    return start;
  }

  /** Takes out all mappings inside the range. Throws EINVAL when it cuts through one or is empty. */
  unmap(address: number, size: number): void {
    checkRange('unmap', address, size);
    const end = address + size;
    const inside = this.#regions.filter((region) => region.start < end && region.end > address);
    const cut = inside.find((region) => region.start < address || region.end > end);
    if (cut) {
      throw new L4Error(
        'EINVAL',
        `Cannot unmap DMA range ${hex(address)}..${hex(end)} as it cuts the mapping ${hex(cut.start)}..${hex(cut.end)}: unmap whole mappings`,
      );
    }
    for (const region of inside) this.#remove(region);
  }

  unmapAll(): void {
    for (const region of [...this.#regions]) this.#remove(region);
  }

  /** Arena offset of `length` bytes at `address`, -1 when not all of them may be accessed that way. */
  translate(address: number, length: number, write: boolean): number {
    let region = this.#last;
    if (address < region.start || address + length > region.end) {
      region = this.#find(address);
      if (address + length > region.end) return -1;
      this.#last = region;
    }
    return (write ? region.writable : region.readable) ? address + region.delta : -1;
  }

  /** The region that contains `address`, else NOWHERE. */
  #find(address: number): Region {
    let low = 0;
    let high = this.#regions.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const region = this.#regions[middle] as Region;
      if (address < region.start) high = middle - 1;
      else if (address < region.end) return region;
      else low = middle + 1;
    }
    return NOWHERE;
  }

  #findHole(size: number): { start: number; index: number } {
    let start = FIRST_ADDRESS;
    let index = 0;
    for (const region of this.#regions) {
      if (start + size < region.start) break;
      start = Math.ceil((region.end + 1) / DMA_ALIGN) * DMA_ALIGN;
      index++;
    }
    if (start + size > END_ADDRESS) {
      throw new L4Error('ENOMEM', `Cannot map ${size} bytes for DMA as the space has no such free range`);
    }
    return { start, index };
  }

  #remove(region: Region): void {
    this.#regions.splice(this.#regions.indexOf(region), 1);
    if (this.#last === region) this.#last = NOWHERE;
    region.onUnmap();
  }
}

function checkRange(what: string, start: number, size: number): void {
  const valid = Number.isSafeInteger(start) && Number.isSafeInteger(size) && start >= 0 && size > 0;
  if (valid && start % PAGE === 0 && size % PAGE === 0) return;
  throw new L4Error(
    'EINVAL',
    `Cannot ${what} for DMA as start and size must be multiples of 4096 and the size not 0: current values are ${start} and ${size}`,
  );
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
