/**
 * What fast-check makes up: the steps of a run, plain numbers that can be kept as JSON. A burst is many operations out of one
 * seed, for speed; single operations let a counter-example become small.
 */
import fc from 'fast-check';
import { World, type WorldOptions } from './world.ts';

export type Step =
  | readonly ['burst', hostile: number, seed: number, count: number]
  | readonly ['act', hostile: number, kind: number, a: number, b: number, c: number]
  | readonly ['restart', hostile: number, a: number, features: number]
  | readonly ['remake', hostile: number, a: number]
  | readonly ['link', hostile: number, up: boolean]
  | readonly ['register', hostile: number, a: number, b: number]
  | readonly ['kick', hostile: number]
  | readonly ['exchange', count: number, length: number];

export interface Program {
  readonly half: 'switch';
  readonly world: WorldOptions;
  readonly steps: readonly Step[];
}

const u32 = fc.nat(0xffff_ffff);
const who = fc.nat(3);

function step(burst: number): fc.Arbitrary<Step> {
  const act = fc.tuple(fc.constant('act' as const), who, fc.nat(17), u32, u32, u32);
  return fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.constant('burst' as const), who, u32, fc.nat(burst)) },
    { weight: 2, arbitrary: act },
    { weight: 1, arbitrary: fc.tuple(fc.constant('restart' as const), who, u32, u32) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('remake' as const), who, u32) },
    {
      weight: 1,
      arbitrary: fc.tuple(fc.constant('link' as const), who, fc.oneof(fc.boolean(), fc.constant(true))),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constant('register' as const), who, u32, u32) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('kick' as const), who) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('exchange' as const), fc.nat(16), fc.nat(1400)) },
  );
}

/** Programs whose bursts have up to `burst` operations. */
export function programs(burst = 400): fc.Arbitrary<Program> {
  return fc.record({
    half: fc.constant('switch' as const),
    world: fc.record({
      hostiles: fc.integer({ min: 1, max: 4 }),
      isolated: fc.oneof(
        { weight: 3, arbitrary: fc.constant(true) },
        { weight: 1, arbitrary: fc.constant(false) },
      ),
      tunnel: fc.boolean(),
      features: u32,
      seed: u32,
    }),
    steps: fc.array(step(burst), { minLength: 5, maxLength: 60, size: 'max' }),
  });
}

/** Runs a program; all promises are looked at after each step. Returns the number of hostile operations. Throws what is wrong. */
export function runProgram({ world: options, steps }: Program): number {
  const world = new World(options);
  for (const one of steps) {
    perform(world, one);
    world.run();
    world.exchange(2, 0);
    world.check();
  }
  return world.operations;
}

function perform(world: World, one: Step): void {
  if (one[0] === 'burst') world.burst(one[1], one[2], one[3]);
  else if (one[0] === 'act') world.act(one[1], one[2], one[3], one[4], one[5]);
  else if (one[0] === 'restart') world.restart(one[1], one[2], one[3]);
  else if (one[0] === 'remake') world.remake(one[1], one[2]);
  else if (one[0] === 'link') world.link(one[1], one[2]);
  else if (one[0] === 'register') world.register(one[1], one[2], one[3]);
  else if (one[0] === 'kick') world.kick(one[1]);
  else world.exchange(one[1], one[2]);
}
