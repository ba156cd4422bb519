import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { expect, it } from 'vitest';
import { takeShortTurns } from './slice.ts';

/** What the kernel says of the calling thread. */
function scheduling(): Map<string, string> {
  const lines = readFileSync('/proc/thread-self/sched', 'latin1').matchAll(/^(\S+)\s+:\s+(\S+)$/gm);
  return new Map([...lines].map(([, key = '', value = '']) => [key, value]));
}

it('asks for short slices, and changes neither policy nor priority', () => {
  const before = scheduling();
  expect(takeShortTurns()).toBe(true);
  const after = scheduling();
  for (const key of ['policy', 'prio']) expect([key, after.get(key)]).toEqual([key, before.get(key)]);
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const hears = major > 6 || (major === 6 && minor >= 12);
  expect(after.get('se.slice')).toBe(hears ? '100000' : before.get('se.slice'));
});
