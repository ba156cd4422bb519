/**
 * The Internet checksum [RFC 1071] over bytes of an arena.
 *
 * Sums are in the machine's byte order: a one's complement sum does not care, as long as it is stored in the
 * same order, which is that of the memory's 16-bit words (little-endian). All sums are folded to 16 bits.
 *
 * Measured on Node 20: 200 ns for 1460 bytes, 7.4 us for 64 KiB (8.8 GB/s). Sums of 32-bit words in doubles, which are
 * exact here, beat halves in integers (230 ns, 9.6 us) and 16-bit words (260 ns, 10.7 us).
 */
import type { Memory } from '#common/memory';
import type { Pieces } from './source_frame.ts';

/** Sum of two folded sums. */
export function addSums(a: number, b: number): number {
  const sum = a + b;
  return (sum & 0xffff) + (sum >>> 16);
}

/** What a sum becomes when its bytes move by an odd number of places. */
export function swapSum(sum: number): number {
  return ((sum & 0xff) << 8) | (sum >>> 8);
}

/** A number in the order of the wire, as a word of the sum. */
export function wireWord(value: number): number {
  return swapSum(value & 0xffff);
}

/** Sum of `length` bytes at offset `at`, any alignment. */
export function sumBytes(memory: Memory, at: number, length: number): number {
  if (length <= 0) return 0;
  if ((at & 1) === 0) return sumEven(memory, at, length);
  // The first byte is the low half of the first word; what follows starts at its high half.
  return addSums(memory.u8[at] as number, swapSum(sumEven(memory, at + 1, length - 1)));
}

/** Sum of bytes [start, end) of a frame whose data begins `skip` bytes into piece `first`. */
export function sumPieces(
  memory: Memory,
  pieces: Pieces,
  first: number,
  skip: number,
  start: number,
  end: number,
): number {
  let sum = 0;
  let before = skip + start;
  let left = end - start;
  let odd = false;
  for (let n = first; left > 0 && n < pieces.count; n++) {
    const room = (pieces.len[n] as number) - before;
    if (room <= 0) {
      before = 0 - room;
      continue;
    }
    const size = Math.min(room, left);
    const part = sumBytes(memory, (pieces.where[n] as number) + before, size);
    sum = addSums(sum, odd ? swapSum(part) : part);
    odd = odd !== ((size & 1) === 1);
    left -= size;
    before = 0;
  }
  return sum;
}

/** What to store for a sum; 0 would say "no checksum" in UDP and is the same number as 0xffff. */
export function checksumOf(sum: number): number {
  const value = ~sum & 0xffff;
  return value === 0 ? 0xffff : value;
}

/** Stores a sum or checksum at any alignment. */
export function storeSum(memory: Memory, at: number, value: number): void {
  memory.u8[at] = value;
  memory.u8[at + 1] = value >>> 8;
}

function sumEven(memory: Memory, at: number, length: number): number {
  const { u8, u16, u32 } = memory;
  const end = at + length;
  let p = at;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  if ((p & 2) !== 0 && p + 2 <= end) {
    a = u16[p >>> 1] as number;
    p += 2;
  }
  const last = p + ((end - p) & ~15);
  let word = p >>> 2;
  for (; p < last; p += 16, word += 4) {
    a += u32[word] as number;
    b += u32[word + 1] as number;
    c += u32[word + 2] as number;
    d += u32[word + 3] as number;
  }
  for (; p + 2 <= end; p += 2) d += u16[p >>> 1] as number;
  if (p < end) d += u8[p] as number;
  return foldDouble(a + b + (c + d));
}

/** Folds a sum of up to 2^47. */
function foldDouble(sum: number): number {
  const high = Math.floor(sum / 65536);
  // Below 2^31 + 2^16: an unsigned 32-bit number.
  let folded = high + (sum - high * 65536);
  folded = (folded & 0xffff) + (folded >>> 16);
  return (folded & 0xffff) + (folded >>> 16);
}
