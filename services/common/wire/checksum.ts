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

/**
 * The same sum over a `Memory`, for whole packets: reads 16 bits at a time when `at` is even, in host
 * order, and swaps the bytes of the result once [RFC 1071 §2 (B)].
 */
export function sumOfMemory(memory: Memory, at: number, length: number): number {
  if (at & 1) return sumOf(memory.u8, at, length);
  const { u16 } = memory;
  const end = (at + (length & ~1)) >>> 1;
  let i = at >>> 1;
  let sum = 0;
  for (; i + 4 <= end; i += 4) {
    sum += (u16[i] as number) + (u16[i + 1] as number) + (u16[i + 2] as number) + (u16[i + 3] as number);
  }
  for (; i < end; i++) sum += u16[i] as number;
  if (length & 1) sum += memory.u8[at + length - 1] as number;
  const folded = fold(sum);
  return ((folded & 0xff) << 8) | (folded >>> 8);
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
