/** deploy/tools/setup.mjs in a small checkout of the test's own: what it builds, what it removes, and who waits for whom. */
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ROOT, Run } from './harness.ts';

let root: string;
const path = (name: string) => join(root, name);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'l4lab-setup-'));
  for (const dir of ['services/cli', 'test', 'proto']) mkdirSync(path(dir), { recursive: true });
  cpSync(join(ROOT, 'deploy/tools'), path('deploy/tools'), { recursive: true });
  cpSync(join(ROOT, 'l4lab'), path('l4lab'));
  symlinkSync(join(ROOT, 'node_modules'), path('node_modules'));
  const compilerOptions = { module: 'nodenext', rootDir: '.', outDir: 'dist', types: [] };
  const tsconfig = { compilerOptions, include: ['services/**/*.ts', 'test/**/*.ts'] };
  writeFileSync(path('tsconfig.json'), JSON.stringify(tsconfig));
  writeFileSync(path('package.json'), '{ "type": "module" }');
  writeFileSync(path('package-lock.json'), '{}');
  // Older than what is installed: npm is not called.
  utimesSync(path('package-lock.json'), 0, 0);
  for (const name of ['a', 'b']) {
    writeFileSync(
      path(`proto/${name}.proto`),
      `syntax = "proto3"; package l4lab; message ${name.toUpperCase()} {}`,
    );
    writeFileSync(path(`services/${name}.ts`), `export const ${name} = 1;\n`);
  }
  writeFileSync(
    path('services/cli/main.ts'),
    'import { a } from "../a.js"; import { b } from "../b.js"; console.log(a, b);\n',
  );
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function start(program: string): Run {
  return new Run(spawn(process.execPath, [path(program)], { stdio: ['ignore', 'pipe', 'pipe'] }));
}

async function done(program: string): Promise<{ status: unknown; built: number; text: string }> {
  const run = start(program);
  const status = await run.exit;
  return { status, built: run.stderr.split('setup: building').length - 1, text: run.text };
}

it('builds what has changed, and removes what is gone', async () => {
  expect(await done('deploy/tools/setup.mjs')).toMatchObject({ status: 0, built: 1 });
  expect(await done('deploy/tools/setup.mjs')).toMatchObject({ status: 0, built: 0 });
  // Not the newest of all: only the list of names tells that they are gone.
  rmSync(path('services/b.ts'));
  rmSync(path('proto/b.proto'));
  writeFileSync(path('services/cli/main.ts'), 'import { a } from "../a.js"; console.log(a);\n');
  utimesSync(path('services/cli/main.ts'), 0, 0);
  expect(await done('deploy/tools/setup.mjs')).toMatchObject({ status: 0, built: 1 });
  expect([existsSync(path('dist/services/a.js')), existsSync(path('dist/services/b.js'))]).toEqual([
    true,
    false,
  ]);
  expect(await done('l4lab')).toEqual({ status: 0, built: 0, text: '1\n' });
});

it('is done once for all who start in a fresh checkout at the same time, and again after an interruption', async () => {
  const starts = await Promise.all([done('l4lab'), done('l4lab'), done('l4lab')]);
  expect(starts.map(({ status, text }) => [status, text])).toEqual([1, 2, 3].map(() => [0, '1 1\n']));
  expect(starts.reduce((sum, { built }) => sum + built, 0)).toBe(1);
  writeFileSync(path('dist/.unfinished'), '');
  expect(await done('l4lab')).toEqual({ status: 0, built: 1, text: '1 1\n' });
  expect(await done('l4lab')).toEqual({ status: 0, built: 0, text: '1 1\n' });
});

it('says in one line what cannot be had', async () => {
  writeFileSync(path('dist'), '');
  const run = start('l4lab');
  expect([await run.exit, run.stderr]).toEqual([
    1,
    expect.stringMatching(/^setup: Cannot build l4lab as \S+\/dist cannot be written: .*\n$/),
  ]);
});
