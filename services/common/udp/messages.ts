/**
 * An array of struct mmsghdr in the arena, each with one buffer and one socket address [recvmmsg(2)].
 *
 * Made once; per datagram only lengths and addresses change.
 */
import type { Arena } from '#common/shm/arena';
import type { Family } from './address.ts';
import { copySockaddr, familyNumber, SOCKADDR_SLOT, sockaddrBytes, sockaddrFamily } from './sockaddr.ts';

/** Byte offsets of struct mmsghdr on 64-bit Linux. */
const MSG = { NAME: 0, NAME_LENGTH: 8, IOV: 16, IOV_LENGTH: 24, FLAGS: 48, LENGTH: 56, SIZE: 64 } as const;
const IOVEC = { BASE: 0, LENGTH: 8, SIZE: 16 } as const;
const MSG_TRUNC = 0x20;
const EACH = MSG.SIZE + IOVEC.SIZE + SOCKADDR_SLOT;

/** Bytes of `count` messages. */
export function messagesBytes(count: number): number {
  return count * EACH;
}

export class Messages {
  readonly #arena: Arena;
  readonly #family: number;
  readonly #headers: number;
  readonly #iovecs: number;
  readonly #names: number;

  /** `at` is the offset of `messagesBytes(count)` zeroed bytes, 8-byte aligned. */
  constructor(arena: Arena, at: number, count: number, family: Family) {
    this.#arena = arena;
    this.#family = familyNumber(family);
    this.#headers = at;
    this.#iovecs = at + count * MSG.SIZE;
    this.#names = this.#iovecs + count * IOVEC.SIZE;
    const { view } = arena;
    for (let n = 0; n < count; n++) {
      const header = this.#headers + n * MSG.SIZE;
      view.setBigUint64(header + MSG.NAME, BigInt(arena.address + this.peer(n)), true);
      view.setUint32(header + MSG.NAME_LENGTH, sockaddrBytes(family), true);
      view.setBigUint64(header + MSG.IOV, BigInt(arena.address + this.#iovecs + n * IOVEC.SIZE), true);
      view.setUint32(header + MSG.IOV_LENGTH, 1, true);
    }
  }

  /** Native address of message `n`. */
  address(n: number): number {
    return this.#arena.address + this.#headers + n * MSG.SIZE;
  }

  /** Buffer of message `n`: offset in the arena and bytes. */
  setBuffer(n: number, offset: number, bytes: number): void {
    const { u32 } = this.#arena;
    const at = this.#iovecs + n * IOVEC.SIZE;
    // Native addresses are below 2^47: two halves, no BigInt.
    const native = this.#arena.address + offset;
    u32[at >>> 2] = native % 0x1_0000_0000;
    u32[(at >>> 2) + 1] = Math.floor(native / 0x1_0000_0000);
    u32[(at + IOVEC.LENGTH) >>> 2] = bytes;
    u32[((at + IOVEC.LENGTH) >>> 2) + 1] = 0;
  }

  /** Where message `n` goes: a copy of the slot at `from`. */
  setPeer(n: number, from: number): void {
    copySockaddr(this.#arena, this.peer(n), from);
  }

  /** Offset of the socket address of message `n`. */
  peer(n: number): number {
    return this.#names + n * SOCKADDR_SLOT;
  }

  /** Bytes received by message `n`; -1: it was longer than its buffer, or of another family. */
  length(n: number): number {
    const { u32 } = this.#arena;
    const at = this.#headers + n * MSG.SIZE;
    if (((u32[(at + MSG.FLAGS) >>> 2] as number) & MSG_TRUNC) !== 0) return -1;
    if (sockaddrFamily(this.#arena, this.peer(n)) !== this.#family) return -1;
    return u32[(at + MSG.LENGTH) >>> 2] as number;
  }
}
