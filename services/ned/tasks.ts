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
   * Names of the capabilities that are functions, to be evaluated at each start (external loading only; otherwise
   * the script has evaluated them). `capabilities` are the others.
   */
  readonly functions?: readonly string[];
}

/** What a task is started with. */
export type TaskRecord = m.ILaunchRecord & { task: string; name: string };

export class Task {
  readonly id: string;
  readonly name: string;
  argv: readonly string[];
  capabilities: readonly m.INamedCapability[];
  readonly startedBy: string | undefined;
  started = Date.now();
  /** Resolves when everybody has been told of the end of this life of the task. */
  ended: Promise<void>;
  /** How often it has been started anew. */
  lives = 0;
  process: TaskProcess | undefined;
  state: 'initializing' | 'running' | 'zombie' = 'initializing';
  /** Set for a zombie that was not killed. */
  exitCode: number | undefined;
  killed = false;
  endedAt = 0;
  epitaph = '';
  /** It has been recorded, and nobody has become it yet (external loading). */
  dormant = false;
  /** Its end has been recorded and everybody has been told. */
  settled = false;
  #resolveEnded: () => void = () => {};

  constructor(name: string, request: TaskRequest, id = randomName()) {
    this.id = id;
    this.name = name;
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
    this.settled = false;
    this.endedAt = 0;
    this.lives += 1;
    this.process = undefined;
    this.ended = this.#newEnd();
  }

  #newEnd(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
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
      host: this.process?.host ?? '',
      served: this.capabilities.filter(({ server }) => server).map(({ name }) => name ?? ''),
    };
  }
}

/** How the script and tasks start tasks: as processes (Tasks), or for components to become them (Launches). */
export interface Starter {
  start(request: TaskRequest): Promise<Task>;
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

export class Tasks implements Starter {
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
    return this.#tasks.filter(({ running, dormant }) => running && !dormant).length;
  }

  /** True while a task runs, or has ended and somebody has yet to be told. */
  get busy(): boolean {
    return this.#tasks.some(({ settled, dormant }) => !settled && !dormant);
  }

  /** By id, or the newest one of that name; if none has it, the newest one that runs that program. */
  find(wanted: string): Task | undefined {
    const named = this.#tasks.findLast(({ id, name }) => id === wanted || name === wanted);
    return named ?? this.#tasks.findLast(({ argv }) => baseName(argv[0] ?? '') === wanted);
  }

  /** Starts a task. Throws L4Error when a server of one of its objects does not answer. */
  async start(request: TaskRequest): Promise<Task> {
    if (this.#stopping) throw new L4Error('EIPC_CANCELED', 'Cannot start a task as the lab is ending');
    const task = this.create(this.uniqueName(nameOf(request)), request);
    await this.run(task, request, (record) =>
      this.#context.backend.start(record, this.#context.streams(task)),
    );
    return task;
  }

  /** Makes a task that somebody will start. */
  create(name: string, request: TaskRequest, id?: string): Task {
    const task = new Task(name, request, id);
    this.#tasks.push(task);
    return task;
  }

  /** Drops a task that will never run (again). */
  forget(task: Task): void {
    const index = this.#tasks.indexOf(task);
    if (index >= 0) this.#tasks.splice(index, 1);
  }

  /** Makes the task a holder of what it gets, then starts it. */
  async run(task: Task, request: TaskRequest, start: (record: TaskRecord) => TaskProcess): Promise<void> {
    const { channels, references } = this.#context;
    const parent = this.#context.parentFor(task);
    task.dormant = false;
    task.argv = request.argv;
    task.capabilities = request.capabilities;
    task.started = Date.now();
    const style = styleOf(task, request);
    try {
      const clients = request.capabilities.map(({ client }) => client as Capability | undefined);
      const held = [request.memAlloc, ...clients];
      await Promise.all(held.map((cap) => cap && references.hold(cap, task.id)));
      for (const { name, client, server } of request.capabilities) {
        if (server?.gate) channels.addServer(server.gate, task);
        else if (client?.gate && !client.object) channels.addClient(client.gate, task, name ?? '');
      }
      task.process = start({
        task: task.id,
        name: task.name,
        argv: [...request.argv],
        environment: { ...request.environment },
        capabilities: [...request.capabilities],
        parent: parent.capability,
        memAlloc: request.memAlloc,
        parentPid: process.pid,
        debug: request.debug,
        program: request.program ?? '',
        logTag: style.tag,
        logColor: style.color,
        startedBy: request.startedBy ?? '',
      });
    } catch (err) {
      parent.close();
      task.finish({ status: 1, signal: undefined, problem: (err as Error).message });
      channels.serverEnded(task);
      task.settle();
      this.#changed();
      throw err;
    }
    this.#started(task, task.process, style, parent);
  }

  /** Takes over a task that is running already, e.g. since before ned itself was started again. */
  adopt(task: Task, child: TaskProcess, style: LogStyle): void {
    task.process = child;
    this.#started(task, child, style, this.#context.parentFor(task));
  }

  #started(task: Task, child: TaskProcess, style: LogStyle, parent: { close(): void }): void {
    task.state = 'running';
    this.#announce(task, style, { kind: 'start', pid: child.pid, argv: [...task.argv] });
    void this.#follow(task, child, style, parent);
    this.#changed();
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

  /** No task is started any more. */
  close(): void {
    this.#stopping = true;
  }

  /** Ends all tasks: SIGTERM, and SIGKILL for what is left after 1.2 s. */
  async stop(): Promise<void> {
    const alive = this.#tasks.filter(({ running, dormant }) => running && !dormant);
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
  uniqueName(wanted: string): string {
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

/** What a task is called if nobody else has that name: its given name, its log tag, or its program. */
export function nameOf({ name, tag, argv }: TaskRequest): string {
  return name ?? tag ?? baseName(argv[0] ?? '');
}

function styleOf(task: Task, request: TaskRequest): LogStyle {
  return { tag: request.tag ?? task.name, color: request.color };
}

/** `curl` of `rom/curl`. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
