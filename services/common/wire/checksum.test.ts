import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { Memory } from '../memory.ts';
import { get16, get32, put16, put32 } from './bytes.ts';
import { finish, fold, sumOf, sumOfMemory, update32At, updated16 } from './checksum.ts';

describe('sumOf()', () => {
  it('gives the example of [RFC 1071 §3]', () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(fold(sumOf(bytes, 0, 8))).toBe(0xddf2);
    expect(finish(sumOf(bytes, 0, 8))).toBe(0x220d);
  });

  it('pads an odd last byte with zero', () => {
    expect(sumOf(Uint8Array.of(0xa5, 0x12, 0x34, 0x56), 1, 3)).toBe(0x1234 + 0x5600);
  });
});

describe('sumOfMemory()', () => {
  const check = (data: Uint8Array, at: number) => {
    const memory = new Memory(new ArrayBuffer((at + data.length + 8 + 7) & ~7));
    memory.u8.fill(0xa5);
    memory.u8.set(data, at);
    return sumOfMemory(memory, at, data.length) === fold(sumOf(memory.u8, at, data.length));
  };

  it('agrees with sumOf() at any offset and length', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(40), (data, at) => check(data, at)));
  });

  it('loses no carry in words of extreme values', () => {
    const extreme = fc.constantFrom(0x00, 0x01, 0x7f, 0x80, 0xff);
    fc.assert(
      fc.property(fc.array(extreme, { maxLength: 300 }), fc.nat(7), (data, at) =>
        check(Uint8Array.from(data), at),
      ),
    );
  });

  it.each([0x10000 * 4 - 1, 0x10000 * 4, 0x10000 * 4 + 5, 0x30000 * 4 + 3])(
    'loses no carry in %i bytes of ones',
    (length) => {
      for (let at = 0; at < 4; at++) expect(check(new Uint8Array(length).fill(0xff), at)).toBe(true);
    },
  );

  it('gives 0 for nothing', () => {
    expect([0, 1, 2, 3].map((at) => sumOfMemory(new Memory(new ArrayBuffer(8)), at, 0))).toEqual([
      0, 0, 0, 0,
    ]);
  });

  it('never reads beyond the range', () => {
    const memory = new Memory(new ArrayBuffer(64));
    for (let at = 8; at < 16; at++) {
      for (let length = 0; length < 24; length++) {
        memory.u8.fill(0xff);
        memory.u8.fill(0, at, at + length);
        expect(sumOfMemory(memory, at, length)).toBe(0);
      }
    }
  });
});

describe('updated16()', () => {
  it('gives the example of [RFC 1624 §4]', () => {
    expect(updated16(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });
});

it('update32At() equals a fresh checksum after any change of an address', () => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 18, maxLength: 18 }), u32, (data, after) => {
      data[0] = 0x45; // as in every header, so that the sum is never all zeros
      put16(data, 10, 0);
      put16(data, 10, finish(sumOf(data, 0, 18)));
      const before = get32(data, 12);
      put32(data, 12, after);
      update32At(data, 10, before, after);
      expect(fold(sumOf(data, 0, 18))).toBe(0xffff);
      expect(get16(data, 10)).toBeLessThan(0x10000);
    }),
  );
});
