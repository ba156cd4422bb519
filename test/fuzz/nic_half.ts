/** A hostile NIC under the switch's own driver: programs for `NicWorld`, as plain numbers. */
import fc from 'fast-check';
import { NicWorld } from './nic_world.ts';

export type NicStep =
  | readonly ['burst', seed: number, count: number]
  | readonly ['exchange', count: number, length: number];

export interface NicProgram {
  readonly half: 'nic';
  /** Lies at bring-up: from the `honest`th read of a register on, so many. */
  readonly start: { readonly seed: number; readonly honest: number; readonly lies: number };
  readonly steps: readonly NicStep[];
}

const step: fc.Arbitrary<NicStep> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant('burst' as const), fc.nat(0xffff_ffff), fc.nat(800)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('exchange' as const), fc.nat(200), fc.nat(1400)) },
);

export function nicPrograms(): fc.Arbitrary<NicProgram> {
  return fc.record({
    half: fc.constant('nic' as const),
    start: fc.record({
      seed: fc.nat(0xffff_ffff),
      honest: fc.nat(40),
      lies: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(200) }),
    }),
    steps: fc.array(step, { minLength: 3, maxLength: 30, size: 'max' }),
  });
}

/** Runs a program; all promises are looked at after each step. Resolves with the number of the device's operations. */
export async function runNicProgram({ start, steps }: NicProgram): Promise<number> {
  const world = new NicWorld();
  await world.start(start.seed, start.honest, start.lies);
  for (const one of steps) {
    if (one[0] === 'burst') world.burst(one[1], one[2]);
    else world.exchange(one[1], one[2]);
    world.run();
    world.exchange(2, 0);
    world.check();
  }
  return world.operations;
}
