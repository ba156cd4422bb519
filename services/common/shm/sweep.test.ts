/** What a killed process leaves goes, what living ones use stays. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Arena } from './arena.ts';
import { SharedMemories } from './dataspace.ts';
import { Doorbells } from './doorbell.ts';
import { IrqReceiver } from './irq.ts';
import { Lifeline } from './lifeline.ts';
import { randomName } from './run_dir.ts';
import { sweep } from './sweep.ts';

let dir: TestRunDir;
beforeEach(() => {
  dir = testRunDir();
});
afterEach(() => dir[Symbol.dispose]());

/** Files by their part, e.g. `m/0123...`. */
function files(): string[] {
  return ['m', 'b'].flatMap((part) =>
    readdirSync(join(dir.path, part))
      .sort()
      .map((name) => `${part}/${name}`),
  );
}

function age(names: readonly string[]): void {
  for (const name of names) utimesSync(join(dir.path, name), 1, 1);
}

it('sweep() leaves what living processes hold, and memory that is to outlive its maker', () => {
  const arena = new Arena(1 << 20);
  const [memories, doorbells] = [new SharedMemories(dir.path, arena), new Doorbells(dir.path)];
  memories.create(4096);
  memories.create(4096, true, true);
  const irq = new IrqReceiver(dir.path, arena, doorbells);
  const lifeline = new Lifeline(dir.path, randomName());
  const before = files();
  age(before);
  expect([before.length, sweep(dir.path), files()]).toEqual([5, 0, before]);
  irq.close();
  lifeline.close();
  doorbells.close();
  memories.close();
});

it('sweep() removes what a killed process has left, but not at once', async () => {
  const program = `
    import { Arena } from '#common/shm/arena';
    import { SharedMemories } from '#common/shm/dataspace';
    import { Doorbells } from '#common/shm/doorbell';
    import { IrqReceiver } from '#common/shm/irq';
    import { Lifeline } from '#common/shm/lifeline';
    const [dir, name] = process.argv.slice(-2);
    const arena = new Arena(1 << 20);
    const doorbells = new Doorbells(dir);
    const all = [new SharedMemories(dir, arena).create(8192), new IrqReceiver(dir, arena, doorbells), new Lifeline(dir, name)];
    console.log(all.length);
    setInterval(() => {}, 1000);`;
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', program, '--', dir.path, randomName()],
    { cwd: join(import.meta.dirname, '../../..'), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(child.stdout, 'data');
  const left = files();
  expect(left).toHaveLength(4);
  age(left);
  expect(sweep(dir.path)).toBe(0);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const young = randomName();
  const alive = new Lifeline(dir.path, young);
  expect(sweep(dir.path)).toBeGreaterThan(0);
  expect(files()).toEqual([`b/${young}`]);
  alive.close();
  expect(existsSync(join(dir.path, 'b', young))).toBe(false);
});
