/**
 * One lab in the foreground: makes its run directory, starts the machine and ned, collects what they
 * and their tasks print, and ends everything again.
 */
import { EventEmitter } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { LabSecret } from '#common/broker/secret';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { gatePath, Ipc } from '#common/ipc/ipc';
import type { LogRecord } from '#common/obs/log_record';
import { randomName } from '#common/shm/run_dir';
import type { RestartPolicy } from '#common/task/restart';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Lab as LabService } from '../../proto/gen/services.js';
import { NO_LIMIT_MS, publishGate } from './lab_calls.ts';
import { LabProcess } from './lab_process.ts';
import { LogWriter } from './log_file.ts';
import { isSystemError, systemProblem, UsageError } from './problem.ts';
import { endProcess, processesOf } from './processes.ts';
import { type ClaimedDir, createLab, type LabRecord, type OwnedLab } from './registry.ts';

/** Time that tasks get to end by themselves before they are ended. */
const GRACE_MS = 2500;

export interface LabOptions {
  /** Script inside rom (`rom/curl.cfg`) and its arguments; may be preceded by ned's own options. */
  readonly nedArguments: readonly string[];
  /** As the user named it, for `l4lab ps`. */
  readonly command: readonly string[];
  /** Absolute paths; the first match wins. */
  readonly rom: readonly string[];
  /** Command line of the machine: --nic, --host, --guest-forward. */
  readonly machineArguments: readonly string[];
  /** Restart policies by names of tasks; they win over the script's. */
  readonly restart?: Readonly<Record<string, RestartPolicy>>;
  /** Only ned is started, as a broker with this secret in this directory. */
  readonly external?: ExternalLab | undefined;
  /** This task's stdout goes to our stdout byte for byte. */
  readonly raw?: string | undefined;
}

export interface ExternalLab {
  readonly secret: LabSecret;
  /** Goes with the lab, also when that cannot be started. */
  readonly claim: ClaimedDir;
  /** The secret lies in the directory, and goes with it. */
  readonly madeSecret: boolean;
  /** The script is only read: nobody will become its tasks. */
  readonly rehearses?: boolean;
}

/** How a lab ended: ned's own status, or why there is none. */
export interface LabEnd {
  readonly status: number;
  readonly reason: string;
}

interface LabEvents {
  log: [LogRecord];
}

export class Lab extends EventEmitter<LabEvents> {
  readonly record: LabRecord;
  readonly ended: Promise<LabEnd>;
  readonly #owned: OwnedLab;
  readonly #log: LogWriter;
  readonly #ipc: Ipc;
  readonly #labCap: Capability;
  readonly #children: LabProcess[] = [];
  #stopping: Promise<void> | undefined;

  constructor(options: LabOptions) {
    super();
    const { external } = options;
    const gate = (name: string): ServerEnd => external?.secret.gate(name) ?? createGate();
    const [sigma0, icu, iommu, control, lab] = [
      gate('sigma0'),
      gate('icu'),
      gate('iommu'),
      gate('control'),
      gate('lab'),
    ];
    this.#labCap = rootCapability(lab);
    const given = {
      command: options.command,
      lab: publishGate(lab),
      control: publishGate(control),
      ...(external ? { external: true, madeSecret: external.madeSecret } : {}),
    };
    this.#owned = external ? external.claim.publish(given) : createLab(given);
    this.record = this.#owned.record;
    let machine: LabProcess | undefined;
    let ned: LabProcess;
    try {
      this.#log = new LogWriter(this.record.dir);
      this.#ipc = new Ipc({ runDir: this.record.dir, task: randomName() });
      if (!external) {
        machine = this.#start('machine', {
          argv: ['machine', ...options.machineArguments],
          capabilities: [
            server('sigma0', sigma0),
            server('icu', icu),
            server('iommu', iommu),
            server('control', control),
          ],
        });
      }
      ned = this.#start(
        'ned',
        {
          ...(external ? { task: external.secret.name('task ned') } : {}),
          argv: ['ned', ...options.nedArguments],
          capabilities: [
            client('sigma0', sigma0),
            client('icu', icu),
            client('iommu', iommu),
            server('lab', lab),
          ],
          environment: {
            L4LAB_ROM: options.rom.join(':'),
            L4LAB_RESTART: JSON.stringify(options.restart ?? {}),
            ...externalEnvironment(options),
          },
        },
        options.raw,
      );
    } catch (err) {
      throw this.#abandon(err);
    }
    const ends = [
      ned.ended.then((how) => ({ status: how.status, reason: `ned ${how.text}; see what it printed` })),
    ];
    if (machine) {
      void machine.ended.then((how) =>
        bury([sigma0, icu, iommu, control], this.record.dir, `the machine ${how.text}`),
      );
      ends.push(
        machine.ended.then((how) => ({
          status: 1,
          reason: `the machine ${how.text}: all NICs are gone; see what it printed`,
        })),
      );
    }
    this.ended = Promise.race(ends);
  }

  /** Waits until the named task has ended, whether or not it has started; its exit status (128 + 9 if killed). */
  async waitFor(task: string, signal: AbortSignal): Promise<number> {
    const status = await this.#ipc
      .client(LabService, this.#labCap)
      .waitTask({ task }, { signal, deadlineMs: NO_LIMIT_MS });
    return status.killed ? 137 : status.exitCode;
  }

  /** All tasks with their states. */
  async status(): Promise<m.LabStatus> {
    return this.#ipc.client(LabService, this.#labCap).status({}, { deadlineMs: 2000 });
  }

  /** True once `stop` was called: what ends now ends because of it. */
  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Ends all processes and removes every file. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  /** What there is of a lab that could not be started is taken away; the error for the user. */
  #abandon(err: unknown): unknown {
    for (const child of this.#children) child.kill();
    this.#owned.release();
    if (!isSystemError(err)) return err;
    return new UsageError(`Cannot start the lab in ${this.record.dir} as ${systemProblem(err)}`);
  }

  async #end(): Promise<void> {
    this.#ipc.close();
    // The machine was started first and ends last: nobody is to miss it.
    for (const child of this.#children.toReversed()) await child.end(GRACE_MS);
    // Components that others have started go on.
    if (!this.record.external) for (const pid of processesOf(this.record.dir)) endProcess(pid, 'SIGKILL');
    await Promise.all(this.#children.map((child) => child.printed));
    this.#log.close();
    this.#owned.release();
  }

  #start(name: string, record: m.ILaunchRecord, raw?: string): LabProcess {
    const isNed = name === 'ned';
    const child = new LabProcess(this.record.dir, name, record, {
      onLog: (log) => this.#emit(log),
      // What ned prints are records; the terminal is its own, for ned-prompt.
      ...(isNed ? { structured: true, raw } : {}),
      ...(isNed && this.record.external ? { healthFile: process.env.L4LAB_HEALTH_FILE } : {}),
    });
    this.#children.push(child);
    return child;
  }

  /** From the next turn on: who has just made the lab is listening by then. */
  #emit(record: LogRecord): void {
    this.#log.write(record);
    setImmediate(() => this.emit('log', record));
  }
}

/** What makes ned a broker. */
function externalEnvironment({ external, machineArguments }: LabOptions): Record<string, string> {
  if (!external) return {};
  return {
    L4LAB_SECRET: external.secret.text,
    L4LAB_MACHINE: JSON.stringify(machineArguments),
    ...(external.rehearses ? { L4LAB_REHEARSAL: '1' } : {}),
  };
}

function server(name: string, end: ServerEnd): m.INamedCapability {
  return { name, server: end };
}

function client(name: string, end: ServerEnd): m.INamedCapability {
  return { name, client: rootCapability(end) };
}

/** Tells those who wait for these gates, or will, that nobody serves them any more. */
function bury(ends: readonly ServerEnd[], runDir: string, reason: string): void {
  for (const { gate } of ends) {
    try {
      writeFileSync(`${gatePath(runDir, gate)}.dead`, reason);
    } catch {
      // The run directory is gone already.
    }
  }
}
