/** engine.mjs and the tests' own look for an engine, with engines that are missing, too old, or closed to us. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const ENGINE = join(import.meta.dirname, 'engine.mjs');

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'l4lab-test-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A docker that answers every call like this. */
function fakeDocker(body: string): void {
  const path = join(dir, 'docker');
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
}

function engine(command: string): { status: number | null; stderr: string } {
  const PATH = `${dir}:${process.env.PATH}`;
  const env = { ...process.env, PATH, L4LAB_ENGINE_DIR: join(dir, 'state') };
  const { status, stderr } = spawnSync(process.execPath, [ENGINE, command], { encoding: 'utf8', env });
  return { status, stderr };
}

describe('engine.mjs', () => {
  it.each([
    [
      'base',
      'no container engine answers: Cannot connect to the Docker daemon',
      'exit 1',
      'Cannot connect to the Docker daemon',
    ],
    ['base', 'must be Docker 20.10 or newer: this is 19.3.8', 'echo 19.3.8', ''],
    ['start', 'must be Docker 20.10 or newer: this is 19.3.8', 'echo 19.3.8', ''],
    [
      'start',
      'this user may not talk to the container engine: be a member of the group docker, or root',
      'exit 1',
      'permission denied while trying to connect to the Docker daemon socket',
    ],
  ])('%s says: %s', (command, message, body, said) => {
    fakeDocker(`echo "${said}" >&2\n${body}`);
    const { status, stderr } = engine(command);
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(1);
  });

  it('stop ends the engine that was started from here, also when nobody asks for its status', async () => {
    const dockerd = join(dir, 'dockerd');
    symlinkSync(process.execPath, dockerd);
    const daemon = spawn(dockerd, ['--eval', 'console.log(1); setInterval(() => {}, 1e6)']);
    const exit = once(daemon, 'exit');
    await once(daemon.stdout, 'data');
    mkdirSync(join(dir, 'state'));
    writeFileSync(join(dir, 'state', 'dockerd.pid'), `${daemon.pid}`);
    // It is our child, and we ask when this call is over.
    const { status, stderr } = engine('stop');
    expect([status, stderr]).toEqual([0, 'engine: stopped\n']);
    expect(await exit).toEqual([null, 'SIGTERM']);
    expect(engine('stop').stderr).toMatch(/nothing to stop/);
  });

  it('refuses an unknown command and names the known ones', () => {
    const { status, stderr } = engine('begin');
    expect(stderr).toBe(
      'engine: Cannot run "begin" as a command must be one of start, stop, status, check, base, env\n',
    );
    expect(status).toBe(1);
  });
});

describe('the tests in containers', () => {
  it('say why they are skipped when the engine is too old', () => {
    fakeDocker('echo 19.3.8');
    const source = `import { whyNoContainers } from '${join(import.meta.dirname, 'docker.ts')}';
      console.log(await whyNoContainers());`;
    const env = { ...process.env, PATH: `${dir}:${process.env.PATH}`, L4LAB_CONTAINERS: '' };
    const tsx = join(import.meta.dirname, '../../node_modules/.bin/tsx');
    const { stdout } = spawnSync(tsx, ['--input-type=module', '--eval', source], { encoding: 'utf8', env });
    expect(stdout).toContain('the container engine must be Docker 20.10 or newer: this is 19.3.8');
  });
});
