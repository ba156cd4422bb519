/**
 * One reserved range of addresses in which every mapping of the process lies.
 *
 * All shared and private data-plane memory is thus one ArrayBuffer: a frame is copied between two
 * processes' files with one `copyWithin`, and an address is a small integer everywhere. Reserving
 * costs nothing until pages are used. Views of native memory cannot be revoked in JavaScript, so an
 * unmapped range is replaced by zero pages: a late touch reads zeros instead of ending the process. So is a mapping
 * whose file was truncated under us (`bus_guard.ts`).
 */
import { L4Error } from '#common/ipc/errors';
import { Memory } from '#common/memory';
import { guard, isLost, losses, unguard } from './bus_guard.ts';
import * as libc from './libc.ts';

export const PAGE_SIZE = 4096;
const DEFAULT_BYTES = 2 ** 30;
/** Indices stay below 2^31: V8 keeps them as small integers. */
const MAX_BYTES = 2 ** 31 - PAGE_SIZE;

/** Rounds a byte count up to whole pages. */
export function pageRound(size: number): number {
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

interface Hole {
  offset: number;
  size: number;
}

export class Arena extends Memory {
  /** Native address of byte 0; native pointer = address + offset. */
  readonly address: number;
  /** Free ranges, sorted by offset, never touching each other. */
  readonly #holes: Hole[];

  /** Reserves `bytes` (at most 2 GiB - 4 KiB) of addresses. */
  constructor(bytes: number = DEFAULT_BYTES) {
    const size = pageRound(bytes);
    if (size <= 0 || size > MAX_BYTES) {
      throw new RangeError(
        `Cannot reserve arena as its size must be 1..${MAX_BYTES} bytes: current value is ${bytes}`,
      );
    }
    const flags = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE;
    const address = libc.mmap(0, size, libc.PROT_NONE, flags, -1, 0);
    super(libc.viewMemory(address, size));
    this.address = address;
    this.#holes = [{ offset: 0, size }];
  }

  /** Maps zeroed memory of this process only. Returns its offset, a multiple of 4096. */
  mapPrivate(size: number): number {
    const flags = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS;
    return this.#place(pageRound(size), libc.PROT_READ | libc.PROT_WRITE, flags, -1);
  }

  /** Maps the first `size` bytes of an open file, shared. Returns its offset. */
  mapFile(fd: number, size: number, writable: boolean): number {
    const length = pageRound(size);
    const prot = writable ? libc.PROT_READ | libc.PROT_WRITE : libc.PROT_READ;
    const offset = this.#place(length, prot, libc.MAP_SHARED, fd);
    guard(this.address + offset, length);
    return offset;
  }

  /** Takes a mapping out; the range reads as zeros from now on and may be used again. */
  unmap(offset: number, size: number): void {
    const length = pageRound(size);
    unguard(this.address + offset);
    this.#fix(
      offset,
      length,
      libc.PROT_READ | libc.PROT_WRITE,
      libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE,
      -1,
    );
    this.#give(offset, length);
  }

  /** Mappings of this process that have become zeros because their files were truncated: a number that grows. */
  get losses(): number {
    return losses();
  }

  /** Whether that happened to the mapping at `offset`, as `mapFile` has returned it. */
  isLost(offset: number): boolean {
    return isLost(this.address + offset);
  }

  /** Maps into a free range. */
  #place(size: number, prot: number, flags: number, fd: number): number {
    const offset = this.#take(size);
    try {
      this.#fix(offset, size, prot, flags, fd);
      return offset;
    } catch (err) {
      this.#give(offset, size);
      throw err;
    }
  }

  #fix(offset: number, size: number, prot: number, flags: number, fd: number): void {
    libc.mmap(this.address + offset, size, prot, flags | libc.MAP_FIXED, fd, 0);
  }

  #take(size: number): number {
    const index = this.#holes.findIndex((hole) => hole.size >= size);
    const hole = this.#holes[index];
    if (size <= 0 || !hole) {
      throw new L4Error(
        'ENOMEM',
        `Cannot map ${size} bytes as the arena of ${this.buffer.byteLength} bytes has no such free range`,
      );
    }
    const { offset } = hole;
    hole.offset += size;
    hole.size -= size;
    if (hole.size === 0) this.#holes.splice(index, 1);
    return offset;
  }

  #give(offset: number, size: number): void {
    let index = this.#holes.findIndex((hole) => hole.offset > offset);
    if (index < 0) index = this.#holes.length;
    this.#holes.splice(index, 0, { offset, size });
    this.#join(index);
    if (index > 0) this.#join(index - 1);
  }

  #join(index: number): void {
    const [hole, next] = [this.#holes[index], this.#holes[index + 1]];
    if (!hole || !next || hole.offset + hole.size !== next.offset) return;
    hole.size += next.size;
    this.#holes.splice(index + 1, 1);
  }
}
