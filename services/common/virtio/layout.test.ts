import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import {
  availBytes,
  checkLayout,
  descBytes,
  isQueueSize,
  layoutQueue,
  needsEvent,
  queueBytes,
  usedBytes,
} from './layout.ts';

describe('layoutQueue()', () => {
  it.each([1, 2, 8, 256, 32768])('lays out %i entries without overlap, aligned 16/2/4', (size) => {
    const { desc, avail, used } = layoutQueue(size, 4096);
    expect([desc % 16, avail % 2, used % 4]).toEqual([0, 0, 0]);
    expect(avail).toBeGreaterThanOrEqual(desc + descBytes(size));
    expect(used).toBeGreaterThanOrEqual(avail + availBytes(size));
    expect(4096 + queueBytes(size)).toBeGreaterThanOrEqual(used + usedBytes(size));
    expect(queueBytes(size) % 16).toBe(0);
  });

  it('matches the sizes of the specification for 256 entries', () => {
    expect([descBytes(256), availBytes(256), usedBytes(256)]).toEqual([4096, 518, 2054]);
    expect(layoutQueue(256, 0)).toEqual({ size: 256, desc: 0, avail: 4096, used: 4616 });
  });
});

describe('checkLayout()', () => {
  it('throws for an area that is misaligned or outside', () => {
    const good = layoutQueue(8, 0);
    const bytes = queueBytes(8);
    expect(() => checkLayout(good, bytes)).not.toThrow();
    expect(() => checkLayout({ ...good, desc: 8 }, bytes)).toThrow(/descriptor table .* 16-aligned/);
    expect(() => checkLayout({ ...good, avail: 1 }, bytes)).toThrow(/avail ring/);
    expect(() => checkLayout({ ...good, used: bytes }, bytes)).toThrow(/used ring/);
    expect(() => checkLayout({ ...good, size: 7 }, bytes)).toThrow(/power of two/);
  });

  it.each([
    [0, false],
    [1, true],
    [3, false],
    [32768, true],
    [65536, false],
    [2.5, false],
  ])('isQueueSize(%d) is %s', (size, expected) => expect(isQueueSize(size)).toBe(expected));
});

describe('needsEvent()', () => {
  it('is true exactly when the asked-for entry is among those written', () => {
    fc.assert(
      fc.property(fc.nat(65535), fc.nat(300), fc.nat(65535), (old, count, event) => {
        const written = new Set(Array.from({ length: count }, (_, i) => (old + i) & 0xffff));
        expect(needsEvent(event, (old + count) & 0xffff, old)).toBe(written.has(event));
      }),
    );
  });
});
