/**
 * The real switch in a process of its own, and driver processes for it, each on the core that it is told.
 * One rig is one run directory and one switch; `close` leaves nothing behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGate } from '#common/ipc/capability';
import { makeRunDir } from '#common/shm/run_dir';
import { l4lab as m } from '../../proto/gen/messages.js';
import { ROOT } from './lab_run.ts';
import { allowedCores } from './proc.ts';

const TASKSET = '/usr/bin/taskset';

/** Cores of the clients and of the switch; the same one when there is only one. */
export function cores(): { clients: number; device: number } {
  const allowed = allowedCores();
  return { clients: allowed[0] ?? 0, device: allowed[1] ?? allowed[0] ?? 0 };
}

/** Starts a program on one core; `options` are spawn's. Without taskset (util-linux) the kernel chooses. */
export function spawnOn(core: number, command: string, args: readonly string[], options = {}): ChildProcess {
  const stdio = ['pipe', 'pipe', 'inherit'] as const;
  if (!existsSync(TASKSET)) return spawn(command, args, { stdio: [...stdio], ...options });
  return spawn(TASKSET, ['-c', String(core), command, ...args], { stdio: [...stdio], ...options });
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

export interface RigOptions {
  /** Core of the switch; default: not the clients'. */
  readonly core?: number;
  readonly args?: readonly string[];
  readonly nodeOptions?: readonly string[];
}

export class SwitchRig {
  readonly process: ChildProcess;
  /** Everything that the switch printed. */
  output = '';
  readonly #runDir = mkdtempSync('/dev/shm/l4lab-bench-');
  readonly #gate = createGate();

  constructor(options: RigOptions = {}) {
    makeRunDir(this.#runDir);
    const record = join(this.#runDir, 't', 'switch');
    const bytes = m.LaunchRecord.encode({
      task: randomBytes(16).toString('hex'),
      name: 'l4vio_switch',
      argv: ['l4vio_switch', '-q', ...(options.args ?? [])],
      environment: {},
      capabilities: [{ name: 'svr', server: this.#gate }],
      parentPid: process.pid,
      program: 'l4vio_switch',
    }).finish();
    writeFileSync(record, bytes);
    this.process = spawnOn(
      options.core ?? cores().device,
      process.execPath,
      [...(options.nodeOptions ?? []), join(ROOT, 'dist/services/common/task/start.js')],
      { env: { PATH: process.env.PATH, L4LAB_RUN_DIR: this.#runDir, L4LAB_RECORD: record } },
    );
    this.process.stdout?.on('data', (data: Buffer) => {
      this.output += data.toString();
    });
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** Plays a scenario and returns its numbers. Throws when the driver found fault with a frame. */
  async play<T>(scenario: string, parameters: object = {}, core = cores().clients): Promise<T> {
    const driver = this.startDriver(scenario, parameters, core);
    let out = '';
    driver.stdout?.on('data', (data: Buffer) => {
      out += data.toString();
    });
    // Without its switch a driver would wait for ever.
    const orphan = (): void => void driver.kill('SIGTERM');
    this.process.once('exit', orphan);
    const [status] = (await once(driver, 'close')) as [number];
    this.process.off('exit', orphan);
    if (this.process.exitCode !== null) throw new Error(`the switch has ended: ${this.output}`);
    if (status !== 0) throw new Error(`scenario ${scenario} ${JSON.stringify(parameters)} failed: ${out}`);
    return JSON.parse(out) as T;
  }

  /** Starts a scenario that stays; end its input to end it. */
  async stay(scenario: string, parameters: object = {}): Promise<ChildProcess> {
    const driver = this.startDriver(scenario, parameters, cores().clients);
    if (!driver.stdout) throw new Error('the driver has no output');
    await once(createInterface({ input: driver.stdout }), 'line');
    return driver;
  }

  startDriver(scenario: string, parameters: object, core: number): ChildProcess {
    const order = {
      runDir: this.#runDir,
      gate: this.#gate.gate,
      secret: Buffer.from(this.#gate.secret).toString('hex'),
      scenario,
      switchPid: this.pid,
      parameters,
    };
    const options = process.env.L4LAB_BENCH_DRIVER_OPTIONS?.split(' ').filter(Boolean) ?? [];
    const script = join(ROOT, 'dist/test/bench/switch_client.js');
    return spawnOn(core, process.execPath, [...options, script, JSON.stringify(order)]);
  }

  async close(): Promise<void> {
    await end(this.process);
    rmSync(this.#runDir, { recursive: true, force: true });
  }
}

/** A rig for one piece of work. */
export async function withRig<T>(options: RigOptions, work: (rig: SwitchRig) => Promise<T>): Promise<T> {
  const rig = new SwitchRig(options);
  try {
    return await work(rig);
  } finally {
    await rig.close();
  }
}
