import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createLab } from './registry.ts';
import { stop } from './stop.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync('/tmp/l4lab-stop-');
  vi.stubEnv('L4LAB_RUN_BASE', base);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(base, { recursive: true, force: true });
});

it('stop() says so when the launcher is in another container, and leaves alone who has its pid here', async () => {
  const other = spawn('sleep', ['60'], { stdio: 'ignore' });
  const ended = once(other, 'exit');
  const gate = { gate: '0'.repeat(32), proof: '' };
  const lab = createLab({ command: ['x.cfg'], lab: gate, control: gate });
  const { id, dir } = lab.record;
  writeFileSync(join(dir, 'run.json'), JSON.stringify({ ...lab.record, pid: other.pid, startTicks: 1 }));
  const problem = `Cannot stop lab ${id} as it runs in another container: stop it there`;
  expect(await stop([id])).toEqual([{ id, command: ['x.cfg'], how: 'failed', problem }]);
  lab.release();
  expect(await stop([])).toEqual([]);
  other.kill('SIGKILL');
  expect((await ended)[1]).toBe('SIGKILL');
});
