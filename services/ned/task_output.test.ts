import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { LogRecord } from '#common/obs/log_record';
import * as libc from '#common/shm/libc';
import { testRunDir } from '#common/testing/run_dir';
import type { TaskEnd } from './loader.ts';
import { LogSink } from './log.ts';
import { followOutput } from './task_output.ts';

const END: TaskEnd = { status: 0, signal: undefined };

it('reads what is in the pipe before it gives up, however long nothing came to be read', async () => {
  using dir = testRunDir();
  const path = join(dir.path, 'pipe');
  libc.mkfifo(path, 0o600);
  const stdout = new Socket({
    fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK),
    writable: false,
  });
  // Open for longer than the task lives, as something that it has started holds it.
  const pipe = openSync(path, 'w');
  const records: LogRecord[] = [];
  const sink = new LogSink({ write: async (line) => void records.push(JSON.parse(String(line))) });
  const task = { pid: 1, stdout, stderr: null, ended: Promise.resolve(END), kill: () => {} };
  const followed = followOutput(task, 'x', { tag: 'x', color: 7 }, sink);
  await new Promise(setImmediate);
  writeSync(pipe, 'last words\n');
  // Nothing of ours runs for longer than silence is waited for.
  const until = performance.now() + 800;
  while (performance.now() < until);
  expect(await followed).toEqual(END);
  expect(records.map(({ text }) => text)).toEqual(['last words']);
  stdout.destroy();
  closeSync(pipe);
});
