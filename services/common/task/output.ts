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

/** Resolves when a full stream takes more, or never will. */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
  });
}

/** Resolves when everything written so far has been handed to the kernel. */
export function flush(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    stream.write('', () => resolve());
    stream.once('close', resolve);
  });
}
