/**
 * Shared memory that its owner takes away: a file that is truncated while we have it mapped, or a hole in it for which
 * /dev/shm has no page left. The kernel's answer to the next touch is SIGBUS, the end of the process: one hostile task
 * could end the switch, and with it everybody's network.
 *
 * Here the signal makes the mapping private zeros instead, as a whole, and the instruction is done again: what was
 * shared reads as zeros from then on, which costs only the one who took it away. Wayland compositors treat the buffers
 * of their clients like this. No JavaScript can run in a signal handler, so it is a hundred bytes of machine code
 * (listed below) that knows the mappings from a table. x86-64 only; on other machines SIGBUS stays what it is.
 *
 *   table   +0 number of entries   +8 mappings lost so far   +16 zeros (a kernel sigaction: the default action)
 *           +64 entries of 24 bytes: address, bytes, lost (0 or 1)
 *
 * One table and handler for each process: arenas belong to its main thread.
 */
import * as libc from './libc.ts';

/** Enough for 349,525 mappings; pages that are not used cost nothing. */
const TABLE_BYTES = 8 * 2 ** 20;
const COUNT = 0; // u64 words
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

/** handler(signal, info, context): position-independent, clobbers only what a function may. */
function handlerCode(table: number): Uint8Array {
  const at = Buffer.alloc(8);
  at.writeBigUInt64LE(BigInt(table));
  const t = at.toString('hex');
  const code = [
    '488b4610', //         mov  rax, [rsi+16]        address that could not be reached
    `49ba${t}`, //         mov  r10, table
    '498b0a', //           mov  rcx, [r10]
    '4d8d4a40', //         lea  r9, [r10+64]
    '4885c9', //     next: test rcx, rcx
    '744a', //             jz   not_ours
    '498b39', //           mov  rdi, [r9]            address
    '498b7108', //         mov  rsi, [r9+8]          bytes
    '4889c2', //           mov  rdx, rax
    '4829fa', //           sub  rdx, rdi
    '4839f2', //           cmp  rdx, rsi
    '7209', //             jb   found
    '4983c118', //         add  r9, 24
    '48ffc9', //           dec  rcx
    'ebe0', //             jmp  next
    '49c7411001000000', // found: mov qword [r9+16], 1
    'f049ff4208', //       lock inc qword [r10+8]
    'ba03000000', //       mov  edx, PROT_READ|PROT_WRITE
    '41ba32400000', //     mov  r10d, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_NORESERVE
    '49c7c0ffffffff', //   mov  r8, -1
    '4531c9', //           xor  r9d, r9d
    'b809000000', //       mov  eax, 9               mmap
    '0f05', //             syscall
    '4885c0', //           test rax, rax
    '7801', //             js   not_ours
    'c3', //               ret                       the instruction is done again
    `48be${t}`, // not_ours: mov rsi, table
    '4883c610', //         add  rsi, 16
    'bf07000000', //       mov  edi, SIGBUS
    '31d2', //             xor  edx, edx
    '41ba08000000', //     mov  r10d, 8
    'b80d000000', //       mov  eax, 13              rt_sigaction: back to the default
    '0f05', //             syscall
    'c3', //               ret                       it fails again, and ends the process
  ];
  return Buffer.from(code.join(''), 'hex');
}

/** The table's words; undefined before the first mapping, and where there is no handler. */
let table: BigUint64Array | undefined;
let lost = new Uint32Array(2);
const indexOf = new Map<number, number>();
let installed = false;

function install(): void {
  installed = true;
  if (process.arch !== 'x64') return;
  const anonymous = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE;
  const readWrite = libc.PROT_READ | libc.PROT_WRITE;
  const at = libc.mmap(0, TABLE_BYTES, readWrite, anonymous, -1, 0);
  const code = libc.mmap(0, CODE_BYTES, readWrite, anonymous, -1, 0);
  new Uint8Array(libc.viewMemory(code, CODE_BYTES)).set(handlerCode(at));
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
