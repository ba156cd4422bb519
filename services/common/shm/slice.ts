/**
 * How long the kernel lets a data plane run at a time when others want its core.
 *
 * Peers in a chain of processes wait for each other, so they give up the core often. In recent kernels (6.18, and stable ones
 * with commit 79104becf42b) a process that yields is charged for the whole slice it gave up (sched_yield, EEVDF): with the usual 2.8 ms, one CPU-bound program
 * beside the lab leaves its pumps next to nothing. With the shortest slice the charge is 0.1 ms, and a pump that a
 * doorbell wakes runs at once. Measured in test/bench/README.md, "Beside other programs".
 */
import { arch } from 'node:process';
import { callSystem } from './libc.ts';

/** The kernel's least, in nanoseconds. [sched_setattr(2); kernel/sched/syscalls.c, since Linux 6.12] */
const SLICE_NS = 100_000n;

/** Numbers of sched_setattr and sched_getattr, which the C library of Debian 12 has no functions for. */
const CALLS = new Map([
  ['x64', { set: 314, get: 315 }],
  ['arm64', { set: 274, get: 275 }],
]);

/** struct sched_attr, first version. */
const ATTR = { BYTES: 48, SIZE: 0, POLICY: 4, RUNTIME: 24 };
const SCHED_OTHER = 0;

/**
 * Asks for short slices for the calling thread, and for those it starts later; nice value and policy stay. A wish: false where
 * the kernel does not hear it (another policy, a filter of system calls); kernels before 6.12 take it and do nothing.
 */
export function takeShortTurns(): boolean {
  const calls = CALLS.get(arch);
  if (calls === undefined) return false;
  const attr = new Uint8Array(ATTR.BYTES);
  if (callSystem(calls.get, 0, attr, attr.length, 0) !== 0) return false;
  const view = new DataView(attr.buffer);
  if (view.getUint32(ATTR.POLICY, true) !== SCHED_OTHER) return false;
  view.setUint32(ATTR.SIZE, attr.length, true);
  view.setBigUint64(ATTR.RUNTIME, SLICE_NS, true);
  return callSystem(calls.set, 0, attr, 0, 0) === 0;
}
