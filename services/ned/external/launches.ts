/**
 * External loading: `ld:start` records a launch under the task's name; a component that asks for that name
 * becomes the task (service Broker, proto/broker.proto).
 *
 * A launch whose capabilities are values is one task, started as often as a component comes after the one
 * before has ended. With functions as capabilities any number of components may come: each is a task of its
 * own. What another task asks for (Parent.StartTask) can be fetched once for each time that it asks.
 */
import { L4Error } from '#common/ipc/errors';
import { stateFile } from '#common/shm/run_dir';
import { Sweeper } from '#common/shm/sweep';
import { readProblem } from '#common/task/health';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { byName } from '../lives.ts';
import type { NamedCapabilities } from '../named_capabilities.ts';
import { freeName, nameOf } from '../names.ts';
import type { ScriptState } from '../parent.ts';
import type { Task, TaskRecord, TaskRequest } from '../task.ts';
import type { Starter, Tasks } from '../tasks.ts';
import { Adoption } from './adoption.ts';
import { Instance, RESTART } from './instance.ts';
import { type Asker, Launch } from './launch.ts';
import { InstanceStore } from './store.ts';

export interface LaunchesContext {
  readonly runDir: string;
  readonly tasks: Tasks;
  readonly script: ScriptState;
  /** Evaluates the functions of a launch in the script, for one task. */
  readonly evaluate: (launch: Task, task: Task, signal: AbortSignal) => Promise<NamedCapabilities>;
  /** The task holds nothing (any more). */
  readonly taskGone: (task: Pick<Task, 'id'>) => Promise<void>;
  /** True for a program that a task may ask for without the script's knowing. */
  readonly isProgram: (name: string) => boolean;
  /** Tells the channels who serves and who calls them. */
  readonly introduce: (capabilities: NamedCapabilities, task: Task) => void;
  readonly say: (text: string) => void;
}

export class Launches implements Starter {
  readonly #context: LaunchesContext;
  readonly #launches = new Map<string, Launch>();
  readonly #instances = new Map<string, { instance: Instance; task: Task }>();
  readonly #store: InstanceStore;
  readonly #adoption: Adoption;
  readonly #sweeper: Sweeper;

  constructor(context: LaunchesContext) {
    this.#context = context;
    const { runDir, tasks, say } = context;
    this.#store = new InstanceStore(runDir);
    this.#adoption = new Adoption({
      runDir,
      tasks,
      store: this.#store,
      say,
      onMember: ({ task, instance }) => this.#know(undefined, task, instance),
      onAskedFor: ({ launch: name, request, task, instance }) => {
        const launch = new Launch(name, request);
        launch.tasks.push(task);
        this.#launches.set(name, launch);
        this.#know(launch, task, instance);
      },
    });
    this.#sweeper = new Sweeper(runDir);
  }

  /** Finds the components of a broker before this one: those that live are tasks again. */
  resume(): void {
    this.#adoption.resume();
  }

  /** The script has run: all servers are known, and hear of the tasks that ended while there was no broker. */
  async settle(): Promise<void> {
    await Promise.all(this.#adoption.takeLost().map((id) => this.#context.taskGone({ id })));
  }

  /** Records a launch; returns the task that its first component will be. */
  async start(request: TaskRequest): Promise<Task> {
    return request.startedBy === undefined ? this.#record(request) : this.#ask(request, request.startedBy);
  }

  /** Becomes an instance of a task: what a component asks for. */
  async fetch(request: m.FetchRequest, signal: AbortSignal): Promise<m.ILaunchRecord> {
    const { tasks } = this.#context;
    for (;;) {
      const launch = await tasks.watch(() => this.#available(request.task), signal);
      const task = launch.free ?? (launch.scales ? this.#replica(launch) : undefined);
      if (task) return this.#begin(launch, task, request, signal);
      // The one before may have died a moment ago.
      if (launch.running.some((instance) => instance.alive)) {
        throw new L4Error('EBUSY', launch.refusal(), { code: 'BROKER_VALUES' });
      }
      await tasks.watch(() => launch.free, signal);
    }
  }

  /** The component of that id. Throws L4Error ENOENT. */
  instance(id: string): Instance {
    const found = this.#instances.get(id);
    if (found) return found.instance;
    throw new L4Error(
      'ENOENT',
      `Cannot find component ${id.slice(0, 8)} as the broker does not know it: its run directory was removed, or it has ended`,
      { code: 'BROKER_UNKNOWN' },
    );
  }

  /** The running task that people mean by a name: the task, or any replica of that launch. */
  find(name: string): Task | undefined {
    const launch = this.#launches.get(name);
    return launch?.tasks.findLast((task) => task.state === 'running') ?? this.#context.tasks.find(name);
  }

  /** What the component that is this task says is wrong with it; undefined: nothing. */
  problemOf(task: Task): string | undefined {
    const entry = [...this.#instances.values()].find((other) => other.task === task);
    return entry && readProblem(stateFile(this.#context.runDir, entry.instance.id));
  }

  /** All names, for messages. */
  get names(): string {
    return [...this.#launches.keys()].join(', ') || 'none';
  }

  /** What a task had asked for is of no use without it: its components wait until it asks again. */
  restartChildrenOf(parent: Task): void {
    for (const { request, running } of this.#launches.values()) {
      if (request.startedBy === parent.id) for (const instance of running) instance.give(RESTART);
    }
  }

  /** ned ends, the components go on. */
  leave(): void {
    this.#sweeper.close();
    for (const { instance } of this.#instances.values()) instance.leave();
  }

  #record(request: TaskRequest): Task {
    const name = this.#uniqueName(nameOf(request));
    const adopted = this.#adoption.takeMembers(name);
    const launch = new Launch(name, request);
    this.#launches.set(name, launch);
    const first = adopted.find(({ task }) => task.name === name)?.task;
    launch.tasks.push(first ?? this.#dormant(name, request));
    if (!first) this.#context.introduce(request.capabilities, launch.first);
    for (const { task, instance } of adopted) {
      if (task !== first) launch.tasks.push(task);
      launch.instances.set(task, instance);
      this.#context.introduce(task.capabilities, task);
    }
    this.#context.tasks.changed();
    return launch.first;
  }

  /** Another task asks: for the first time, or again as it or what it asked for was started anew. */
  #ask(request: TaskRequest, startedBy: string): Task {
    const task = this.#context.tasks.find(startedBy) as Task;
    const asker = { task, life: task.lives };
    const wanted = nameOf(request);
    for (let i = 1; ; i++) {
      const name = i === 1 ? wanted : `${wanted}-${i}`;
      const launch = this.#launches.get(name);
      if (!launch) return this.#askFirst(name, request, asker);
      if (isRenewal(launch, asker)) return this.#renew(launch, request, asker);
    }
  }

  /** The list of tasks shows the newest of that name only. */
  #forgetTask(task: Task): void {
    const { tasks } = this.#context;
    if (task.dormant || task.settled) tasks.forget(task);
    else void task.ended.then(() => tasks.forget(task));
  }

  #dormant(name: string, request: TaskRequest): Task {
    const task = this.#context.tasks.create(name, request);
    task.dormant = true;
    return task;
  }

  #askFirst(name: string, request: TaskRequest, asker: Asker): Task {
    const launch = new Launch(name, request);
    launch.asker = asker;
    launch.wanted = true;
    launch.tasks.push(this.#dormant(name, request));
    this.#launches.set(name, launch);
    this.#context.tasks.changed();
    return launch.first;
  }

  /** A task of its own for every start: who waits for the one before learns of its end. */
  #renew(launch: Launch, request: TaskRequest, asker: Asker): Task {
    for (const instance of launch.running) instance.give(RESTART);
    launch.request = request;
    launch.asker = asker;
    launch.wanted = true;
    launch.withdrawn = false;
    const task = this.#dormant(launch.name, request);
    for (const old of launch.tasks.splice(0, launch.tasks.length, task)) this.#forgetTask(old);
    this.#context.tasks.changed();
    return task;
  }

  /** The launch of that name as soon as it can be fetched. Throws L4Error when it never will. */
  #available(name: string): Launch | undefined {
    const launch = this.#launches.get(name);
    if (launch?.withdrawn) {
      throw new L4Error('ENOENT', `Cannot start '${name}' as the script has killed it: its launch is over`, {
        code: 'BROKER_KILLED',
      });
    }
    if (launch) return launch.askedFor && !launch.wanted ? undefined : launch;
    const { script, isProgram } = this.#context;
    if (script.state === 'loading') return undefined;
    // A task may ask for several of one program, by numbers, and several tasks for the same: ixl, ixl1, ixl-2.
    if (script.state === 'serving' && isProgram(name.replace(/\d*(-\d+)?$/, ''))) return undefined;
    const why =
      script.state === 'failed'
        ? `the script failed: ${script.error}`
        : 'the script starts no task of that name';
    throw new L4Error('ENOENT', `Cannot start '${name}' as ${why}. Its tasks: ${this.names}`, {
      code: 'BROKER_NO_TASK',
    });
  }

  async #begin(
    launch: Launch,
    task: Task,
    request: m.FetchRequest,
    signal: AbortSignal,
  ): Promise<m.ILaunchRecord> {
    const { tasks, evaluate, runDir, taskGone } = this.#context;
    launch.claimed.add(task);
    launch.wanted = false;
    try {
      const evaluated = launch.scales ? await evaluate(launch.first, task, signal) : [];
      if (task.settled) task.renew();
      let result: TaskRecord | undefined;
      const capabilities = [...launch.request.capabilities, ...evaluated].sort(byName);
      await tasks.run(task, { ...launch.request, capabilities }, (record) => {
        const instance = new Instance(runDir, { id: request.instance, host: request.host, pid: request.pid });
        result = { ...record, parentPid: 0, launch: launch.name };
        this.#store.save(instance, result);
        this.#know(launch, task, instance);
        return instance;
      });
      return result ?? {};
    } catch (err) {
      void taskGone(task);
      launch.wanted = launch.askedFor;
      throw err;
    } finally {
      launch.claimed.delete(task);
      tasks.changed();
    }
  }

  #know(launch: Launch | undefined, task: Task, instance: Instance): void {
    this.#instances.set(instance.id, { instance, task });
    launch?.instances.set(task, instance);
    void instance.ended.then(() => {
      this.#instances.delete(instance.id);
      this.#store.remove(instance.id);
      // A component that was killed leaves its files: a page here, its packet buffers there.
      this.#sweeper.soon();
      if (task.killed && launch && !launch.askedFor && !launch.scales) launch.withdrawn = true;
    });
  }

  #replica(launch: Launch): Task {
    const { tasks } = this.#context;
    const task = tasks.create(this.#uniqueName(launch.name), launch.request);
    launch.tasks.push(task);
    return task;
  }

  /** `curl`, `curl-2`, ...: neither another launch's nor another running task's. */
  #uniqueName(wanted: string): string {
    const taken = new Set(
      this.#context.tasks.all
        .filter((task) => task.running && !this.#adoption.has(task))
        .map(({ name }) => name),
    );
    return freeName(wanted, (name) => taken.has(name) || this.#launches.has(name));
  }
}

/** Whether a task that asks for this launch's name means this launch again, and not a second one. */
function isRenewal({ asker, tasks, request }: Launch, { task, life }: Asker): boolean {
  if (request.startedBy === undefined) return false;
  const sameLife = asker ? asker.task === task && asker.life === life : request.startedBy === task.id;
  return !sameLife || tasks.every(({ running }) => !running);
}
