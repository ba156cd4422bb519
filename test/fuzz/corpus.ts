/** Counter-examples as files: `corpus/<half>-<seed>.json`. What has failed once is run again by every test run. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Case } from './halves.ts';

/** The cases of a directory, by name; of one that is not there yet, none. */
export function readCorpus(dir: string): [name: string, one: Case][] {
  if (!existsSync(dir)) return [];
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
