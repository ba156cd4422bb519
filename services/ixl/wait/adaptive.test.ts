import { describe, expect, it } from 'vitest';
import { AdaptiveIrq } from './adaptive.ts';

/** 4096 calls, then the check; `ms` pass. True when the interrupt is to change. */
function round(
  adaptive: AdaptiveIrq,
  clock: { time: number },
  packetsPerCall: number,
  ms: number,
  full = false,
): boolean {
  clock.time += ms;
  let changed = false;
  for (let n = 0; n < 4096; n++) changed = adaptive.count(packetsPerCall, full, () => clock.time) || changed;
  return changed;
}

describe('AdaptiveIrq [F5.10]', () => {
  it('polls above 1200 packets/ms and interrupts again below, over five rates', () => {
    const clock = { time: 0 };
    const adaptive = new AdaptiveIrq(0);
    expect(round(adaptive, clock, 32, 1001)).toBe(false);
    expect(adaptive.irqWanted).toBe(true);
    expect(round(adaptive, clock, 1000, 1001)).toBe(true);
    expect(adaptive.irqWanted).toBe(false);
    const changes = Array.from({ length: 5 }, () => round(adaptive, clock, 1, 1001));
    expect(changes).toEqual([false, true, false, false, false]);
    expect(adaptive.irqWanted).toBe(true);
  });

  it('polls when the last batch was full', () => {
    const clock = { time: 0 };
    const adaptive = new AdaptiveIrq(0);
    expect(round(adaptive, clock, 1, 1001, true)).toBe(true);
    expect(adaptive.irqWanted).toBe(false);
  });

  it('does not check before a second is over', () => {
    const clock = { time: 0 };
    const adaptive = new AdaptiveIrq(0);
    expect(round(adaptive, clock, 10_000, 1000)).toBe(false);
    expect(adaptive.irqWanted).toBe(true);
  });
});
