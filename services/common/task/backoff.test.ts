import { describe, expect, it } from 'vitest';
import { Backoff } from './backoff.ts';

describe('Backoff', () => {
  it('next() doubles the delay and gives up at the fifth end within a minute', () => {
    const backoff = new Backoff();
    expect([0, 1, 2, 3, 4].map((now) => backoff.next(now))).toEqual([500, 1000, 2000, 4000, undefined]);
  });

  it('next() goes up to 10 s when ends are just rare enough', () => {
    const backoff = new Backoff();
    const ends = [0, 16, 32, 48, 64, 80, 96].map((seconds) => backoff.next(seconds * 1000));
    expect(ends).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  });

  it('next() forgets after a minute without an end', () => {
    const backoff = new Backoff();
    for (const now of [0, 1, 2]) backoff.next(now);
    expect(backoff.next(60_003)).toBe(500);
    expect(backoff.next(60_004)).toBe(1000);
  });
});
