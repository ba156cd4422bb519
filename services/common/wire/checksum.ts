/**
 * The Internet checksum [RFC 1071] and its incremental update [RFC 1624].
 *
 * A *sum* here is an unfolded one's complement sum (a non-negative number below 2^53); sums over
 * several even-length parts add up with `+`. `finish` folds and complements it into the 16 bits of
 * a header.
 */

import type { Memory } from '../memory.ts';
import { get16, put16 } from './bytes.ts';

/** Sum of `length` bytes from `at`, an odd last byte padded with zero [RFC 1071 §4.1]. */
export function sumOf(bytes: Uint8Array, at: number, length: number): number {
  const end = at + (length & ~1);
  let sum = 0;
  for (let i = at; i < end; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  return length & 1 ? sum + ((bytes[end] as number) << 8) : sum;
}

/** Words after which `wordSum` would lose carries: 2^16 halves of at most 2^16 - 1 fit into 32 bits. */
const WORDS_AT_ONCE = 0x10000;

/**
 * The same sum over a `Memory`, for whole packets, already folded into 16 bits: any offset and length. Reads 32 bits
 * at a time in host order and swaps the bytes of the result once [RFC 1071 §2 (B)]. 0.08 ns a byte.
 */
export function sumOfMemory(memory: Memory, at: number, length: number): number {
  const { u8, u16, i32 } = memory;
  const end = at + length;
  if (length <= 0) return 0;
  let from = at;
  let sum = 0;
  // From an odd offset on, a word's first byte is the upper one in host order, too: nothing to swap then.
  if (from & 1) sum += (u8[from++] as number) << 8;
  if (from & 2 && end - from >= 2) {
    sum += u16[from >>> 1] as number;
    from += 2;
  }
  if (end - from >= 4) {
    const last = end >>> 2;
    for (let word = from >>> 2; word < last; word += WORDS_AT_ONCE) {
      sum += wordSum(i32, word, Math.min(last, word + WORDS_AT_ONCE));
    }
    from = end & ~3;
  }
  if (end - from >= 2) {
    sum += u16[from >>> 1] as number;
    from += 2;
  }
  if (from < end) sum += u8[from] as number;
  const folded = fold(sum);
  return at & 1 ? folded : ((folded & 0xff) << 8) | (folded >>> 8);
}

/**
 * Adds up words `from` to `end` (at most WORDS_AT_ONCE). The upper halves are added apart, the lower ones are
 * what remains of the whole sum modulo 2^32 without them: three operations a word, and no carries to catch.
 */
function wordSum(i32: Int32Array, from: number, end: number): number {
  let all = 0;
  let upper = 0;
  let n = from;
  for (; n + 4 <= end; n += 4) {
    const a = i32[n] as number;
    const b = i32[n + 1] as number;
    const c = i32[n + 2] as number;
    const d = i32[n + 3] as number;
    all = (all + a + b + c + d) | 0;
    upper = (upper + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
  }
  for (; n < end; n++) {
    const word = i32[n] as number;
    all = (all + word) | 0;
    upper = (upper + (word >>> 16)) | 0;
  }
  const lower = (all - (upper << 16)) >>> 0;
  return (lower & 0xffff) + (lower >>> 16) + (upper & 0xffff) + (upper >>> 16);
}

/** Folds a sum into 16 bits without complementing it. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/** The checksum field for a sum: folded and complemented. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** Sum of the IPv4 pseudo header of TCP and UDP [RFC 793 §3.1, RFC 768]; addresses as 32-bit numbers. */
export function pseudoSum(source: number, destination: number, protocol: number, length: number): number {
  return (
    (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length
  );
}

/** Sum of the IPv6 pseudo header [RFC 8200 §8.1]; the two addresses lie in the header at `ipAt`. */
export function pseudoSum6(bytes: Uint8Array, ipAt: number, protocol: number, length: number): number {
  return sumOf(bytes, ipAt + 8, 32) + protocol + length;
}

/** A checksum field after one 16-bit word it covers went from `before` to `after` [RFC 1624 eqn. 3]. */
export function updated16(field: number, before: number, after: number): number {
  return finish((~field & 0xffff) + (~before & 0xffff) + after);
}

/** A checksum field after a 32-bit value it covers (an address) went from `before` to `after`. */
export function updated32(field: number, before: number, after: number): number {
  const high = (~(before >>> 16) & 0xffff) + (after >>> 16);
  const low = (~before & 0xffff) + (after & 0xffff);
  return finish((~field & 0xffff) + high + low);
}

/** Applies `updated32` to the field at `at` in place. */
export function update32At(bytes: Uint8Array, at: number, before: number, after: number): void {
  put16(bytes, at, updated32(get16(bytes, at), before, after));
}

/** Applies `updated16` to the field at `at` in place. */
export function update16At(bytes: Uint8Array, at: number, before: number, after: number): void {
  put16(bytes, at, updated16(get16(bytes, at), before, after));
}
