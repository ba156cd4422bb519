/** Everything that is fuzzed: how programs are made up, and how one is run. */
import type fc from 'fast-check';
import { type CaptureProgram, capturePrograms, runCaptureProgram } from './capture_half.ts';
import { type DriverProgram, driverPrograms, runDriverProgram } from './driver_half.ts';
import { type InputProgram, inputPrograms, runInputProgram } from './input_half.ts';
import { type NicProgram, nicPrograms, runNicProgram } from './nic_half.ts';
import { type Program, programs, runProgram } from './program.ts';
import { runTunnelProgram, type TunnelProgram, tunnelPrograms } from './tunnel_half.ts';

/** A case that can be kept as JSON; `half` says what it is for. */
export type Case = Program | DriverProgram | TunnelProgram | NicProgram | CaptureProgram | InputProgram;
export type HalfName = Case['half'];

interface Half<P extends Case> {
  /** Who the promise was made to that a failure breaks. */
  readonly to: string;
  programs(): fc.Arbitrary<P>;
  /** Runs a program; the number of hostile operations. Throws what is wrong. */
  run(program: P): number | Promise<number>;
}

const HALVES: { readonly [name in HalfName]: Half<Extract<Case, { half: name }>> } = {
  switch: { to: 'clients', programs, run: runProgram },
  driver: { to: 'a driver', programs: driverPrograms, run: runDriverProgram },
  vxlan: { to: 'the network', programs: tunnelPrograms, run: runTunnelProgram },
  nic: { to: 'who shares a switch with a NIC', programs: nicPrograms, run: runNicProgram },
  capture: { to: 'who captures, or is captured', programs: capturePrograms, run: runCaptureProgram },
  input: { to: 'who says what a port is to be', programs: inputPrograms, run: runInputProgram },
};

export const HALF_NAMES = Object.keys(HALVES) as HalfName[];

export function isHalf(name: string): name is HalfName {
  return Object.hasOwn(HALVES, name);
}

export function halfOf(name: HalfName): Half<Case> {
  return HALVES[name] as Half<Case>;
}

/** Runs a case; the number of hostile operations. Throws what is wrong. */
export function runCase(one: Case): number | Promise<number> {
  return halfOf(one.half).run(one);
}
