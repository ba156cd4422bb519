/**
 * The lives of tasks: from a start to its end, and to the next start if the restart policy wants one.
 *
 * A task's objects are counted as L4Re's kernel counts them: before a task starts it becomes a holder of
 * every object in its record, and after its end every server is told that it holds nothing any more.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { TaskEvent } from '#common/obs/log_record';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Channels } from './channels.ts';
import type { LoadBackend, StartOptions, TaskEnd, TaskProcess } from './loader.ts';
import type { LogSink, LogStyle } from './log.ts';
import type { References } from './references.ts';
import { Restarts } from './restarts.ts';
import type { Task, TaskRecord, TaskRequest } from './task.ts';
import { followOutput } from './task_output.ts';

export interface LivesContext {
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
  /** Evaluates the functions among a task's capabilities once more. */
  readonly evaluate: (task: Task, signal: AbortSignal) => Promise<readonly m.INamedCapability[]>;
  /**
   * A task has ended and its output has been read to the end. It is started again after `delayMs`; undefined: that was
   * its last end.
   */
  readonly onEnded: (task: Task, delayMs: number | undefined) => void;
  /** What the task has started itself and still runs. */
  readonly childrenOf: (task: Task) => readonly Task[];
  /** A task has started or ended. */
  readonly changed: () => void;
}

/** Starts one life of a task. */
export type Spawn = (record: TaskRecord) => TaskProcess;

export class Lives {
  readonly #context: LivesContext;

  constructor(context: LivesContext) {
    this.#context = context;
  }

  /** Starts a task as a process, and again as its policy says. Throws L4Error when it cannot be started at all. */
  async start(task: Task, request: TaskRequest): Promise<void> {
    if (request.restart !== undefined && request.restart !== 'no') {
      task.restarts = new Restarts(request.restart);
      // What the next life gets must still be there by then.
      for (const cap of valuesOf(request)) this.#context.references.adopt(cap);
    }
    await this.run(task, request, this.#spawn(task));
  }

  #spawn(task: Task): Spawn {
    return (record) => this.#context.backend.start(record, this.#context.streams(task));
  }

  /** Makes the task a holder of what it gets, then starts it. Throws L4Error when it cannot be started. */
  async run(task: Task, request: TaskRequest, start: Spawn): Promise<void> {
    try {
      await this.#begin(task, request, start);
    } catch (err) {
      task.finish(notStarted(err));
      this.#context.channels.serverEnded(task);
      // It may hold some of its objects already.
      await this.#context.taskGone(task);
      this.#bury(task, request);
      throw err;
    }
  }

  async #begin(task: Task, request: TaskRequest, start: Spawn): Promise<void> {
    const parent = this.#context.parentFor(task);
    task.dormant = false;
    task.argv = request.argv;
    task.capabilities = request.capabilities;
    task.started = Date.now();
    const style = { tag: request.tag ?? task.name, color: request.color };
    try {
      await this.#introduce(task, request);
      requireWanted(task);
      task.process = start(recordOf(task, request, style, parent.capability));
    } catch (err) {
      parent.close();
      throw err;
    }
    this.#started(task, request, style, parent);
  }

  /** Servers and channels learn of the task. */
  async #introduce(task: Task, { capabilities, memAlloc }: TaskRequest): Promise<void> {
    const { channels, references } = this.#context;
    const held = [memAlloc, ...capabilities.map(({ client }) => client as Capability | undefined)];
    await Promise.all(held.map((cap) => cap && references.hold(cap, task.id)));
    channels.introduce(task, capabilities);
  }

  /** Takes over a task that is running already, e.g. since before ned itself was started again. */
  adopt(task: Task, request: TaskRequest, child: TaskProcess, style: LogStyle): void {
    task.process = child;
    this.#started(task, request, style, this.#context.parentFor(task));
  }

  #started(task: Task, request: TaskRequest, style: LogStyle, parent: { close(): void }): void {
    task.state = 'running';
    this.#announce(task, style, { kind: 'start', pid: task.process?.pid ?? 0, argv: [...task.argv] });
    void this.#follow(task, request, style, parent);
    this.#context.changed();
  }

  /** From a start to the end, and to the next start if there is one. */
  async #follow(task: Task, request: TaskRequest, style: LogStyle, parent: { close(): void }): Promise<void> {
    const end = await followOutput(task.process as TaskProcess, task.name, style, this.#context.sink);
    parent.close();
    this.#announce(task, style, { kind: 'end', status: end.status });
    await this.#ended(task, request, end, style);
  }

  async #ended(task: Task, request: TaskRequest, end: TaskEnd, style: LogStyle): Promise<void> {
    const { channels, taskGone, onEnded } = this.#context;
    const delayMs = task.killed ? undefined : task.restarts?.delayAfter(end);
    if (delayMs === undefined) task.finish(end);
    else task.pause(end);
    if (delayMs === undefined) channels.serverEnded(task);
    else channels.serverPaused(task);
    await taskGone(task);
    onEnded(task, delayMs);
    if (delayMs === undefined) this.#bury(task, request);
    else void this.#startAgain(task, request, delayMs, style);
    this.#context.changed();
  }

  /** The end of a task that was killed before anybody became it. */
  cancel(task: Task): void {
    task.dormant = false;
    task.finish({ status: 137, signal: 'SIGKILL' });
    this.#context.channels.serverEnded(task);
    this.#context.onEnded(task, undefined);
    task.settle();
    this.#context.changed();
  }

  /** Nothing more is to come of this task. */
  #bury(task: Task, request: TaskRequest): void {
    if (task.restarts) for (const cap of valuesOf(request)) this.#context.references.release(cap);
    task.settle();
    this.#context.changed();
  }

  /** The next life of a task, after a while. What goes wrong on the way counts as its end. */
  async #startAgain(task: Task, request: TaskRequest, delayMs: number, style: LogStyle): Promise<void> {
    const restarts = task.restarts as Restarts;
    try {
      // Its children have been told to end: their names and devices are to be free by then.
      await Promise.all([
        restarts.wait(delayMs),
        ...this.#context.childrenOf(task).map(({ ended }) => ended),
      ]);
      const capabilities = await this.#evaluated(task, request, restarts.signal);
      requireWanted(task);
      task.renew();
      await this.#begin(task, { ...request, capabilities }, this.#spawn(task));
    } catch (err) {
      await this.#ended(task, request, notStarted(err), style);
    }
  }

  /** Values as they are; functions anew. */
  async #evaluated(
    task: Task,
    { capabilities, functions = [] }: TaskRequest,
    signal: AbortSignal,
  ): Promise<readonly m.INamedCapability[]> {
    if (functions.length === 0 || signal.aborted) return capabilities;
    const values = capabilities.filter(({ name }) => !functions.includes(name ?? ''));
    const evaluated = this.#context.evaluate(task, signal);
    const abandoned = new Promise<undefined>((resolve) => {
      signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const late = await Promise.race([evaluated, abandoned]);
    // What comes too late is given back: the task will not be started any more.
    if (!late) void evaluated.then(() => this.#context.taskGone(task)).catch(() => {});
    return [...values, ...(late ?? [])].sort(byName);
  }

  #announce(task: Task, style: LogStyle, event: TaskEvent): void {
    const record = { time: Date.now(), task: task.name, ...style, stream: 'stdout' as const, text: '' };
    void this.#context.sink.write({ ...record, continued: false, event });
  }
}

function recordOf(task: Task, request: TaskRequest, style: LogStyle, parent: Capability): TaskRecord {
  return {
    task: task.id,
    name: task.name,
    argv: [...request.argv],
    environment: { ...request.environment },
    capabilities: [...request.capabilities],
    parent,
    memAlloc: request.memAlloc,
    parentPid: process.pid,
    debug: request.debug,
    program: request.program ?? '',
    logTag: style.tag,
    logColor: style.color,
    startedBy: request.startedBy ?? '',
    restart: request.restart ?? '',
  };
}

/** Throws when the task is not to be started (again) any more: it was killed on the way. */
function requireWanted({ name, killed, restarts }: Task): void {
  if (killed || restarts?.signal.aborted)
    throw new L4Error('EIPC_CANCELED', `Starting '${name}' was abandoned`);
}

function notStarted(err: unknown): TaskEnd {
  return { status: 1, signal: undefined, problem: err instanceof Error ? err.message : String(err) };
}

/** Objects that are the same for every life of a task. */
function valuesOf({ capabilities, functions = [] }: TaskRequest): Capability[] {
  return capabilities.flatMap(({ name, client }) =>
    client && !functions.includes(name ?? '') ? [client as Capability] : [],
  );
}

/** The order of capabilities in a launch record. */
export function byName(a: m.INamedCapability, b: m.INamedCapability): number {
  return (a.name ?? '') < (b.name ?? '') ? -1 : 1;
}
