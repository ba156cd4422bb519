import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import fc from '#common/testing/fast_check';
import { addSums, checksumOf, storeSum, sumBytes, sumPieces, swapSum } from './checksum.ts';
import { slowSum } from './testing/tcp_frame.ts';

function memoryWith(at: number, bytes: Uint8Array): Memory {
  const memory = new Memory(new ArrayBuffer(1 << 18));
  memory.u8.fill(0xa5);
  memory.u8.set(bytes, at);
  return memory;
}

/** Sums are those of little-endian words: the slow one, swapped. Zero has two forms. */
const sameSum = (sum: number, slow: number): void => expect(sum % 0xffff).toBe(swapSum(slow) % 0xffff);

describe('sumBytes', () => {
  it('is the one of RFC 1071 §3', () => {
    const memory = memoryWith(64, Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7));
    expect(swapSum(sumBytes(memory, 64, 8))).toBe(0xddf2);
  });

  it('sums any length at any alignment as the slow one does', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(16), (bytes, at) => {
        sameSum(sumBytes(memoryWith(at, bytes), at, bytes.length), slowSum(bytes));
      }),
      { numRuns: 500 },
    );
  });

  it('does not overflow on 64 KiB of 0xff', () => {
    for (const at of [0, 1, 2, 3]) {
      const memory = memoryWith(at, new Uint8Array(65_600).fill(0xff));
      expect(sumBytes(memory, at, 65_600)).toBe(0xffff);
    }
  });

  it('sums pieces of any lengths as one run of bytes', () => {
    const cut = fc.record({ len: fc.nat(40), gap: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(cut, { minLength: 1, maxLength: 9 }), fc.nat(60), fc.nat(400), (cuts, a, b) => {
        const memory = new Memory(new ArrayBuffer(4096));
        const where: number[] = [];
        const all: number[] = [];
        let at = 0;
        for (const { len, gap } of cuts) {
          at += gap;
          where.push(at);
          for (let n = 0; n < len; n++) {
            memory.u8[at + n] = all.length * 89 + 3;
            all.push(memory.u8[at + n] as number);
          }
          at += len;
        }
        const len = cuts.map((one) => one.len);
        const start = Math.min(a, all.length);
        const end = Math.max(start, Math.min(b, all.length));
        const pieces = { count: cuts.length, where, len };
        sameSum(sumPieces(memory, pieces, 0, 0, start, end), slowSum(all.slice(start, end)));
      }),
      { numRuns: 500 },
    );
  });
});

describe('checksumOf', () => {
  it('makes a sum that checks, and never says 0', () => {
    expect(checksumOf(0xffff)).toBe(0xffff);
    const memory = memoryWith(1, Uint8Array.of(1, 2, 3, 4, 0, 0));
    storeSum(memory, 5, checksumOf(sumBytes(memory, 1, 6)));
    expect(sumBytes(memory, 1, 6)).toBe(0xffff);
    expect(addSums(0xffff, 1)).toBe(1);
  });
});
