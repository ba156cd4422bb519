/**
 * An array of struct mmsghdr in the arena, each with one buffer and one IPv4 address [recvmmsg(2), ip(7)].
 *
 * Made once; per datagram only lengths and addresses change. Addresses are 32-bit numbers, ports 16-bit ones.
 */
import type { Arena } from '#common/shm/arena';
import { AF_INET } from './libc.ts';

/** Byte offsets of struct mmsghdr on 64-bit Linux. */
const MSG = { NAME: 0, NAME_LENGTH: 8, IOV: 16, IOV_LENGTH: 24, FLAGS: 48, LENGTH: 56, SIZE: 64 } as const;
const IOVEC = { BASE: 0, LENGTH: 8, SIZE: 16 } as const;
/** struct sockaddr_in: family in host order, the rest as on the wire. */
export const SOCKADDR = { FAMILY: 0, PORT: 2, ADDRESS: 4, SIZE: 16 } as const;
const MSG_TRUNC = 0x20;

export class Messages {
  readonly count: number;
  readonly #arena: Arena;
  readonly #headers: number;
  readonly #iovecs: number;
  readonly #names: number;
  readonly #bytes: number;

  constructor(arena: Arena, count: number) {
    this.count = count;
    this.#arena = arena;
    this.#bytes = count * (MSG.SIZE + IOVEC.SIZE + SOCKADDR.SIZE);
    this.#headers = arena.mapPrivate(this.#bytes);
    this.#iovecs = this.#headers + count * MSG.SIZE;
    this.#names = this.#iovecs + count * IOVEC.SIZE;
    const { view } = arena;
    for (let n = 0; n < count; n++) {
      const at = this.#headers + n * MSG.SIZE;
      view.setBigUint64(at + MSG.NAME, BigInt(arena.address + this.#names + n * SOCKADDR.SIZE), true);
      view.setUint32(at + MSG.NAME_LENGTH, SOCKADDR.SIZE, true);
      view.setBigUint64(at + MSG.IOV, BigInt(arena.address + this.#iovecs + n * IOVEC.SIZE), true);
      view.setUint32(at + MSG.IOV_LENGTH, 1, true);
      view.setUint16(this.#names + n * SOCKADDR.SIZE, AF_INET, true);
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

  setPeer(n: number, address: number, port: number): void {
    const { view } = this.#arena;
    const at = this.#names + n * SOCKADDR.SIZE;
    view.setUint16(at + SOCKADDR.PORT, port, false);
    view.setUint32(at + SOCKADDR.ADDRESS, address, false);
  }

  /** Bytes received by message `n`; -1: it was longer than its buffer, or no IPv4 datagram. */
  length(n: number): number {
    const { u32, u16 } = this.#arena;
    const at = this.#headers + n * MSG.SIZE;
    if (((u32[(at + MSG.FLAGS) >>> 2] as number) & MSG_TRUNC) !== 0) return -1;
    if (u16[(this.#names + n * SOCKADDR.SIZE) >>> 1] !== AF_INET) return -1;
    return u32[(at + MSG.LENGTH) >>> 2] as number;
  }

  peerAddress(n: number): number {
    return this.#arena.view.getUint32(this.#names + n * SOCKADDR.SIZE + SOCKADDR.ADDRESS, false);
  }

  peerPort(n: number): number {
    return this.#arena.view.getUint16(this.#names + n * SOCKADDR.SIZE + SOCKADDR.PORT, false);
  }

  close(): void {
    this.#arena.unmap(this.#headers, this.#bytes);
  }
}
