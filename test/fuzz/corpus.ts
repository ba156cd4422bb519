/** Counter-examples as files: `corpus/<half>-<seed>.json`. What has failed once is run again by every test run. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type DriverProgram, runDriverProgram } from './driver_half.ts';
import { type Program, runProgram } from './program.ts';

export type Case = Program | DriverProgram;

/** Runs a case; see `runProgram` and `runDriverProgram`. */
export function runCase(one: Case): number {
  return one.half === 'switch' ? runProgram(one) : runDriverProgram(one);
}

/** The cases of a directory, by name. */
export function readCorpus(dir: string): [name: string, one: Case][] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => [basename(name, '.json'), JSON.parse(readFileSync(join(dir, name), 'utf8')) as Case]);
}

/** Keeps a case. Returns the path of its file. */
export function keepCase(dir: string, seed: number, one: Case): string {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, `${one.half}-${seed >>> 0}.json`);
  writeFileSync(path, `${JSON.stringify(one)}\n`);
  return path;
}
