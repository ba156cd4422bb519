/**
 * UDP over IPv4 in batches, between the kernel and buffers in the arena: nothing is allocated per datagram.
 *
 *   const socket = new UdpSocket(arena, { address, port });
 *   socket.listen(() => pump.kick())                       // called once, then `listen` again
 *   const count = socket.receive(32)                       // offset(n), length(n), peerAddress(n), peerPort(n)
 *   const at = socket.slot(); ...write...; socket.send(at, bytes, address, port); socket.flush()
 *
 * Datagrams are never fragmented: what does not fit the path is refused and counted by reason.
 */
import type { Arena } from '#common/shm/arena';
import * as libc from './libc.ts';
import { Messages, SOCKADDR } from './messages.ts';

/** Bytes of a buffer: a jumbo frame with its outer headers. */
export const SLOT_BYTES = 9472;
const RECEIVE_SLOTS = 32;
const SEND_SLOTS = 64;
/** Messages that wait for `flush`: one buffer may go to many. */
const SEND_MESSAGES = 256;
const KERNEL_BUFFER = 4 * 2 ** 20;

export interface UdpOptions {
  /** Local IPv4 address as a 32-bit number, 0: any. */
  readonly address: number;
  /** 0: the kernel chooses. */
  readonly port: number;
  /** False: it only sends. */
  readonly receives?: boolean;
}

/** What became of datagrams that were not sent. */
export interface SendLosses {
  /** Larger than the path takes. */
  tooLong: number;
  /** The kernel's buffer was full, or the network refused them. */
  refused: number;
}

export class UdpSocket {
  readonly port: number;
  readonly losses: SendLosses = { tooLong: 0, refused: 0 };
  readonly #arena: Arena;
  readonly #fd: number;
  readonly #in: Messages | undefined;
  readonly #out: Messages;
  readonly #buffers: number;
  readonly #bufferBytes: number;
  #slots = 0;
  #waiting = 0;
  #watch: ReturnType<typeof libc.watchReadable> | undefined;
  #watching = false;
  #onReadable: () => void = () => {};

  /** Throws SocketError: EADDRINUSE, EADDRNOTAVAIL, EACCES, ... */
  constructor(arena: Arena, { address, port, receives = true }: UdpOptions) {
    this.#arena = arena;
    this.#fd = libc.udpSocket(KERNEL_BUFFER);
    const slots = SEND_SLOTS + (receives ? RECEIVE_SLOTS : 0);
    this.#bufferBytes = slots * SLOT_BYTES;
    this.#buffers = arena.mapPrivate(this.#bufferBytes);
    this.#out = new Messages(arena, SEND_MESSAGES);
    try {
      this.port = this.#bind(address, port);
    } catch (err) {
      this.#release();
      throw err;
    }
    if (!receives) return;
    this.#in = new Messages(arena, RECEIVE_SLOTS);
    for (let n = 0; n < RECEIVE_SLOTS; n++) this.#in.setBuffer(n, this.offset(n), SLOT_BYTES);
  }

  /** Takes at most `max` datagrams that have arrived. Valid until the next call. */
  receive(max: number): number {
    const count = this.#in ? libc.recvmmsg(this.#fd, this.#in.address(0), Math.min(max, RECEIVE_SLOTS)) : 0;
    return Math.max(count, 0);
  }

  /** Where datagram `n` of the last `receive` is. */
  offset(n: number): number {
    return this.#buffers + (SEND_SLOTS + n) * SLOT_BYTES;
  }

  /** Its bytes; -1: it was longer than SLOT_BYTES. */
  length(n: number): number {
    return this.#in?.length(n) ?? -1;
  }

  peerAddress(n: number): number {
    return this.#in?.peerAddress(n) ?? 0;
  }

  peerPort(n: number): number {
    return this.#in?.peerPort(n) ?? 0;
  }

  /** Offset of SLOT_BYTES bytes for a datagram. Sends what waits when there is no room. */
  slot(): number {
    if (this.#slots === SEND_SLOTS) this.flush();
    return this.#buffers + this.#slots++ * SLOT_BYTES;
  }

  /** Queues a datagram in the slot that was taken last; may be repeated for other peers. */
  send(slot: number, bytes: number, address: number, port: number): void {
    if (this.#waiting === SEND_MESSAGES) this.#sendAll();
    const n = this.#waiting++;
    this.#out.setBuffer(n, slot, bytes);
    this.#out.setPeer(n, address, port);
  }

  /** Sends everything queued. Losses are counted. */
  flush(): void {
    this.#sendAll();
    this.#slots = 0;
  }

  /** Calls `onReadable` once, from the event loop, when something has arrived (at once if it has already). */
  listen(onReadable: () => void): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#onReadable = onReadable;
    if (this.#watch) libc.rewatch(this.#watch, this.#fired);
    else this.#watch = libc.watchReadable(this.#fd, this.#fired);
  }

  /** Ends `listen`. */
  unlisten(): void {
    if (!this.#watching) return;
    this.#watching = false;
    this.#watch?.stop();
  }

  close(): void {
    this.unlisten();
    this.#watch?.close();
    this.#in?.close();
    this.#release();
  }

  readonly #fired = (): void => {
    if (!this.#watching) return;
    this.unlisten();
    this.#onReadable();
  };

  #sendAll(): void {
    let sent = 0;
    while (sent < this.#waiting) {
      const count = libc.sendmmsg(this.#fd, this.#out.address(sent), this.#waiting - sent);
      if (count > 0) {
        sent += count;
        continue;
      }
      const code = libc.lastError();
      if (code === 'EMSGSIZE') this.losses.tooLong += 1;
      else this.losses.refused += 1;
      sent += 1;
    }
    this.#waiting = 0;
  }

  #bind(address: number, port: number): number {
    const { view } = this.#arena;
    const at = this.#buffers;
    view.setUint16(at + SOCKADDR.FAMILY, libc.AF_INET, true);
    view.setUint16(at + SOCKADDR.PORT, port, false);
    view.setUint32(at + SOCKADDR.ADDRESS, address, false);
    const native = this.#arena.address + at;
    libc.bind(this.#fd, native, SOCKADDR.SIZE);
    view.setUint32(at + SOCKADDR.SIZE, SOCKADDR.SIZE, true);
    libc.getsockname(this.#fd, native, native + SOCKADDR.SIZE);
    return view.getUint16(at + SOCKADDR.PORT, false);
  }

  #release(): void {
    libc.close(this.#fd);
    this.#out.close();
    this.#arena.unmap(this.#buffers, this.#bufferBytes);
  }
}
