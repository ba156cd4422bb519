/**
 * The C library calls of the wires, through koffi: epoll, TAP files, sockets, frame copies. Linux, 64-bit.
 *
 * Pointers are plain numbers (`arena.address + offset`); user-space addresses are below 2^47.
 */

import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

const memcpyC = libc.func('memcpy', 'void', ['uint64_t', 'uint64_t', 'size_t']);
const readC = libc.func('read', 'intptr_t', ['int', 'uint64_t', 'size_t']);
const writeC = libc.func('write', 'intptr_t', ['int', 'uint64_t', 'size_t']);
const ioctlC = libc.func('ioctl', 'int', ['int', 'ulong', 'uint64_t']);
const socketC = libc.func('socket', 'int', ['int', 'int', 'int']);
const listenC = libc.func('listen', 'int', ['int', 'int']);
const epollCreateC = libc.func('epoll_create1', 'int', ['int']);
const epollCtlC = libc.func('epoll_ctl', 'int', ['int', 'int', 'int', 'uint64_t']);
const epollWaitC = libc.func('epoll_wait', 'int', ['int', 'uint64_t', 'int', 'int']);

export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;

/** struct epoll_event is packed on x86-64 only (`events` u32, then 64 bits of data). */
export const EPOLL_EVENT =
  process.arch === 'x64'
    ? ({ SIZE: 12, EVENTS: 0, DATA: 4 } as const)
    : ({ SIZE: 16, EVENTS: 0, DATA: 8 } as const);

/** Copies `length` bytes between native addresses that do not overlap. */
export function memcpy(to: number, from: number, length: number): void {
  memcpyC(to, from, length);
}

/** read(2): bytes read, or -1 (see `lastError`). */
export function read(fd: number, address: number, length: number): number {
  return readC(fd, address, length) as number;
}

/** write(2): bytes written, or -1 (see `lastError`). */
export function write(fd: number, address: number, length: number): number {
  return writeC(fd, address, length) as number;
}

/** ioctl(2) with a pointer argument: its result, or -1 (see `lastError`). */
export function ioctl(fd: number, request: number, address: number): number {
  return ioctlC(fd, request, address) as number;
}

const AF_INET = 2;
const SOCK_DGRAM = 2;

/** A UDP socket, for ioctls on interfaces. Throws with the errno's name. */
export function socket(): number {
  const fd = socketC(AF_INET, SOCK_DGRAM, 0) as number;
  if (fd < 0) throw new Error(`socket: ${lastError()}`);
  return fd;
}

/** listen(2): 0, or -1 (see `lastError`). On a socket that listens already it sets how many connections may wait. */
export function listen(fd: number, backlog: number): number {
  return listenC(fd, backlog) as number;
}

/** epoll_create1(2) with CLOEXEC. Throws with the errno's name. */
export function epollCreate(): number {
  const fd = epollCreateC(EPOLL_CLOEXEC) as number;
  if (fd < 0) throw new Error(`epoll_create1: ${lastError()}`);
  return fd;
}

/** epoll_ctl(2): 0, or -1 (see `lastError`). */
export function epollCtl(epollFd: number, operation: number, fd: number, event: number): number {
  return epollCtlC(epollFd, operation, fd, event) as number;
}

/** epoll_wait(2) that never blocks: number of events, or -1. */
export function epollPeek(epollFd: number, events: number, maxEvents: number): number {
  return epollWaitC(epollFd, events, maxEvents, 0) as number;
}

/** True when the last failed call asks to be made again: nothing to read yet, or a signal came. */
export function isTransient(): boolean {
  const errno = koffi.errno();
  return errno === constants.errno.EAGAIN || errno === constants.errno.EINTR;
}

/** Name of the errno that the last failed call left, e.g. `EAGAIN`. */
export function lastError(): string {
  return getSystemErrorName(-koffi.errno());
}
