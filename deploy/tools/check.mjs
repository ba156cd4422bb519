// The gate: format and lint (biome), types (tsc), dependency rules (dependency-cruiser). `npm run check`.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
await setUp();

const steps = [
  ['format and lint', 'biome', ['check', '--error-on-warnings', '.']],
  ['types', 'tsc', ['--noEmit', '-p', 'tsconfig.json', '--incremental', 'false']],
  [
    'dependency rules',
    'depcruise',
    ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', 'dist/services', 'dist/test'],
  ],
];
for (const [name, command, args] of steps) {
  process.stdout.write(`check: ${name}\n`);
  const { status } = spawnSync(join(root, 'node_modules', '.bin', command), args, {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) {
    process.stdout.write(`check: ${name} failed\n`);
    process.exit(1);
  }
}
process.stdout.write('check: all passed\n');
