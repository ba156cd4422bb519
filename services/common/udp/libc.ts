/**
 * The C library calls for batches of datagrams, through koffi. Linux, 64-bit.
 *
 * Node's own UDP sockets make an object and a callback of every datagram; recvmmsg(2) and sendmmsg(2) move many at a
 * time straight between the kernel and our memory. Pointers are plain numbers.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

const socketC = libc.func('int socket(int, int, int)');
const bindC = libc.func('int bind(int, uint64_t, uint32_t)');
const getsocknameC = libc.func('int getsockname(int, uint64_t, uint64_t)');
const setsockoptC = libc.func('int setsockopt(int, int, int, const void *, uint32_t)');
const recvmmsgC = libc.func('int recvmmsg(int, uint64_t, uint32_t, int, uint64_t)');
const sendmmsgC = libc.func('int sendmmsg(int, uint64_t, uint32_t, int)');
const closeC = libc.func('int close(int)');

export const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SOL_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DO = 2;

/** A call failed; `code` is the errno's name. */
export class SocketError extends Error {
  override readonly name = 'SocketError';
  readonly code: string;

  constructor(call: string) {
    const code = lastError();
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** Name of the errno that the last failed call left, e.g. `EAGAIN`. */
export function lastError(): string {
  return getSystemErrorName(-koffi.errno());
}

/** A non-blocking IPv4 UDP socket that never lets the kernel fragment. Throws SocketError. */
export function udpSocket(bufferBytes: number): number {
  const fd = socketC(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) throw new SocketError('socket');
  // The kernel cuts the sizes at its limits: less buffer, no error.
  for (const option of [SO_SNDBUF, SO_RCVBUF]) setInteger(fd, SOL_SOCKET, option, bufferBytes);
  setInteger(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  return fd;
}

function setInteger(fd: number, level: number, option: number, value: number): void {
  setsockoptC(fd, level, option, new Uint8Array(Int32Array.of(value).buffer), 4);
}

/** bind(2). Throws SocketError. */
export function bind(fd: number, address: number, length: number): void {
  if ((bindC(fd, address, length) as number) !== 0) throw new SocketError('bind');
}

/** getsockname(2). Throws SocketError. */
export function getsockname(fd: number, address: number, length: number): void {
  if ((getsocknameC(fd, address, length) as number) !== 0) throw new SocketError('getsockname');
}

/** recvmmsg(2) without waiting: number of messages, or -1 (see `lastError`). */
export function recvmmsg(fd: number, messages: number, count: number): number {
  return recvmmsgC(fd, messages, count, MSG_DONTWAIT, 0) as number;
}

/** sendmmsg(2) without waiting: number of messages sent, or -1 (see `lastError`). */
export function sendmmsg(fd: number, messages: number, count: number): number {
  return sendmmsgC(fd, messages, count, MSG_DONTWAIT) as number;
}

export function close(fd: number): void {
  closeC(fd);
}

/** Watches a file descriptor for reading from the event loop; level-triggered. Keep the result. */
export function watchReadable(fd: number, onReadable: () => void): ReturnType<typeof koffi.node.poll> {
  return koffi.node.poll(fd, { readable: true }, onReadable);
}

/** The same watch goes on. */
export function rewatch(watch: ReturnType<typeof koffi.node.poll>, onReadable: () => void): void {
  watch.start({ readable: true }, onReadable);
}
