/** Standard output and error of a task, with back-pressure. */
import type { Writable } from 'node:stream';
import type { Output } from './env.ts';

/** Wraps a process stream. Writing to a reader that went away is not an error of the task. */
export function outputTo(stream: Writable): Output {
  stream.on('error', () => {});
  return {
    write: async (data) => {
      if (!stream.write(data) && !stream.destroyed) await drained(stream);
    },
  };
}

/** All who wait for a stream share one promise: a listener for each would be many. */
const waiting = new WeakMap<Writable, Promise<void>>();

/** Resolves when a full stream takes more, or never will. */
export function drained(stream: Writable): Promise<void> {
  const known = waiting.get(stream);
  if (known) return known;
  const room = new Promise<void>((resolve) => {
    const done = () => {
      waiting.delete(stream);
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
  });
  waiting.set(stream, room);
  return room;
}

/** Resolves when everything written so far has been handed to the kernel. */
export function flush(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    stream.write('', () => resolve());
    stream.once('close', resolve);
  });
}
