/** `npm run fuzz -- [--seed N] [--minutes M] [--corpus DIR] [--half NAME]`: see README.md. */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readCorpus } from './corpus.ts';
import { fuzz } from './fuzz.ts';
import { HALF_NAMES, type HalfName, isHalf, runCase } from './halves.ts';

const CORPUS = join(import.meta.dirname.replace(/\/dist\/test\/fuzz$/, '/test/fuzz'), 'corpus');
const ROUND = 100_000;
const SEEDS = 2 ** 31;

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly halves: readonly HalfName[];
  readonly corpus: string;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      minutes: { type: 'string', default: '1' },
      corpus: { type: 'string', default: CORPUS },
      half: { type: 'string' },
    },
  });
  const minutes = Number(values.minutes);
  const seed = values.seed === undefined ? randomInt(SEEDS) : Number(values.seed);
  if (!(minutes > 0))
    throw new Error(`Cannot fuzz as --minutes must be a number above 0: current value is ${values.minutes}`);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 * SEEDS)
    throw new Error(`Cannot fuzz as --seed must be 0..${2 * SEEDS - 1}: current value is ${values.seed}`);
  const { half } = values;
  if (half !== undefined && !isHalf(half))
    throw new Error(
      `Cannot fuzz as --half must be one of ${HALF_NAMES.join(', ')}: current value is ${half}`,
    );
  return { minutes, seed, halves: half === undefined ? HALF_NAMES : [half], corpus: values.corpus };
}

async function run(): Promise<void> {
  const { minutes, seed, halves, corpus } = readOptions();
  for (const [name, one] of readCorpus(corpus)) {
    console.log(`corpus: ${name}`);
    await runCase(one);
  }
  const end = performance.now() + minutes * 60_000;
  let operations = 0;
  for (let n = 0; n === 0 || performance.now() < end; n++) {
    const next = (seed + n * 1000) % (2 * SEEDS);
    for (const one of halves) operations += await fuzz({ half: one, seed: next, operations: ROUND, corpus });
    console.log(`seed ${next}: ${operations} operations so far, nothing found`);
  }
}

try {
  await run();
} catch (err) {
  console.error(err);
  process.exitCode = 1;
}
