/** One round of fast-check: programs out of a seed, until one fails. */
import fc from 'fast-check';
import { keepCase } from './corpus.ts';
import { type HalfName, halfOf } from './halves.ts';

/** How long a round of fast-check takes at most, the search for a smaller counter-example included. */
const LIMIT_MS = 20_000;

export interface Round {
  readonly half: HalfName;
  readonly seed: number;
  /** Hostile operations that there are to be at least. */
  readonly operations: number;
  /** Where a counter-example is kept. */
  readonly corpus: string;
}

/**
 * Runs programs until there were that many operations. Resolves with how many there were. A counter-example is made as small
 * as fast-check can, and kept; the error thrown says how to have it again.
 */
export async function fuzz({ half, seed, operations, corpus }: Round): Promise<number> {
  const { programs, run, to } = halfOf(half);
  const made = programs();
  let done = 0;
  for (let n = 0; done < operations; n++) {
    const property = fc.asyncProperty(made, async (one) => {
      done += await run(one);
    });
    const { failed, counterexample, counterexamplePath, errorInstance } = await fc.check(property, {
      seed: (seed + n) | 0,
      numRuns: 20,
      interruptAfterTimeLimit: LIMIT_MS,
    });
    if (!failed || !counterexample) continue;
    const path = keepCase(corpus, seed + n, counterexample[0]);
    const again = `npm run fuzz -- --half ${half} --seed ${seed + n} (fast-check's path ${counterexamplePath}, kept as ${path})`;
    throw new Error(`Cannot keep a promise to ${to}: ${errorInstance}; ${again}`, { cause: errorInstance });
  }
  return done;
}
