/**
 * How much garbage V8 may leave lying in a program that moves bytes.
 *
 * Each 64 KiB that come in are a new ArrayBuffer here and another one in Node's HTTP parser, short-lived both. V8 counts
 * their bytes as old ones and marks the whole heap when there are as many as the program's live data, some 10 MB: 93 times
 * for a download of 1 GiB, with a third of the process's CPU time in V8's marking threads. Measured on that download, five
 * runs each in turn: 80 to 97 marking collections and 3.8 to 4.5 s/GB of CPU before, 1 and 2.6 to 3.5 s/GB with this, the
 * memory is the same: young garbage is collected as often as before, and most of these buffers with it. At 300 %: 11.
 */
import { setFlagsFromString } from 'node:v8';

/** In percent of the live data. */
const GARBAGE = 700;

/** Affects this process only. Idempotent. */
export function collectRarely(): void {
  setFlagsFromString(`--heap-growing-percent=${GARBAGE}`);
}
