/**
 * The C library calls that Node has no API for, through koffi. Linux, 64-bit.
 *
 * Pointers are plain numbers: user-space addresses are below 2^47. Failures throw `SystemError`
 * with the errno's name, except where the caller has to decide (`tryWrite` to a full FIFO).
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

const mmapC = libc.func('uint64_t mmap(uint64_t, size_t, int, int, int, int64_t)');
const mprotectC = libc.func('int mprotect(uint64_t, size_t, int)');
const sigactionC = libc.func('int sigaction(int, const void *, void *)');
const fallocateC = libc.func('int fallocate(int, int, int64_t, int64_t)');
const mkfifoC = libc.func('int mkfifo(const char *, uint32_t)');
const prctlC = libc.func('int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)');
const writeC = libc.func('intptr_t write(int, const void *, size_t)');
const readC = libc.func('intptr_t read(int, void *, size_t)');
const flockC = libc.func('int flock(int, int)');
const fcntlC = libc.func('int fcntl(int, int, int)');
const execvC = libc.func('int execv(const char *, const char **)');
const pollC = libc.func('int poll(_Inout_ uint8_t *, unsigned long, int)');
const schedYieldC = libc.func('int sched_yield()');
const syscallC = libc.func('intptr_t syscall(intptr_t, intptr_t, _Inout_ uint8_t *, uintptr_t, uintptr_t)');

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const F_SETFD = 2;
const POLLERR = 0x08;
const POLLHUP = 0x10;
const MAP_FAILED = 2 ** 64;
const PR_SET_PDEATHSIG = 1;

/** A C library call failed. `code` is the errno's name, e.g. `ENOSPC`. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly code: string;

  constructor(call: string) {
    const code = getSystemErrorName(-koffi.errno());
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** mmap(2); returns the address. A negative `fd` goes with MAP_ANONYMOUS. */
export function mmap(
  address: number,
  size: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  const mapped = mmapC(address, size, prot, flags, fd, offset) as number | bigint;
  if (Number(mapped) >= MAP_FAILED - 4096) throw new SystemError('mmap');
  return Number(mapped);
}

/** Changes what may be done with pages. */
export function mprotect(address: number, size: number, prot: number): void {
  if ((mprotectC(address, size, prot) as number) !== 0) throw new SystemError('mprotect');
}

/** Sets the action of a signal: `action` is a struct sigaction of the C library. */
export function sigaction(signal: number, action: Uint8Array): void {
  if ((sigactionC(signal, action, null) as number) !== 0) throw new SystemError('sigaction');
}

/** Allocates every page of [0, size) of an open file, so that no later touch can run out of space. */
export function fallocate(fd: number, size: number): void {
  while ((fallocateC(fd, 0, 0, size) as number) !== 0) {
    const err = new SystemError('fallocate');
    // Kernels before 6.10 give up at any signal, e.g. the end of a child.
    if (err.code !== 'EINTR') throw err;
  }
}

export function mkfifo(path: string, mode: number): void {
  if ((mkfifoC(path, mode) as number) !== 0) throw new SystemError('mkfifo');
}

/** write(2) that reports failure as -1 (a FIFO nobody emptied is full: fine for a doorbell). */
export function tryWrite(fd: number, bytes: Uint8Array, length: number): number {
  return writeC(fd, bytes, length) as number;
}

/** More than a pipe holds unless its writer has enlarged it. */
const PIPE = new Uint8Array(64 * 1024);

/**
 * Takes what is in a FIFO, in one read(2): a writer that never stops keeps nobody here. Returns the number of bytes, 0 at its
 * end, -1 when there are none.
 */
export function drainPipe(fd: number): number {
  return readC(fd, PIPE, PIPE.length) as number;
}

/** Gives the core to another runnable process. About 0.5 us when there is none. */
export function schedYield(): void {
  schedYieldC();
}

/** syscall(2) with four arguments, the second of which is memory. -1: it failed. */
export function callSystem(number: number, a: number, bytes: Uint8Array, c: number, d: number): number {
  return syscallC(number, a, bytes, c, d) as number;
}

/** Asks the kernel to send `signal` to this process when its parent dies. prctl(PR_SET_PDEATHSIG). */
export function setParentDeathSignal(signal: number): void {
  if ((prctlC(PR_SET_PDEATHSIG, signal, 0, 0, 0) as number) !== 0) throw new SystemError('prctl');
}

/** An ArrayBuffer over native memory. It cannot be revoked: never unmap what it covers. */
export function viewMemory(address: number, size: number): ArrayBuffer {
  return koffi.view(BigInt(address), size) as ArrayBuffer;
}

/** Watches a file descriptor for reading from the event loop. Keep the result: dropping it ends the watch. */
export function watchReadable(
  fd: number,
  onReadable: () => void,
): { close(): void; ref(): void; unref(): void } {
  return koffi.node.poll(fd, { readable: true }, onReadable);
}

/** True when nobody reads any more what is written to this pipe or socket. poll(2) without waiting. */
export function readerIsGone(fd: number): boolean {
  const pollfd = new Uint8Array(8);
  new DataView(pollfd.buffer).setInt32(0, fd, true);
  pollC(pollfd, 1, 0);
  return ((pollfd[6] as number) & (POLLERR | POLLHUP)) !== 0;
}

/** flock(2) without waiting; false when somebody else holds the lock. */
export function tryFlock(fd: number, shared: boolean): boolean {
  return (flockC(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) as number) === 0;
}

/** Becomes another program in the same process (execv(2)), keeping stdin, stdout and stderr. Throws SystemError. */
export function execv(path: string, argv: readonly string[]): never {
  // Node marks them close-on-exec at its start.
  for (const fd of [0, 1, 2]) fcntlC(fd, F_SETFD, 0);
  execvC(path, [...argv, null]);
  throw new SystemError('execv');
}
