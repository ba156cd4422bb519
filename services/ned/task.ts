/** One task of the lab: what it is started with, where it is in its life, how it ended (l4re-facts.md 1.8). */
import type { Capability } from '#common/ipc/capability';
import { randomName } from '#common/shm/run_dir';
import type { RestartPolicy } from '#common/task/restart';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { TaskEnd, TaskProcess } from './loader.ts';
import type { Restarts } from './restarts.ts';

export interface TaskRequest {
  readonly argv: readonly string[];
  /** A program of l4lab itself whatever argv[0] says; for the machine. */
  readonly program?: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly capabilities: readonly m.INamedCapability[];
  /** Tag and colour; the tag is undefined when the task's own name is to be used. */
  readonly tag: string | undefined;
  /** Default: the tag. */
  readonly name?: string | undefined;
  readonly color: number;
  readonly memAlloc: Capability;
  /** L4.Dbg bits. */
  readonly debug: number;
  /** Id of the task that asked for this one; undefined: the script. */
  readonly startedBy?: string;
  /**
   * Names of the capabilities that are functions. They are evaluated for each start; with external loading also for
   * the first: then `capabilities` are the others.
   */
  readonly functions?: readonly string[];
  /** What the script or the command line says; undefined: nothing. */
  readonly restart?: RestartPolicy | undefined;
}

/** What a task is started with. */
export type TaskRecord = m.ILaunchRecord & { task: string; name: string };

export class Task {
  readonly id: string;
  readonly name: string;
  readonly restart: RestartPolicy | undefined;
  argv: readonly string[];
  capabilities: readonly m.INamedCapability[];
  readonly startedBy: string | undefined;
  started = Date.now();
  /** Resolves when everybody has been told of the end of the task, after which it is not started again by itself. */
  ended: Promise<void>;
  /** How often it has been started anew. */
  lives = 0;
  process: TaskProcess | undefined;
  state: 'initializing' | 'running' | 'zombie' = 'initializing';
  /** Set for a zombie that was not killed. */
  exitCode: number | undefined;
  killed = false;
  endedAt = 0;
  /** `ended with status 1`; empty before its first end. */
  lastEnd = '';
  /** It has been recorded, and nobody has become it yet (external loading). */
  dormant = false;
  /** Its end has been recorded and everybody has been told. */
  settled = false;
  /** The script has no object of it any more. */
  released = false;
  /** Set when ned itself starts it again. */
  restarts: Restarts | undefined;
  #resolveEnded: () => void = () => {};

  constructor(name: string, request: TaskRequest, id = randomName()) {
    this.id = id;
    this.name = name;
    this.restart = request.restart;
    this.argv = request.argv;
    this.capabilities = request.capabilities;
    this.startedBy = request.startedBy;
    this.ended = this.#newEnd();
  }

  /** Forgets how it ended: it is about to be started again. */
  renew(): void {
    this.state = 'initializing';
    this.exitCode = undefined;
    this.killed = false;
    this.endedAt = 0;
    this.lives += 1;
    this.process = undefined;
    if (this.settled) this.ended = this.#newEnd();
    this.settled = false;
  }

  #newEnd(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** True also while it waits to be started again. */
  get running(): boolean {
    return this.state !== 'zombie';
  }

  /** True while it waits for the start of its next life. */
  get paused(): boolean {
    return this.state === 'initializing' && this.epitaph !== '';
  }

  /** Its process has ended, and it will be started again: until then it is as before its first start. */
  pause(end: TaskEnd): void {
    this.state = 'initializing';
    this.process = undefined;
    this.#note(end);
  }

  /** Records the end. */
  finish(end: TaskEnd): void {
    this.state = 'zombie';
    this.endedAt = Date.now();
    if (!this.killed) this.exitCode = end.status;
    this.#note(end);
  }

  /** `task 'io' ended with status 1`. */
  get epitaph(): string {
    return `task '${this.name}' ${this.lastEnd}`;
  }

  #note({ status, signal, problem }: TaskEnd): void {
    this.lastEnd = problem
      ? `could not be started: ${problem}`
      : this.killed
        ? 'was killed'
        : signal
          ? `was ended by ${signal}`
          : `ended with status ${status}`;
  }

  /** Everybody has been told of the end: `ended` resolves. */
  settle(): void {
    this.settled = true;
    this.#resolveEnded();
  }

  /** Ends the process at once, as destroying an L4Re task does. */
  kill(): void {
    this.end('SIGKILL');
  }

  /** Ends it for good: it is not started again. */
  end(signal: 'SIGTERM' | 'SIGKILL'): void {
    if (!this.running) return;
    this.killed = true;
    this.restarts?.abandon();
    this.process?.kill(signal);
  }

  status(): m.ITaskStatus {
    return {
      task: this.id,
      name: this.name,
      state: this.state,
      exitCode: this.exitCode ?? 0,
      killed: this.killed,
      pid: this.process?.pid ?? 0,
      argv: [...this.argv],
      started: this.started,
      ended: this.endedAt,
      capabilities: this.capabilities.map(({ name }) => name ?? ''),
      host: this.process?.host ?? '',
      served: this.capabilities.filter(({ server }) => server).map(({ name }) => name ?? ''),
      restart: this.restart ?? '',
      restarts: this.lives,
      lastEnd: this.lastEnd,
    };
  }
}
