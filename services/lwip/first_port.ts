/** The local port that lwIP counts from. */
import type { Memory } from '#common/memory';
import { writeIpv4 } from './address.ts';
import { ERR } from './errors.ts';
import type { Ffi } from './ffi.ts';

/** Chance alone does not make that many. */
const MAX_TRIES = 16;

/**
 * Draws again while the number that lwIP has drawn is one that it does not count on from. lwIP 2.1.3 gives local ports from
 * 49152 to 65534 and begins behind a random one; when that is 65535, as it is once in 16,384 starts, the next is 0, so that the
 * program's first connection fails (ERR_BUF), and those behind it get 1, 2, and so on.
 *
 * `at` is the offset of memory for an address. Throws nothing: a library that refuses for another reason fails its self-test.
 */
export function drawFirstPort(ffi: Ffi, memory: Memory & { readonly address: number }, at: number): void {
  writeIpv4(memory, at, 0);
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const pcb = ffi.tcp_new_ip_type(0);
    const err = ffi.tcp_bind(pcb, memory.address + at, 0);
    ffi.tcp_abort(pcb);
    if (err !== ERR.BUF) return;
    // It draws, and does nothing else.
    ffi.tcp_init();
  }
}
