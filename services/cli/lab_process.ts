/** A process that the launcher starts itself (the machine, ned): its launch record, its output, its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LogRecord } from '#common/obs/log_record';
import { randomName } from '#common/shm/run_dir';
import { l4lab as m } from '../../proto/gen/messages.js';
import { eachLine } from './lines.ts';

export interface LabProcessOptions {
  onLog(record: LogRecord): void;
  /** Its stdout are records, and its stdin is ours. */
  readonly structured?: boolean;
  /** This task's stdout goes to our stdout, as file descriptor 3. */
  readonly raw?: string | undefined;
  /** Where it says whether it is ready. */
  readonly healthFile?: string | undefined;
}

/** How a process ended. */
export interface ProcessEnd {
  /** 1 for a signal. */
  readonly status: number;
  /** "ended with status 3", "was ended by SIGKILL", "could not be started: ...". */
  readonly text: string;
}

export class LabProcess {
  readonly ended: Promise<ProcessEnd>;
  /** Resolves when everything that it printed has been handed over. */
  readonly printed: Promise<unknown>;
  readonly #child: ChildProcess;

  /** Starts the program of that name in the lab of that directory. Throws what the file system says. */
  constructor(dir: string, name: string, record: m.ILaunchRecord, options: LabProcessOptions) {
    const { onLog, structured = false, raw, healthFile } = options;
    this.#child = spawn(
      process.execPath,
      [...process.execArgv, fileURLToPath(import.meta.resolve('#common/task/start'))],
      {
        stdio: structured ? ['inherit', 'pipe', 'pipe', 1] : ['ignore', 'pipe', 'pipe'],
        env: {
          PATH: process.env.PATH,
          L4LAB_RUN_DIR: dir,
          L4LAB_RECORD: writeRecord(dir, name, record),
          ...(healthFile ? { L4LAB_HEALTH_FILE: healthFile } : {}),
          ...(raw !== undefined ? { L4LAB_RAW_TASK: raw, L4LAB_RAW_FD: '3' } : {}),
        },
      },
    );
    this.ended = endOf(this.#child);
    const argv = (record.argv ?? []) as string[];
    onLog({ ...plain(name, 'stdout', ''), event: { kind: 'start', pid: this.#child.pid ?? 0, argv } });
    const lines = (['stdout', 'stderr'] as const).map((stream) => {
      const input = this.#child[stream];
      const isRecords = structured && stream === 'stdout';
      return (
        input && eachLine(input, (line) => onLog(isRecords ? parse(line, name) : plain(name, stream, line)))
      );
    });
    this.printed = Promise.all(lines);
  }

  /** SIGTERM, and SIGKILL when it has not ended after `graceMs`. */
  async end(graceMs: number): Promise<void> {
    this.#child.kill('SIGTERM');
    const grace = setTimeout(() => this.kill(), graceMs);
    await this.ended;
    clearTimeout(grace);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** The process reads it, and removes it. */
function writeRecord(dir: string, name: string, record: m.ILaunchRecord): string {
  const task = record.task ?? randomName();
  const path = join(dir, 't', task);
  const whole = { ...record, task, name, program: name, parentPid: process.pid };
  writeFileSync(path, m.LaunchRecord.encode(whole).finish(), { mode: 0o600 });
  return path;
}

async function endOf(child: ChildProcess): Promise<ProcessEnd> {
  const exit = once(child, 'exit').catch((err: Error) => err);
  const ended = (await exit) as [number | null, NodeJS.Signals | null] | Error;
  if (ended instanceof Error) return { status: 1, text: `could not be started: ${ended.message}` };
  const [code, signal] = ended;
  return signal
    ? { status: 1, text: `was ended by ${signal}` }
    : { status: code ?? 1, text: `ended with status ${code}` };
}

function plain(task: string, stream: 'stdout' | 'stderr', text: string): LogRecord {
  return { time: Date.now(), task, tag: task, color: 7, stream, text, continued: false };
}

/** A line of ned is a record; what cannot be read as one (a crash of Node itself) is shown as it is. */
function parse(line: string, name: string): LogRecord {
  try {
    const record = JSON.parse(line) as LogRecord;
    if (typeof record.text === 'string') return record;
  } catch {
    // Not JSON.
  }
  return plain(name, 'stdout', line);
}
