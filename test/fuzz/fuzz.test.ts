/** A million hostile operations: out of a seed that stays, out of one that is drawn, and whatever has failed before. */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readCorpus, runCase } from './corpus.ts';
import { fuzz } from './fuzz.ts';

const CORPUS = join(import.meta.dirname, 'corpus');
const drawn = randomInt(2 ** 31);
const MS = 300_000;

describe('what has failed before', () => {
  it.each(readCorpus(CORPUS))('%s', (_name, one) => {
    expect(runCase(one)).toBeGreaterThanOrEqual(0);
  });
});

describe('hostile drivers: the switch and a well-behaved pair go on', () => {
  it.each([1, drawn])(
    'seed %d',
    (seed) => {
      const operations = 600_000;
      expect(fuzz({ half: 'switch', seed, operations, corpus: CORPUS })).toBeGreaterThanOrEqual(operations);
    },
    MS,
  );
});

describe('a hostile device: its driver knows what it has', () => {
  it.each([1, drawn])(
    'seed %d',
    (seed) => {
      const operations = 250_000;
      expect(fuzz({ half: 'driver', seed, operations, corpus: CORPUS })).toBeGreaterThanOrEqual(operations);
    },
    MS,
  );
});
