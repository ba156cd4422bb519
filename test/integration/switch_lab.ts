/** For tests of `l4lab stats`, `capture` and `port`: labs with nothing but switches, and commands that look into them. */

import { join } from 'node:path';
import { expect } from 'vitest';
import { type CapturedPacket, PcapngReader } from '../../services/common/capture/reader.ts';
import { ROOT, type Run, type TestBed } from './harness.ts';

/** Arguments of `l4lab run` for a lab without NIC that has the programs of this folder. */
export const PROGRAMS = ['--nic', 'none', '--rom', join(ROOT, 'dist/test/integration')];
/** No measure of speed: tells a hang from a machine that is busy. */
export const LIMIT = { timeout: 300_000 };
export const POLL = { timeout: 120_000 };

export interface PortJson {
  readonly name: string;
  readonly number: number;
  readonly mac: string | null;
  readonly ready: boolean;
  readonly link: string;
  readonly carrier: boolean;
  readonly in: { readonly packets: number; readonly bytes: number };
  readonly out: { readonly packets: number; readonly bytes: number };
  readonly drops: readonly { readonly reason: string; readonly direction: string; readonly count: number }[];
}

/** The commands of a test. */
export class SwitchLab {
  readonly bed: TestBed;

  constructor(bed: TestBed) {
    this.bed = bed;
  }

  /** Starts a lab with a switch for each of these options; resolves when all of them serve. */
  async start(options: readonly string[] = [''], ...more: string[]): Promise<Run> {
    const starts = options.map(
      (line, n) =>
        `local c${n} = ld:new_channel(); ld:start({ caps = { svr = c${n}:svr() } }, "rom/l4vio_switch ${line}")`,
    );
    // Each has answered a call.
    const calls = options.map((_, n) => `local r${n} = c${n}:create(1)`);
    const lines = ['local ld = require("L4").default_loader', ...starts, ...calls, 'print("all serve")'];
    const script = this.bed.file('switch.cfg', `${lines.join('\n')}\n`);
    const lab = this.bed.l4lab(['run', script, ...PROGRAMS, ...more]);
    await lab.saw(/all serve/);
    return lab;
  }

  /** Runs a command that must succeed; its stdout. */
  async ok(...args: string[]): Promise<string> {
    const { status, run } = await this.bed.done(args);
    expect([status, run.stderr]).toEqual([0, '']);
    return run.text;
  }

  /** Makes a port as soon as there is a switch to make it. */
  async added(...args: string[]): Promise<void> {
    const add = async () => {
      const { status, run } = await this.bed.done(['port', 'add', ...args]);
      // An answer may have come too late for the command.
      return status === 0 || run.stderr.includes('as its name must not be in use');
    };
    await expect.poll(add, POLL).toBe(true);
  }

  async pidOf(task: string): Promise<number> {
    const [{ tasks }] = JSON.parse(await this.ok('ps', '--json')) as [
      { tasks: { name: string; pid: number }[] },
    ];
    return tasks.find(({ name }) => name === task)?.pid as number;
  }

  /** What `l4lab stats` shows, by the names of the ports. */
  async ports(): Promise<Record<string, PortJson>> {
    const { switches } = JSON.parse(await this.ok('stats', '--json', '--interval', '0')) as {
      switches: { ports: PortJson[] }[];
    };
    return Object.fromEntries(switches.flatMap((one) => one.ports).map((port) => [port.name, port]));
  }

  async capturing(...args: string[]): Promise<Run> {
    const run = this.bed.l4lab(['capture', ...args]);
    await run.saw(/capturing/);
    return run;
  }
}

/** Ends a capture as Ctrl-C does. */
export async function interrupt(run: Run): Promise<void> {
  run.child.kill('SIGINT');
  expect([await run.exit, run.stderr]).toEqual([0, expect.stringMatching(/frames captured/)]);
}

/** What a capture wrote: its packets by interface, and its statistics. */
export function parseCapture(bytes: Uint8Array) {
  const reader = new PcapngReader();
  const packets = reader.push(bytes);
  reader.end();
  const of = (name: string, direction: number): CapturedPacket[] =>
    packets.filter((packet) => packet.interface.name === name && packet.direction === direction);
  return { packets, of, statistics: reader.statistics };
}
