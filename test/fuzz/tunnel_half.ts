/** Hostile ends of VXLAN ports: programs for `TunnelWorld`, as plain numbers. */
import fc from 'fast-check';
import { Random } from '#common/testing/random';
import { TunnelWorld } from './tunnel_world.ts';

export type TunnelStep =
  | readonly ['burst', seed: number, count: number]
  | readonly ['remake', which: number]
  | readonly ['link', which: number, up: boolean]
  | readonly ['pass', seconds: number]
  | readonly ['exchange', count: number, length: number];

export interface TunnelProgram {
  readonly half: 'vxlan';
  readonly family: 4 | 6;
  readonly steps: readonly TunnelStep[];
}

const constant = fc.constant;
const step: fc.Arbitrary<TunnelStep> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(constant('burst' as const), fc.nat(0xffff_ffff), fc.nat(600)) },
  { weight: 1, arbitrary: fc.tuple(constant('remake' as const), fc.nat(2)) },
  { weight: 1, arbitrary: fc.tuple(constant('link' as const), fc.nat(1), fc.boolean()) },
  { weight: 1, arbitrary: fc.tuple(constant('pass' as const), fc.nat(1000)) },
  { weight: 1, arbitrary: fc.tuple(constant('exchange' as const), fc.nat(100), fc.nat(1400)) },
);

export function tunnelPrograms(): fc.Arbitrary<TunnelProgram> {
  return fc.record({
    half: constant('vxlan' as const),
    family: fc.constantFrom(4 as const, 6 as const),
    steps: fc.array(step, { minLength: 3, maxLength: 40, size: 'max' }),
  });
}

/** Runs a program; all promises are looked at after each step. Returns the number of hostile datagrams. Throws what is wrong. */
export function runTunnelProgram({ family, steps }: TunnelProgram): number {
  const world = new TunnelWorld(family);
  for (const one of steps) {
    if (one[0] === 'burst') world.burst(new Random(one[1]), one[2]);
    else if (one[0] === 'remake') world.remake(one[1]);
    else if (one[0] === 'link') world.link(one[1], one[2]);
    else if (one[0] === 'pass') world.pass(one[1]);
    else world.exchange(one[1], one[2]);
    world.run();
    world.exchange(2, 0);
    world.check();
  }
  return world.operations;
}
