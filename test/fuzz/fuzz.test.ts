/**
 * A million hostile operations and whatever has failed before. The seeds stay: a red test must tell what a change has done,
 * and not that today's numbers were others. `npm run fuzz` draws.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readCorpus } from './corpus.ts';
import { fuzz } from './fuzz.ts';
import { type HalfName, runCase } from './halves.ts';

const CORPUS = join(import.meta.dirname, 'corpus');
const SEEDS = [1, 2 ** 30];
const MS = 900_000;

describe('what has failed before', () => {
  it.each(readCorpus(CORPUS))('%s', async (_name, one) => {
    expect(await runCase(one)).toBeGreaterThanOrEqual(0);
  });
});

/** Hostile operations of each, for each of two seeds: a million in all, and more. */
const HALVES: readonly (readonly [what: string, half: HalfName, operations: number])[] = [
  ['hostile drivers: the switch and a well-behaved pair go on', 'switch', 600_000],
  ['a hostile device: its driver knows what it has', 'driver', 250_000],
  ['hostile ends of tunnels: those that are honest have their network for themselves', 'vxlan', 100_000],
  ['a hostile NIC in the switch itself: the others lose nothing, and see nothing', 'nic', 100_000],
  ['captures whose other side lies: neither side is harmed', 'capture', 50_000],
  ['arguments, options and names: taken, or refused with a sentence', 'input', 10_000],
];

describe.each(HALVES)('%s', (_what, half, operations) => {
  it.each(SEEDS)(
    'seed %d',
    async (seed) => {
      expect(await fuzz({ half, seed, operations, corpus: CORPUS })).toBeGreaterThanOrEqual(operations);
    },
    MS,
  );
});
