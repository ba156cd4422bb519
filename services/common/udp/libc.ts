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
const ifNameToIndexC = libc.func('uint32_t if_nametoindex(const char *)');

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;

/** A socket option: level and name [socket(7), ip(7), ipv6(7), udp(7)]. */
export type SocketOption = readonly [level: number, name: number];
const [SOL_IP, SOL_SOCKET, SOL_UDP, SOL_IPV6] = [0, 1, 17, 41];
export const OPTION = {
  SO_SNDBUF: [SOL_SOCKET, 7],
  SO_RCVBUF: [SOL_SOCKET, 8],
  SO_NO_CHECK: [SOL_SOCKET, 11],
  SO_BINDTODEVICE: [SOL_SOCKET, 25],
  IP_MTU_DISCOVER: [SOL_IP, 10],
  IP_MULTICAST_IF: [SOL_IP, 32],
  IP_MULTICAST_TTL: [SOL_IP, 33],
  IP_MULTICAST_LOOP: [SOL_IP, 34],
  IP_ADD_MEMBERSHIP: [SOL_IP, 35],
  IP_DROP_MEMBERSHIP: [SOL_IP, 36],
  IP_MULTICAST_ALL: [SOL_IP, 49],
  IPV6_MULTICAST_IF: [SOL_IPV6, 17],
  IPV6_MULTICAST_HOPS: [SOL_IPV6, 18],
  IPV6_MULTICAST_LOOP: [SOL_IPV6, 19],
  IPV6_ADD_MEMBERSHIP: [SOL_IPV6, 20],
  IPV6_DROP_MEMBERSHIP: [SOL_IPV6, 21],
  IPV6_MTU_DISCOVER: [SOL_IPV6, 23],
  IPV6_V6ONLY: [SOL_IPV6, 26],
  IPV6_MULTICAST_ALL: [SOL_IPV6, 29],
  UDP_NO_CHECK6_RX: [SOL_UDP, 102],
} as const satisfies Record<string, SocketOption>;
/** Value of IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: nothing is fragmented. */
export const PMTUDISC_DO = 2;

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

/** Name of the last call's errno, e.g. EAGAIN. */
export function lastError(): string {
  return getSystemErrorName(-koffi.errno());
}

/** A non-blocking UDP socket of an address family. Throws SocketError. */
export function udpSocket(family: number): number {
  const fd = socketC(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) throw new SocketError('socket');
  return fd;
}

/** setsockopt(2) with a structure or a string. Throws SocketError. */
export function setOption(fd: number, what: string, [level, name]: SocketOption, value: Uint8Array): void {
  if ((setsockoptC(fd, level, name, value, value.length) as number) !== 0) throw new SocketError(what);
}

/** setsockopt(2) with a number, where an old kernel, or one with lower limits, may do as it likes. */
export function tryOption(fd: number, [level, name]: SocketOption, value: number): void {
  setsockoptC(fd, level, name, int32(value), 4);
}

/** An int as C has it. */
export function int32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

/** Number of a network interface. Throws SocketError ENODEV. */
export function interfaceIndex(name: string): number {
  const index = ifNameToIndexC(name) as number;
  if (index === 0) throw new SocketError(`interface ${name}`);
  return index;
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
