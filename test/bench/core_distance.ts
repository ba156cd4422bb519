/**
 * How far the two cores are from each other: the time of a round trip of one word between two threads.
 *
 * A virtual machine's cores are where its host puts them. While they share a last-level cache a round trip takes less
 * than 100 ns here, else about 400 ns, and what two processes can hand over follows; the host changes it every few
 * seconds or minutes.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

import { allowedCores } from './proc.ts';

const ROUNDS = 200;
const FOR_MS = 100;
const END = -1;

const ECHO = `
const { workerData } = require('node:worker_threads');
const word = new Int32Array(workerData);
for (let next = 1; ; next += 2) {
  let seen;
  while ((seen = Atomics.load(word, 0)) !== next) if (seen === ${END}) process.exit(0);
  Atomics.store(word, 0, next + 1);
}`;

/** Nanoseconds of a round trip in the best of many series: those in which both threads ran. NaN where there is one core. */
export async function coreRoundTrip(): Promise<number> {
  if (allowedCores().length < 2) return Number.NaN;
  const shared = new SharedArrayBuffer(4);
  const word = new Int32Array(shared);
  const echo = new Worker(ECHO, { eval: true, workerData: shared });
  await once(echo, 'online');
  let best = Number.POSITIVE_INFINITY;
  let n = 1;
  const end = performance.now() + FOR_MS;
  for (let start = performance.now(); start < end; start = performance.now()) {
    for (let round = 0; round < ROUNDS; round++, n += 2) {
      Atomics.store(word, 0, n);
      while (Atomics.load(word, 0) !== n + 1);
    }
    best = Math.min(best, performance.now() - start);
  }
  Atomics.store(word, 0, END);
  await once(echo, 'exit');
  return (best * 1e6) / ROUNDS;
}
