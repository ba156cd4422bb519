/**
 * Shared memory that its owner takes away: a file that is truncated while we have it mapped, or a hole in it for which
 * /dev/shm has no page left. The kernel's answer to the next touch is SIGBUS, the end of the process: one hostile task
 * could end the switch, and with it everybody's network.
 *
 * Here the signal makes the mapping private zeros instead, as a whole, and the instruction is done again: what was
 * shared reads as zeros from then on, which costs only the one who took it away. Wayland compositors treat the buffers
 * of their clients like this. No JavaScript can run in a signal handler, so it is a hundred bytes of machine code
 * (bus_handler.ts) that knows the mappings from a table. On other machines than x86-64 and arm64 SIGBUS stays what it is.
 *
 * One table and handler for each process: arenas belong to its main thread.
 */
import { handlerCode } from './bus_handler.ts';
import * as libc from './libc.ts';

/** Enough for 349,525 mappings; pages that are not used cost nothing. */
const TABLE_BYTES = 8 * 2 ** 20;
/** Its u64 words, as bus_handler.ts has them. */
const COUNT = 0;
const LOST = 1;
const ENTRIES = 8;
const ENTRY_WORDS = 3;
const CODE_BYTES = 4096;

const SIGBUS = 7;
const SA_SIGINFO = 4;
const SA_RESTART = 0x1000_0000;
/** Of glibc: handler, 128 bytes of mask, flags, restorer. */
const SIGACTION_BYTES = 152;
const SIGACTION_FLAGS = 136;

/** The table's words; undefined before the first mapping, and where there is no handler. */
let table: BigUint64Array | undefined;
let lost = new Uint32Array(2);
const indexOf = new Map<number, number>();
let installed = false;

function install(): void {
  installed = true;
  const codeFor = handlerCode(process.arch);
  if (!codeFor) return;
  const anonymous = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE;
  const readWrite = libc.PROT_READ | libc.PROT_WRITE;
  const at = libc.mmap(0, TABLE_BYTES, readWrite, anonymous, -1, 0);
  const code = libc.mmap(0, CODE_BYTES, readWrite, anonymous, -1, 0);
  new Uint8Array(libc.viewMemory(code, CODE_BYTES)).set(codeFor(at));
  // Where instructions have a cache of their own the kernel makes it see what was written, as the pages become executable.
  libc.mprotect(code, CODE_BYTES, libc.PROT_READ | libc.PROT_EXEC);
  const action = Buffer.alloc(SIGACTION_BYTES);
  action.writeBigUInt64LE(BigInt(code));
  action.writeUInt32LE(SA_SIGINFO | SA_RESTART, SIGACTION_FLAGS);
  libc.sigaction(SIGBUS, action);
  const buffer = libc.viewMemory(at, TABLE_BYTES);
  table = new BigUint64Array(buffer);
  lost = new Uint32Array(buffer, 8 * LOST, 2);
}

/** Watches over a mapping of a file. `address` is a native one; pages, not overlapping. */
export function guard(address: number, bytes: number): void {
  if (!installed) install();
  if (!table) return;
  const index = indexOf.size;
  const at = ENTRIES + index * ENTRY_WORDS;
  if (at + ENTRY_WORDS > table.length) return;
  table[at] = BigInt(address);
  table[at + 1] = BigInt(bytes);
  table[at + 2] = 0n;
  indexOf.set(address, index);
  table[COUNT] = BigInt(indexOf.size);
}

/** The mapping is gone, if it was guarded at all. The last entry takes its place. */
export function unguard(address: number): void {
  const index = indexOf.get(address);
  if (index === undefined || !table) return;
  indexOf.delete(address);
  const last = ENTRIES + indexOf.size * ENTRY_WORDS;
  const at = ENTRIES + index * ENTRY_WORDS;
  if (at !== last) {
    table.copyWithin(at, last, last + ENTRY_WORDS);
    indexOf.set(Number(table[at]), index);
  }
  table[COUNT] = BigInt(indexOf.size);
}

/** Number of mappings that were lost so far, modulo 2^32. One load: cheap enough for every turn of a pump. */
export function losses(): number {
  return lost[0] as number;
}

/** Whether the guarded mapping at `address` is private zeros by now. */
export function isLost(address: number): boolean {
  const index = indexOf.get(address);
  return index !== undefined && table?.[ENTRIES + index * ENTRY_WORDS + 2] === 1n;
}
