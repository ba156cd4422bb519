import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { outputTo } from './output.ts';

it('write() waits for room, with one listener however many wait', async () => {
  const stream = new PassThrough({ highWaterMark: 4 });
  const output = outputTo(stream);
  let written = 0;
  const writes = Array.from({ length: 50 }, () => output.write('12345').then(() => void written++));
  expect([stream.listenerCount('drain'), written]).toEqual([1, 0]);
  stream.resume();
  await Promise.all(writes);
  expect([written, stream.listenerCount('drain'), stream.listenerCount('close')]).toEqual([50, 0, 0]);
});

it('write() to a reader that went away resolves', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  const output = outputTo(stream);
  const waiting = output.write('12345');
  stream.destroy();
  await once(stream, 'close');
  await waiting;
  await output.write('more');
});
