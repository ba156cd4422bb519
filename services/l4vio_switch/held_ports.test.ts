import { afterEach, expect, it, vi } from 'vitest';
import { HeldPorts } from './held_ports.ts';

afterEach(() => vi.useRealTimers());

it('looks at held ports again, also at those that are held again meanwhile, and not at those that are gone', () => {
  vi.useFakeTimers();
  const seen: number[] = [];
  let turns = 0;
  const held = new HeldPorts(
    4,
    (port) => seen.push(port),
    () => {
      turns += 1;
      if (turns < 3) held.add(1);
    },
  );
  for (const port of [1, 2, 3]) held.add(port);
  held.remove(2);
  vi.runAllTimers();
  expect([seen.slice(0, 2).sort(), seen.slice(2), turns]).toEqual([[1, 3], [1, 1], 3]);
  held.add(0);
  held.close();
  vi.runAllTimers();
  expect(turns).toBe(3);
});
