/**
 * The tasks of the lab: starting, ending, waiting, names (l4re-facts.md 1.8).
 *
 * A task's objects are counted as L4Re's kernel counts them: before a task starts it becomes a holder of
 * every object in its record, and after its end every server is told that it holds nothing any more.
 */
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { TaskEvent } from '#common/obs/log_record';
import { randomName } from '#common/shm/run_dir';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Channels } from './channels.ts';
import type { LoadBackend, StartOptions, TaskEnd, TaskProcess } from './loader.ts';
import { LineSplitter, type LogSink, type LogStyle } from './log.ts';
import type { References } from './references.ts';

/** Time between SIGTERM and SIGKILL at the end of the lab. */
const GRACE_MS = 1200;
/**
 * A task's output ends with its process, unless something that it started holds the pipe: after this time
 * without any output we do not wait for more. A reader of the log that is slow is waited for.
 */
const OUTPUT_MS = 500;

/** Pieces of output of a task that wait for the log to be read. */
interface Reading {
  pending: number;
}

async function silence(reading: Reading): Promise<void> {
  do {
    await sleep(OUTPUT_MS, undefined, { ref: false });
  } while (reading.pending > 0);
}

export interface TaskRequest {
  readonly argv: readonly string[];
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
}

export class Task {
  readonly id = randomName();
  readonly name: string;
  readonly argv: readonly string[];
  readonly capabilities: readonly m.INamedCapability[];
  readonly startedBy: string | undefined;
  readonly started = Date.now();
  readonly ended: Promise<void>;
  process: TaskProcess | undefined;
  state: 'initializing' | 'running' | 'zombie' = 'initializing';
  /** Set for a zombie that was not killed. */
  exitCode: number | undefined;
  killed = false;
  endedAt = 0;
  epitaph = '';
  /** Its end has been recorded and everybody has been told. */
  settled = false;
  readonly #resolveEnded: () => void;

  constructor(name: string, request: TaskRequest) {
    this.name = name;
    this.argv = request.argv;
    this.capabilities = request.capabilities;
    this.startedBy = request.startedBy;
    let done = () => {};
    this.ended = new Promise((resolve) => {
      done = resolve;
    });
    this.#resolveEnded = done;
  }

  get running(): boolean {
    return this.state !== 'zombie';
  }

  /** Records the end. */
  finish({ status, signal, problem }: TaskEnd): void {
    this.state = 'zombie';
    this.endedAt = Date.now();
    if (!this.killed) this.exitCode = status;
    const how = problem
      ? `could not be started: ${problem}`
      : this.killed
        ? 'was killed'
        : signal
          ? `was ended by ${signal}`
          : `ended with status ${status}`;
    this.epitaph = `task '${this.name}' ${how}`;
  }

  /** Everybody has been told of the end: `ended` resolves. */
  settle(): void {
    this.settled = true;
    this.#resolveEnded();
  }

  /** Ends the process at once, as destroying an L4Re task does. */
  kill(): void {
    if (!this.running) return;
    this.killed = true;
    this.process?.kill('SIGKILL');
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
    };
  }
}

export interface TasksContext {
  readonly backend: LoadBackend;
  readonly sink: LogSink;
  readonly channels: Channels;
  readonly references: References;
  /** Makes the parent object of a task, and takes it away again. */
  readonly parentFor: (task: Task) => { capability: Capability; close(): void };
  /** Tells every server that a task holds nothing any more. */
  readonly taskGone: (task: Task) => Promise<void>;
  /** Where a task's input and output go. */
  readonly streams: (task: Task) => StartOptions;
  /** A task has ended and its output has been read to the end. */
  readonly onEnded: (task: Task) => void;
}

export class Tasks {
  readonly #context: TasksContext;
  readonly #tasks: Task[] = [];
  readonly #watchers = new Set<() => void>();
  #stopping = false;

  constructor(context: TasksContext) {
    this.#context = context;
  }

  /** All tasks of the lab in the order of their starts, ended ones included. */
  get all(): readonly Task[] {
    return this.#tasks;
  }

  get running(): number {
    return this.#tasks.filter(({ running }) => running).length;
  }

  /** True while a task runs, or has ended and somebody has yet to be told. */
  get busy(): boolean {
    return this.#tasks.some(({ settled }) => !settled);
  }

  /** By id, or the newest one of that name; if none has it, the newest one that runs that program. */
  find(wanted: string): Task | undefined {
    const named = this.#tasks.findLast(({ id, name }) => id === wanted || name === wanted);
    return named ?? this.#tasks.findLast(({ argv }) => baseName(argv[0] ?? '') === wanted);
  }

  /** Starts a task. Throws L4Error when a server of one of its objects does not answer. */
  async start(request: TaskRequest): Promise<Task> {
    if (this.#stopping) throw new L4Error('EIPC_CANCELED', 'Cannot start a task as the lab is ending');
    const task = new Task(
      this.#uniqueName(request.name ?? request.tag ?? baseName(request.argv[0] ?? '')),
      request,
    );
    this.#tasks.push(task);
    const { channels, references, backend } = this.#context;
    const parent = this.#context.parentFor(task);
    try {
      const clients = request.capabilities.map(({ client }) => client as Capability | undefined);
      const held = [request.memAlloc, ...clients];
      await Promise.all(held.map((cap) => cap && references.hold(cap, task.id)));
      for (const { name, client, server } of request.capabilities) {
        if (server?.gate) channels.addServer(server.gate, task);
        else if (client?.gate && !client.object) channels.addClient(client.gate, task, name ?? '');
      }
      const record = {
        task: task.id,
        name: task.name,
        argv: [...request.argv],
        environment: { ...request.environment },
        capabilities: [...request.capabilities],
        parent: parent.capability,
        memAlloc: request.memAlloc,
        parentPid: process.pid,
        debug: request.debug,
      };
      task.process = backend.start(record, this.#context.streams(task));
    } catch (err) {
      parent.close();
      task.finish({ status: 1, signal: undefined, problem: (err as Error).message });
      channels.serverEnded(task);
      task.settle();
      this.#changed();
      throw err;
    }
    task.state = 'running';
    const style = { tag: request.tag ?? task.name, color: request.color };
    this.#announce(task, style, { kind: 'start', pid: task.process.pid, argv: [...request.argv] });
    void this.#follow(task, task.process, style, parent);
    this.#changed();
    return task;
  }

  /** Calls `look` now and after every start and end until it returns a value. */
  async watch<T>(look: () => T | undefined, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = () => {
        try {
          const value = look();
          if (value === undefined) return;
          stop();
          resolve(value);
        } catch (err) {
          stop();
          reject(err);
        }
      };
      const onAbort = () => {
        stop();
        reject(new L4Error('EIPC_CANCELED', 'Waiting for a task was abandoned'));
      };
      const stop = () => {
        this.#watchers.delete(check);
        signal?.removeEventListener('abort', onAbort);
      };
      this.#watchers.add(check);
      signal?.addEventListener('abort', onAbort, { once: true });
      check();
    });
  }

  /** Lets all watchers look again: something that they depend on has changed. */
  changed(): void {
    this.#changed();
  }

  /** Ends what a task had started through its parent object: a NIC driver is of no use without its switch. */
  endChildrenOf(parent: Task): void {
    for (const task of this.#tasks) if (task.startedBy === parent.id) task.kill();
  }

  /** Ends all tasks: SIGTERM, and SIGKILL for what is left after 1.2 s. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const alive = this.#tasks.filter(({ running }) => running);
    for (const task of alive) {
      task.killed = true;
      task.process?.kill('SIGTERM');
    }
    const grace = setTimeout(() => {
      for (const task of alive) task.kill();
    }, GRACE_MS);
    await Promise.all(alive.map(({ ended }) => ended));
    clearTimeout(grace);
  }

  async #follow(task: Task, child: TaskProcess, style: LogStyle, parent: { close(): void }): Promise<void> {
    const reading: Reading = { pending: 0 };
    const outputs = [
      this.#read(task, child.stdout, 'stdout', style, reading),
      this.#read(task, child.stderr, 'stderr', style, reading),
    ];
    const end = await child.ended;
    await Promise.race([Promise.all(outputs), silence(reading)]);
    parent.close();
    task.finish(end);
    this.#announce(task, style, { kind: 'end', status: end.status });
    this.#context.channels.serverEnded(task);
    await this.#context.taskGone(task);
    this.#context.onEnded(task);
    task.settle();
    this.#changed();
  }

  async #read(
    task: Task,
    stream: Readable | null,
    name: 'stdout' | 'stderr',
    style: LogStyle,
    reading: Reading,
  ): Promise<void> {
    if (!stream) return;
    const splitter = new LineSplitter(this.#context.sink, { task: task.name, stream: name, ...style });
    try {
      for await (const chunk of stream) {
        reading.pending += 1;
        await splitter.push(chunk as Buffer);
        reading.pending -= 1;
      }
    } catch {
      // The pipe broke with its process; what came before has been shown.
    }
    await splitter.end();
  }

  #announce(task: Task, style: LogStyle, event: TaskEvent): void {
    const record = {
      time: Date.now(),
      task: task.name,
      ...style,
      stream: 'stdout' as const,
      text: '',
      continued: false,
    };
    void this.#context.sink.write({ ...record, event });
  }

  /** `curl`, `curl-2`, ...: unique among the running tasks. */
  #uniqueName(wanted: string): string {
    const taken = new Set(this.#tasks.filter(({ running }) => running).map(({ name }) => name));
    const base = wanted || 'task';
    for (let i = 1; ; i++) {
      const name = i === 1 ? base : `${base}-${i}`;
      if (!taken.has(name)) return name;
    }
  }

  #changed(): void {
    for (const check of [...this.#watchers]) check();
  }
}

/** `curl` of `rom/curl`. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
