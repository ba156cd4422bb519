/** `l4lab run`: a ned script in the foreground. */
import { statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { toL4Error } from '#common/ipc/errors';
import { formatLog, type LogRecord } from '#common/obs/log_record';
import { hasColors } from './colors.ts';
import { Lab, type LabOptions } from './lab.ts';
import { UsageError } from './problem.ts';
import { runningLabs } from './registry.ts';
import { restartChoices } from './restart.ts';

export interface RunOptions {
  readonly rom?: readonly string[];
  readonly nic?: readonly string[];
  readonly host?: readonly string[];
  readonly guestForward?: readonly string[];
  readonly hostForward?: readonly string[];
  readonly execute?: readonly string[];
  readonly restart?: readonly string[];
  readonly exit?: boolean;
  readonly waitAndExit?: boolean;
  readonly waitFor?: string;
  readonly raw?: string;
  readonly json?: boolean;
}

/** Errors of the call itself, not of its server, begin here. */
const IPC_ERRORS = 2000;
const EXIT_SIGINT = 130;
const EXIT_SIGTERM = 143;
const EXIT_SIGPIPE = 141;

let running = false;

/** True from the beginning of `run` on: it ends this process in its own order. */
export function labIsRunning(): boolean {
  return running;
}

/** What `l4lab run` hands to the lab. Throws UsageError for a script or directory that is not there. */
export function labOptions(script: string, args: readonly string[], options: RunOptions): LabOptions {
  requireFile(script);
  for (const [option, task] of [['--wait-for', options.waitFor] as const, ['--raw', options.raw] as const]) {
    if (task === '')
      throw new UsageError(`Cannot use ${option} as it needs the name of a task, e.g. ${option} curl`);
  }
  const rom = [dirname(resolve(script)), ...(options.rom ?? []).map((dir) => resolve(dir))];
  for (const dir of rom) requireDirectory(dir);
  const first = options.exit ? ['--exit'] : options.waitAndExit ? ['--wait-and-exit'] : [];
  const pairs = (name: string, values: readonly string[] = []) => values.flatMap((value) => [name, value]);
  return {
    nedArguments: [...first, ...pairs('-e', options.execute), `rom/${basename(script)}`, ...args],
    command: [script, ...args],
    rom,
    machineArguments: [
      ...pairs('--nic', options.nic),
      ...pairs('--host', options.host),
      ...pairs('--guest-forward', options.guestForward),
      ...pairs('--host-forward', options.hostForward),
    ],
    restart: restartChoices(options.restart),
    raw: options.raw,
  };
}

/** Runs to the end and returns the exit status. */
export async function run(script: string, args: readonly string[], options: RunOptions): Promise<number> {
  running = true;
  const interrupted = interruption();
  const readerGone = new Promise<number>((resolveStatus) => {
    process.stdout.once('error', () => resolveStatus(EXIT_SIGPIPE));
  });
  const lab = startLab(labOptions(script, args, options));
  const tasks = new Set<string>();
  const print = printer(options);
  lab.on('log', (record) => {
    tasks.add(record.task);
    print(record);
  });
  const waiting = new AbortController();
  const task = options.waitFor;
  const outcomes: Promise<number>[] = [
    interrupted,
    readerGone,
    lab.ended.then((end) => (lab.stopping ? 1 : reportEnd(end, task))),
  ];
  if (task !== undefined) outcomes.push(waitFor(lab, task, waiting.signal));
  const status = await Promise.race(outcomes);
  waiting.abort();
  await lab.stop();
  return status || rawStatus(options.raw, tasks);
}

/** 1 and a message when nothing was written because the task of --raw was never started. */
function rawStatus(raw: string | undefined, tasks: ReadonlySet<string>): number {
  if (raw === undefined || tasks.has(raw)) return 0;
  console.error(
    `l4lab: Cannot write the output of task '${raw}' (--raw) as no task of that name was started; tasks: ${[...tasks].join(', ')}`,
  );
  return 1;
}

/** The task's exit status; 1 with a message when it will never run; nothing when the lab ends first. */
async function waitFor(lab: Lab, task: string, signal: AbortSignal): Promise<number> {
  try {
    return await lab.waitFor(task, signal);
  } catch (err) {
    const { errno, message } = toL4Error(err);
    // ned went away or we do not wait any more: what ended the lab is told by others.
    if (errno >= IPC_ERRORS) return new Promise<never>(() => {});
    console.error(`l4lab: ${message}`);
    return 1;
  }
}

/** Cleans leftovers of dead labs, says so, and starts a new one. */
export function startLab(options: LabOptions): Lab {
  runningLabs((dir, killed) => {
    console.error(
      `l4lab: cleaned the leftovers of a lab whose launcher was killed: ${dir}${killed > 0 ? ` (${killed} processes ended)` : ''}`,
    );
  });
  return new Lab(options);
}

/** Prints log records as Moe does, to stdout, or to stderr when stdout belongs to a task (--raw). */
export function printer(options: Pick<RunOptions, 'raw' | 'json'>): (record: LogRecord) => void {
  const stream = options.raw === undefined ? process.stdout : process.stderr;
  const colored = hasColors(stream);
  stream.on('error', () => {});
  return (record) => {
    if (record.event && !options.json) return;
    stream.write(`${options.json ? JSON.stringify(record) : formatLog(record, colored)}\n`);
  };
}

export function reportEnd(end: { status: number; reason: string }, task: string | undefined): number {
  if (task === undefined && end.status === 0) return 0;
  const unmet = task === undefined ? '' : ` before task '${task}' did`;
  console.error(`l4lab: the lab ended${unmet}: ${end.reason}`);
  return end.status || 1;
}

/** Resolves with the exit status when we are asked to end. */
export function interruption(): Promise<number> {
  return new Promise((resolveStatus) => {
    // Not `once`: a second Ctrl-C must not end us before the lab is taken away, which never takes long.
    process.on('SIGINT', () => resolveStatus(EXIT_SIGINT));
    process.on('SIGTERM', () => resolveStatus(EXIT_SIGTERM));
    process.on('SIGHUP', () => resolveStatus(EXIT_SIGTERM));
  });
}

function requireFile(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat)
    throw new UsageError(
      `Cannot run ${path} as there is no such file: name a ned script, e.g. deploy/labs/curl/curl.cfg`,
    );
  if (!stat.isFile())
    throw new UsageError(
      `Cannot run ${path} as it is not a file: name a ned script, e.g. deploy/labs/curl/curl.cfg`,
    );
}

function requireDirectory(path: string): void {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`Cannot use --rom ${path} as it is not a directory`);
  }
}
