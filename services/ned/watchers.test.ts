import { expect, it } from 'vitest';
import { Watchers } from './watchers.ts';

it('watch() resolves with the first value, now or after a change', async () => {
  const watchers = new Watchers();
  let value: number | undefined;
  const watched = watchers.watch(() => value);
  watchers.changed();
  value = 5;
  watchers.changed();
  expect(await watched).toBe(5);
  expect(await watchers.watch(() => 6)).toBe(6);
});

it.each(['before', 'meanwhile'])('watch() is abandoned when its caller has gone %s', async (when) => {
  const watchers = new Watchers();
  const gone = new AbortController();
  let looks = 0;
  const look = () => {
    looks += 1;
    return undefined;
  };
  if (when === 'before') gone.abort();
  const watched = watchers.watch(look, gone.signal);
  gone.abort();
  await expect(watched).rejects.toMatchObject({ code: 'L4_EIPC_CANCELED' });
  const seen = looks;
  watchers.changed();
  expect(looks).toBe(seen);
});
