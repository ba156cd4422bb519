import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { L4Error } from '#common/ipc/errors';
import { randomName } from '#common/shm/run_dir';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { consoleDescriptor, SpawnBackend } from './loader.ts';

/** Stands for common/task/start: shows what a task's process is given, then does what argv says. */
const TASK_MAIN = `
import { readFileSync, statSync } from 'node:fs';
const record = readFileSync(process.env.L4LAB_RECORD);
console.log(JSON.stringify({
  env: Object.keys(process.env).sort(), named: record.includes('rom/x'), pid: process.pid,
  mode: statSync(process.env.L4LAB_RECORD).mode & 0o777, stdin: process.stdin.isTTY ?? false,
}));
if (record.includes('spin')) setInterval(() => {}, 1000);
else process.exitCode = 7;
`;

describe('SpawnBackend', () => {
  let dir: TestRunDir;
  let saved: string | undefined;

  beforeEach(() => {
    dir = testRunDir();
    saved = process.env.L4LAB_TASK_MAIN;
    process.env.L4LAB_TASK_MAIN = join(dir.path, 'main.mjs');
    writeFileSync(process.env.L4LAB_TASK_MAIN, TASK_MAIN);
  });
  afterEach(() => {
    if (saved === undefined) delete process.env.L4LAB_TASK_MAIN;
    else process.env.L4LAB_TASK_MAIN = saved;
    dir[Symbol.dispose]();
  });

  const record = (...argv: string[]) => ({ task: randomName(), name: 'x', argv });

  it('starts a process that sees its record and nothing of our environment', async () => {
    process.env.SECRET_OF_NED = 'x';
    const task = new SpawnBackend(dir.path, []).start(record('rom/x'), {});
    const seen = JSON.parse(await text(task.stdout as NonNullable<typeof task.stdout>));
    expect(seen).toMatchObject({ named: true, pid: task.pid, mode: 0o600 });
    expect(seen.env).toEqual(expect.arrayContaining(['L4LAB_RECORD', 'L4LAB_RUN_DIR', 'PATH']));
    expect(seen.env).not.toContain('SECRET_OF_NED');
    expect(await task.ended).toEqual({ status: 7, signal: undefined });
    delete process.env.SECRET_OF_NED;
  });

  it('reports a signal as 128 + its number', async () => {
    const task = new SpawnBackend(dir.path, []).start(record('rom/x', 'spin'), {});
    task.stdout?.once('data', () => task.kill('SIGKILL'));
    expect(await task.ended).toEqual({ status: 137, signal: 'SIGKILL' });
  });

  it.each([
    ['there is no such program', '/nosuch/node', /ENOENT/],
    ['its name cannot be one', 'no\0de', /no process can be made for it/],
  ])('leaves no record behind when no process can be made: %s', async (_why, path, message) => {
    const node = process.execPath;
    process.execPath = path;
    try {
      const backend = new SpawnBackend(dir.path, []);
      const problem = await (async () => (await backend.start(record('rom/x'), {}).ended).problem)().catch(
        (err: L4Error) => `${err.code} ${err.message}`,
      );
      expect(problem).toMatch(message);
      expect(readdirSync(join(dir.path, 't'))).toEqual([]);
    } finally {
      process.execPath = node;
    }
  });

  it('says that a record cannot be written', () => {
    rmSync(join(dir.path, 't'), { recursive: true });
    expect(() => new SpawnBackend(dir.path, []).start(record('rom/x'), {})).toThrow(
      /^Cannot start task 'x' as its launch record cannot be written: ENOENT/,
    );
  });

  it('hands a raw descriptor on as stdout', async () => {
    const path = join(dir.path, 'out');
    const fd = openSync(path, 'w');
    const task = new SpawnBackend(dir.path, []).start(record('rom/x'), { rawStdout: fd });
    expect(task.stdout).toBeNull();
    await task.ended;
    closeSync(fd);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ named: true });
  });
});

describe('consoleDescriptor()', () => {
  it('is what the launcher says, if it says so', () => {
    expect(consoleDescriptor({ L4LAB_CONSOLE_FD: '5' })).toBe(5);
  });
});
