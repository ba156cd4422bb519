/** The tasks of the lab: who there is, starting, ending, waiting (l4re-facts.md 1.8). */
import { setTimeout as sleep } from 'node:timers/promises';
import { L4Error } from '#common/ipc/errors';
import { Lives, type LivesContext, type Spawn } from './lives.ts';
import type { TaskProcess } from './loader.ts';
import type { LogStyle } from './log.ts';
import { findTask, freeName, nameOf } from './names.ts';
import { Task, type TaskRequest } from './task.ts';
import { Watchers } from './watchers.ts';

/** Time between SIGTERM and SIGKILL at the end of the lab. */
const GRACE_MS = 1200;
/** What clients have of it before their servers are ended, too. */
const CLIENTS_MS = 400;

/** Ended tasks that nobody asks for any more are shown (`l4lab ps`) until there are more of them than this. */
const MAX_ENDED = 100;

/** How the script and tasks start tasks: as processes (Tasks), or for components to become them (Launches). */
export interface Starter {
  start(request: TaskRequest): Promise<Task>;
}

export type TasksContext = Omit<LivesContext, 'childrenOf' | 'changed'>;

export class Tasks implements Starter {
  readonly #lives: Lives;
  readonly #tasks: Task[] = [];
  readonly #watchers = new Watchers();
  #stopping = false;

  constructor(context: TasksContext) {
    this.#lives = new Lives({
      ...context,
      childrenOf: (task) => this.#childrenOf(task),
      changed: () => this.changed(),
    });
  }

  /** All tasks of the lab in the order of their starts; of ended ones that nobody asks for the last hundred. */
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
    return findTask(this.#tasks, wanted);
  }

  /** Starts a task. Throws L4Error when a server of one of its objects does not answer. */
  async start(request: TaskRequest): Promise<Task> {
    if (this.#stopping) throw new L4Error('EIPC_CANCELED', 'Cannot start a task as the lab is ending');
    this.#forgetOldest();
    const taken = new Set(this.#tasks.filter(({ running }) => running).map(({ name }) => name));
    const task = this.create(
      freeName(nameOf(request), (name) => taken.has(name)),
      request,
    );
    await this.#lives.start(task, request);
    return task;
  }

  /** Makes a task that somebody will start. */
  create(name: string, request: TaskRequest, id?: string): Task {
    const task = new Task(name, request, id);
    this.#tasks.push(task);
    return task;
  }

  /** The script has no object of that task any more. */
  release(id: string): void {
    const task = this.#tasks.find((other) => other.id === id);
    if (task) task.released = true;
  }

  /** A lab may start tasks as long as it lives. */
  #forgetOldest(): void {
    const running = new Set(this.#tasks.filter((task) => task.running).map(({ id }) => id));
    const idle = this.#tasks.filter(
      ({ settled, released, startedBy }) =>
        settled && (startedBy === undefined ? released : !running.has(startedBy)),
    );
    for (const task of idle.slice(0, -MAX_ENDED)) this.forget(task);
  }

  /** Drops a task that will never run (again). */
  forget(task: Task): void {
    const index = this.#tasks.indexOf(task);
    if (index >= 0) this.#tasks.splice(index, 1);
  }

  /** Makes the task a holder of what it gets, then starts it. Throws L4Error when it cannot be started. */
  run(task: Task, request: TaskRequest, start: Spawn): Promise<void> {
    return this.#lives.run(task, request, start);
  }

  /** Takes over a task that is running already, e.g. since before ned itself was started again. */
  adopt(task: Task, request: TaskRequest, child: TaskProcess, style: LogStyle): void {
    this.#lives.adopt(task, request, child, style);
  }

  /** Calls `look` now and after every start and end until it returns a value. */
  watch<T>(look: () => T | undefined, signal?: AbortSignal): Promise<T> {
    return this.#watchers.watch(look, signal);
  }

  /** Lets all watchers look again: something that they depend on has changed. */
  changed(): void {
    this.#watchers.changed();
  }

  /** Ends a task at once and for good, be it one that nobody has become yet. */
  kill(task: Task): void {
    task.kill();
    if (task.dormant) this.#lives.cancel(task);
  }

  /** Ends what a task had started through its parent object: a NIC driver is of no use without its switch. */
  endChildrenOf(parent: Task): void {
    for (const task of this.#childrenOf(parent)) task.kill();
  }

  #childrenOf(parent: Task): Task[] {
    return this.#tasks.filter(({ startedBy, running }) => running && startedBy === parent.id);
  }

  /** No task is started any more. */
  close(): void {
    this.#stopping = true;
  }

  /**
   * Ends all tasks: SIGTERM, and SIGKILL for what is left after 1.2 s. Those that others call, or have started, come
   * last, or at least a while later: the others would report that they have gone.
   */
  async stop(): Promise<void> {
    const alive = this.#tasks.filter(({ running, dormant }) => running && !dormant);
    const servers = alive.filter(
      ({ capabilities, startedBy }) =>
        startedBy !== undefined || capabilities.some(({ server }) => server !== undefined && server !== null),
    );
    const clients = alive.filter((task) => !servers.includes(task));
    const grace = setTimeout(() => {
      for (const task of alive) task.kill();
    }, GRACE_MS);
    for (const task of clients) task.end('SIGTERM');
    await Promise.race([allEnded(clients), sleep(CLIENTS_MS)]);
    for (const task of servers) task.end('SIGTERM');
    await allEnded(alive);
    clearTimeout(grace);
  }
}

function allEnded(tasks: readonly Task[]): Promise<unknown> {
  return Promise.all(tasks.map(({ ended }) => ended));
}
