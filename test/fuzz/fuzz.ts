/** One round of fast-check: programs out of a seed, until one fails. */
import fc from 'fast-check';
import { type Case, keepCase, runCase } from './corpus.ts';
import { driverPrograms } from './driver_half.ts';
import { programs } from './program.ts';

/** How long a round of fast-check takes at most, the search for a smaller counter-example included. */
const LIMIT_MS = 20_000;

export interface Round {
  readonly half: 'switch' | 'driver';
  readonly seed: number;
  /** Hostile operations that there are to be at least. */
  readonly operations: number;
  /** Where a counter-example is kept. */
  readonly corpus: string;
}

/**
 * Runs programs until there were that many operations. Returns how many there were. A counter-example is made as small as
 * fast-check can, and kept; the error thrown says how to have it again.
 */
export function fuzz({ half, seed, operations, corpus }: Round): number {
  const made: fc.Arbitrary<Case> = half === 'switch' ? programs() : driverPrograms();
  let done = 0;
  for (let n = 0; done < operations; n++) {
    const property = fc.property(made, (one) => {
      done += runCase(one);
    });
    const { failed, counterexample, counterexamplePath, errorInstance } = fc.check(property, {
      seed: (seed + n) | 0,
      numRuns: 20,
      interruptAfterTimeLimit: LIMIT_MS,
    });
    if (!failed || !counterexample) continue;
    const path = keepCase(corpus, seed + n, counterexample[0]);
    const again = `npm run fuzz -- --half ${half} --seed ${seed + n} (fast-check's path ${counterexamplePath}, kept as ${path})`;
    throw new Error(
      `Cannot keep a promise to ${half === 'switch' ? 'clients' : 'a driver'}: ${errorInstance}; ${again}`,
      {
        cause: errorInstance,
      },
    );
  }
  return done;
}
