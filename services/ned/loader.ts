/**
 * Loading back ends: how a launch record becomes a running program.
 *
 * `spawn` starts each task as a child process of ned. With external loading (external/) somebody else starts
 * the process, which fetches its record.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { L4Error } from '#common/ipc/errors';
import { l4lab as m } from '../../proto/gen/messages.js';
import { writeRecord } from './record_file.ts';

/** How a task ended. */
export interface TaskEnd {
  /** 0..255; 128 + signal number when a signal ended it. */
  readonly status: number;
  readonly signal: string | undefined;
  /** Set when the process could not even be started. */
  readonly problem?: string;
}

export interface TaskProcess {
  /** 0 if it could not be started. */
  readonly pid: number;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  readonly ended: Promise<TaskEnd>;
  /** Host name of the container or machine that `pid` belongs to; undefined: here. */
  readonly host?: string;
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
}

export interface StartOptions {
  /** File descriptor of ned that becomes the task's stdout, byte for byte; undefined: a pipe. */
  readonly rawStdout?: number | undefined;
  /** File descriptor of ned for the task's stdin and stdout: it talks to a person. */
  readonly console?: number | undefined;
  /** ned's own stdin is handed on. */
  readonly inheritStdin?: boolean;
}

export interface LoadBackend {
  start(record: m.ILaunchRecord & { task: string }, options: StartOptions): TaskProcess;
}

/** Variables of ned's own environment that a Node process needs. */
const NEEDED = /^(PATH|NODE_.*|L4LAB_RUN_DIR)$/;

/** Starts tasks as child processes of this one. */
export class SpawnBackend implements LoadBackend {
  readonly #runDir: string;
  readonly #taskMain: string;
  /** Node's own options that a child needs as well, e.g. a loader for TypeScript. */
  readonly #flags: readonly string[];

  constructor(runDir: string, flags: readonly string[] = process.execArgv) {
    this.#runDir = runDir;
    this.#taskMain = process.env.L4LAB_TASK_MAIN ?? fileURLToPath(import.meta.resolve('#common/task/start'));
    this.#flags = flags;
  }

  start(record: m.ILaunchRecord & { task: string }, options: StartOptions): TaskProcess {
    const path = join(this.#runDir, 't', record.task);
    writeRecord(path, m.LaunchRecord.encode(record).finish(), record.name ?? '');
    const child = this.#spawn(path, record, options);
    const ended = new Promise<TaskEnd>((resolve) => {
      const end = (how: TaskEnd) => {
        // It may not have come to take its record.
        rmSync(path, { force: true });
        resolve(how);
      };
      child.on('error', (err) => {
        if (child.pid === undefined) end({ status: 127, signal: undefined, problem: err.message });
      });
      child.once('exit', (code, signal) => {
        const status = code ?? 128 + (signal ? constants.signals[signal] : 0);
        end({ status, signal: signal ?? undefined });
      });
    });
    return {
      pid: child.pid ?? 0,
      // Without descriptors for a process there are none for its streams.
      stdout: child.stdout ?? null,
      stderr: child.stderr ?? null,
      ended,
      kill: (signal) => void child.kill(signal),
    };
  }

  #spawn(path: string, { name }: m.ILaunchRecord, options: StartOptions): ChildProcess {
    const inherited = Object.entries(process.env).filter(([variable]) => NEEDED.test(variable));
    const terminal = options.console;
    try {
      return spawn(process.execPath, [...this.#flags, this.#taskMain], {
        stdio: [
          terminal ?? (options.inheritStdin ? 0 : 'ignore'),
          terminal ?? options.rawStdout ?? 'pipe',
          'pipe',
        ],
        env: { ...Object.fromEntries(inherited), L4LAB_RUN_DIR: this.#runDir, L4LAB_RECORD: path },
      });
    } catch (cause) {
      rmSync(path, { force: true });
      const reason = `no process can be made for it: ${(cause as Error).message}`;
      throw new L4Error('ENOMEM', `Cannot start task '${name}' as ${reason}`, { cause });
    }
  }
}

/** File descriptor of the terminal that a person sits at, if ned has one. */
export function consoleDescriptor(env: NodeJS.ProcessEnv): number | undefined {
  const given = Number(env.L4LAB_CONSOLE_FD);
  if (env.L4LAB_CONSOLE_FD && Number.isInteger(given)) return given;
  return isatty(0) ? 0 : undefined;
}
