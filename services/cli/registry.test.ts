import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { processesOf, processStart, processUsage } from './processes.ts';
import { claimLab, createLab, runningLabs } from './registry.ts';
import { runBase } from './run_base.ts';

const CAP = { gate: '0'.repeat(32), proof: '' };
const create = (command = 'x.cfg') => createLab({ command: [command], lab: CAP, control: CAP });
/** A lab that was started at that time, in milliseconds since the Unix epoch. */
function createAt(time: number, command?: string) {
  vi.useFakeTimers({ now: time, toFake: ['Date'] });
  try {
    return create(command);
  } finally {
    vi.useRealTimers();
  }
}

let base: string;
let former: string | undefined;
beforeEach(() => {
  base = mkdtempSync('/tmp/l4lab-base-');
  former = process.env.L4LAB_RUN_BASE;
  process.env.L4LAB_RUN_BASE = base;
});
afterEach(() => {
  if (former === undefined) delete process.env.L4LAB_RUN_BASE;
  else process.env.L4LAB_RUN_BASE = former;
  rmSync(base, { recursive: true, force: true });
});

describe('runningLabs()', () => {
  it('lists labs oldest first, as long as their launcher lives', () => {
    // Eight: their names are random, and so is the order in which the directory lists them.
    const commands = Array.from({ length: 8 }, (_, i) => `${i}.cfg`);
    const labs = commands.map((command, i) => createAt(1_000 + i, command));
    expect(runningLabs().map(({ command }) => command)).toEqual(commands.map((command) => [command]));
    labs[0]?.release();
    expect(runningLabs().map(({ command }) => command)).toEqual(
      commands.slice(1).map((command) => [command]),
    );
    for (const lab of labs.slice(1)) lab.release();
    expect(readdirSync(base)).toEqual([]);
  });

  it('lists labs of one millisecond in the order of their ids', () => {
    const labs = Array.from({ length: 8 }, () => createAt(1_000));
    expect(runningLabs().map(({ id }) => id)).toEqual(labs.map(({ record }) => record.id).sort());
    for (const lab of labs) lab.release();
  });

  it('cleans a lab whose launcher is gone: its processes and its files', async () => {
    const { record: lab, abandon } = create();
    // What the kernel does when the launcher dies. The pid lives on: only the lock counts.
    abandon();
    const left: ChildProcess = spawn('sleep', ['60'], { env: { L4LAB_RUN_DIR: lab.dir }, stdio: 'ignore' });
    const ended = once(left, 'exit');
    const cleaned: [string, number][] = [];
    await expect.poll(() => processesOf(lab.dir)).toEqual([left.pid]);
    expect(runningLabs((dir, killed) => cleaned.push([dir, killed]))).toEqual([]);
    expect([cleaned, existsSync(lab.dir)]).toEqual([[[lab.dir, 1]], false]);
    expect((await ended)[1]).toBe('SIGKILL');
  });

  it.each(['in the run base', 'elsewhere'])('lists the lab in L4LAB_BROKER_DIR once: %s', (where) => {
    const outside = mkdtempSync('/tmp/l4lab-broker-');
    const dir = join(where === 'elsewhere' ? outside : base, 'broker');
    vi.stubEnv('L4LAB_BROKER_DIR', dir);
    try {
      expect(runningLabs()).toEqual([]);
      mkdirSync(dir, { mode: 0o700 });
      const broker = claimLab(dir).publish({ command: ['b.cfg'], lab: CAP, control: CAP, external: true });
      const lab = create();
      expect(
        runningLabs()
          .map((record) => record.dir)
          .sort(),
      ).toEqual([dir, lab.record.dir].sort());
      broker.release();
      lab.release();
      expect([runningLabs(), existsSync(dir)]).toEqual([[], false]);
    } finally {
      vi.unstubAllEnvs();
      rmSync(outside, { recursive: true });
    }
  });

  it('leaves a directory alone that is just being made, and cleans it when it is old', () => {
    const young = join(base, '.new-abc');
    mkdirSync(young);
    expect([runningLabs(), existsSync(young)]).toEqual([[], true]);
    utimesSync(young, 0, 0);
    expect([runningLabs(), existsSync(young)]).toEqual([[], false]);
  });
});

describe('runBase()', () => {
  it('refuses a directory that others may enter', () => {
    chmodSync(base, 0o755);
    expect(() => runBase()).toThrow('closed to others (mode 0700): its mode is 0755');
  });

  it('refuses what is no directory, and says why it cannot make one', () => {
    const path = join(base, 'file');
    writeFileSync(path, '');
    process.env.L4LAB_RUN_BASE = path;
    expect(() => runBase()).toThrow(`Cannot use ${path} for labs as it must be a directory: it is a file`);
    rmSync(path);
    symlinkSync(join(base, 'nowhere'), path);
    expect(() => runBase()).toThrow('it is a symbolic link');
    process.env.L4LAB_RUN_BASE = join(base, 'a', 'b');
    expect(() => runBase()).toThrow('cannot be made: no such file or directory (ENOENT)');
    // Node's recursive mkdir never comes back from there.
    process.env.L4LAB_RUN_BASE = '/proc/nowhere';
    expect(() => runBase()).toThrow('cannot be made');
  });
});

it('createLab() refuses a base whose sockets would have too long paths', () => {
  const deep = join(base, 'x'.repeat(80));
  mkdirSync(deep, { mode: 0o700 });
  process.env.L4LAB_RUN_BASE = deep;
  expect(() => create()).toThrow('set L4LAB_RUN_BASE to a shorter directory');
  expect(readdirSync(deep)).toEqual([]);
});

it('processStart() and processUsage() tell of a process, and that it is gone', async () => {
  const child = spawn('true', { stdio: 'ignore' });
  await once(child, 'exit');
  expect([processStart(child.pid ?? 0), processUsage(child.pid ?? 0)]).toEqual([
    undefined,
    { cpuSeconds: 0, rssBytes: 0 },
  ]);
  expect(processStart(process.pid)).toBeGreaterThan(0);
  expect(processUsage(process.pid).rssBytes).toBeGreaterThan(1e6);
});
