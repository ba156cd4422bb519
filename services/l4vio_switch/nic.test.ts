import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { watchNic } from './nic.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('watchNic() tells once that the NIC does not answer any more', () => {
  let gone = false;
  const onGone = vi.fn();
  watchNic({ isGone: () => gone }, onGone);
  vi.advanceTimersByTime(20_000);
  expect(onGone).not.toHaveBeenCalled();
  gone = true;
  vi.advanceTimersByTime(20_000);
  expect(onGone).toHaveBeenCalledTimes(1);
});

it('watchNic() is silent once it was ended', () => {
  const onGone = vi.fn();
  watchNic({ isGone: () => true }, onGone)();
  vi.advanceTimersByTime(20_000);
  expect(onGone).not.toHaveBeenCalled();
});
