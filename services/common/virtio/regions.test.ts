import { describe, expect, it, vi } from 'vitest';
import fc from '#common/testing/fast_check';
import { VirtioError } from './errors.ts';
import { Regions } from './regions.ts';

const MIB = 2 ** 20;

describe('Regions.translate()', () => {
  it('returns -1 while nothing is registered', () => {
    expect(new Regions(2).translate(0, 0, 0)).toBe(-1);
  });

  it('accepts exactly what lies in one region', () => {
    const regions = new Regions(2);
    regions.add(2 * MIB, 4096, 8192, true);
    regions.add(2 * MIB + 4096, 4096, 65536, false); // right behind it, elsewhere in our memory
    expect(regions.translate(2 * MIB, 0, 4096)).toBe(8192);
    expect(regions.hitWritable).toBe(true);
    expect(regions.translate(2 * MIB + 4095, 0, 1)).toBe(8192 + 4095);
    expect(regions.translate(2 * MIB + 4096, 0, 1)).toBe(65536);
    expect(regions.hitWritable).toBe(false);
    expect(regions.translate(2 * MIB + 4095, 0, 2)).toBe(-1); // in both, in neither as a whole
    expect(regions.translate(2 * MIB - 1, 0, 1)).toBe(-1);
    expect(regions.translate(2 * MIB + 8191, 0, 2)).toBe(-1);
    expect(regions.translate(2 * MIB, 1, 1)).toBe(-1);
  });

  it('handles regions above and across 4 GiB', () => {
    const regions = new Regions(1);
    regions.add(2 ** 32 - 4096, 8192, 0, true);
    expect(regions.translate(0xffff_ffff, 0, 2)).toBe(4095);
    expect(regions.translate(0, 1, 4096)).toBe(4096);
    expect(regions.translate(0xffff_ffff, 0xffff_ffff, 0xffff_ffff)).toBe(-1);
  });

  it('agrees with a plain search, whatever came before', () => {
    const page = fc.nat(15);
    fc.assert(
      fc.property(
        fc.uniqueArray(page, { maxLength: 8 }),
        fc.array(fc.record({ address: fc.nat(17 * 4096), len: fc.nat(8192) })),
        (pages, queries) => {
          const regions = new Regions(8);
          for (const [i, p] of pages.entries()) regions.add(p * 4096, 4096, i * 4096, i % 2 === 0);
          for (const { address, len } of queries) {
            const i = pages.findIndex((p) => address >= p * 4096 && address + len <= (p + 1) * 4096);
            const where = regions.translate(address, 0, len);
            // A range of no bytes between two regions is in either.
            if (len === 0 && address % 4096 === 0) continue;
            expect(where).toBe(i < 0 ? -1 : i * 4096 + address - (pages[i] as number) * 4096);
            if (i >= 0) expect(regions.hitWritable).toBe(i % 2 === 0);
            expect(regions.find(address, len)).toBe(where);
          }
        },
      ),
    );
  });
});

describe('Regions.add()', () => {
  it.each([
    [2 * MIB - 4096, 8192],
    [2 * MIB, 4096],
    [2 * MIB + 4096, 4096],
    [0, 16 * MIB],
  ])('refuses an overlap: %i + %i', (base, size) => {
    const regions = new Regions(3);
    regions.add(2 * MIB, 8192, 0, true);
    expect(() => regions.add(base, size, 0, true)).toThrow(
      /^Cannot register memory at 0x.* as it must not overlap what is registered: 0x200000\.\.0x201fff$/,
    );
    expect(regions.count).toBe(1);
  });

  it('throws ENOMEM beyond ds-max, with a hint', () => {
    const regions = new Regions(1);
    regions.add(0, 4096, 0, true);
    expect(() => regions.add(4096, 4096, 0, true)).toThrow(expect.objectContaining({ errno: 'ENOMEM' }));
    expect(() => regions.add(4096, 4096, 0, true)).toThrow(/ds-max=1/);
  });

  it.each([
    [-4096, 4096],
    [2 ** 53, 4096],
    [2 ** 53 - 4096, 4097],
    [0, 0],
    [0, Number.NaN],
  ])('refuses %i + %i as a range', (base, size) => {
    expect(() => new Regions(1).add(base, size, 0, true)).toThrow(VirtioError);
  });

  it('replaces stale regions where it overlaps them, and closes what they held', () => {
    const [first, second, third] = [vi.fn(), vi.fn(), vi.fn()];
    const regions = new Regions(2);
    regions.add(0, 8192, 0, true, { close: first });
    regions.add(8192, 4096, 0, true, { close: second });
    regions.markStale();
    expect(regions.translate(0, 0, 1)).toBe(0); // survives a reset
    regions.add(0, 4096, 65536, true, { close: third });
    expect([first, second, third].map((f) => f.mock.calls.length)).toEqual([1, 0, 0]);
    expect(regions.translate(0, 0, 1)).toBe(65536);
    expect(regions.translate(4096, 0, 1)).toBe(-1);
    expect(regions.translate(8192, 0, 1)).toBe(0);
    regions.keep();
    expect(() => regions.add(8192, 4096, 0, true)).toThrow(/must not overlap/);
    regions.clear();
    expect([first, second, third].map((f) => f.mock.calls.length)).toEqual([1, 1, 1]);
    expect(regions.translate(8192, 0, 1)).toBe(-1);
  });
});
