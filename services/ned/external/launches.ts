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
      onMember: ({ task, instance }) => this.#know(task, instance),
      onAskedFor: ({ launch: name, request, task, instance }) => {
        const launch = new Launch(name, request);
        launch.tasks.push(task);
        launch.instances.set(task, instance);
        this.#launches.set(name, launch);
        this.#know(task, instance);
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
    // It asks again as the broker ended when it had become the task, before it could be told.
    if (this.#instances.has(request.instance)) return this.#store.record(request.instance);
    const { tasks } = this.#context;
    for (;;) {
      const launch = await tasks.watch(() => this.#available(request.task), signal);
      const task = launch.free ?? (launch.scales ? this.#dormant(launch) : undefined);
      if (task) return this.#begin(launch, task, request, signal);
      if (launch.taken) throw new L4Error('EBUSY', launch.refusal(), { code: 'BROKER_VALUES' });
      // The one before may have died a moment ago, or somebody else is about to become the task.
      await tasks.watch(() => launch.free ?? (launch.taken || undefined), signal);
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
    for (const launch of this.#launches.values()) {
      if (launch.request.startedBy !== parent.id) continue;
      launch.wanted = false;
      for (const instance of launch.running) instance.give(RESTART);
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
    if (first) launch.tasks.push(first);
    else this.#dormant(launch, name);
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

  /** One more task of a launch, which nobody is yet. */
  #dormant(launch: Launch, name = this.#uniqueName(launch.name)): Task {
    const task = this.#context.tasks.create(name, launch.request);
    task.dormant = true;
    launch.tasks.push(task);
    return task;
  }

  #askFirst(name: string, request: TaskRequest, asker: Asker): Task {
    const launch = new Launch(name, request);
    launch.asker = asker;
    launch.wanted = true;
    const task = this.#dormant(launch, name);
    this.#launches.set(name, launch);
    this.#context.tasks.changed();
    return task;
  }

  /** A task of its own for every start: who waits for the one before learns of its end. */
  #renew(launch: Launch, request: TaskRequest, asker: Asker): Task {
    for (const instance of launch.running) instance.give(RESTART);
    launch.request = request;
    launch.asker = asker;
    launch.wanted = true;
    for (const old of launch.tasks.splice(0)) this.#forgetTask(old);
    const task = this.#dormant(launch, launch.name);
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
    if (launch) return launch.open ? launch : undefined;
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
    const { tasks, evaluate, taskGone } = this.#context;
    const recorded = launch.request;
    const again = task.settled;
    launch.claimed.add(task);
    launch.wanted = false;
    try {
      const evaluated = launch.scales ? await evaluate(launch.first, task, signal) : [];
      if (again) task.renew();
      else if (task.killed) throw new L4Error('EIPC_CANCELED', `Starting '${task.name}' was abandoned`);
      let result: TaskRecord | undefined;
      const capabilities = [...recorded.capabilities, ...evaluated].sort(byName);
      await tasks.run(task, { ...recorded, capabilities }, (record) => {
        result = { ...record, parentPid: 0, launch: launch.name };
        return this.#become(launch, task, result, request);
      });
      // Who had asked for it has asked anew meanwhile, or has ended.
      if (!launch.tasks.includes(task) || launch.orphaned) launch.instances.get(task)?.give(RESTART);
      return result ?? {};
    } catch (err) {
      void taskGone(task);
      if (launch.askedFor && launch.tasks.includes(task) && !launch.orphaned) launch.wanted = true;
      throw err;
    } finally {
      launch.claimed.delete(task);
      tasks.changed();
    }
  }

  /** The component is the task from now on. */
  #become(launch: Launch, task: Task, record: TaskRecord, { instance: id, host, pid }: m.FetchRequest) {
    const instance = new Instance(this.#context.runDir, { id, host, pid });
    try {
      this.#store.save(instance, record);
    } catch (err) {
      instance.leave();
      throw err;
    }
    launch.instances.set(task, instance);
    this.#know(task, instance);
    return instance;
  }

  #know(task: Task, instance: Instance): void {
    this.#instances.set(instance.id, { instance, task });
    void instance.ended.then(() => {
      this.#instances.delete(instance.id);
      for (const { instances } of this.#launches.values())
        if (instances.get(task) === instance) instances.delete(task);
      this.#store.remove(instance.id);
      // A component that was killed leaves its files: a page here, its packet buffers there.
      this.#sweeper.soon();
    });
  }

  /** `curl`, `curl-2`, ...: neither another launch's, nor a running task's or one's that may be started again. */
  #uniqueName(wanted: string): string {
    const running = this.#context.tasks.all.filter((task) => task.running && !this.#adoption.has(task));
    const launched = [...this.#launches.values()].flatMap(({ tasks }) => tasks);
    const taken = new Set([...running, ...launched].map(({ name }) => name));
    return freeName(wanted, (name) => taken.has(name) || this.#launches.has(name));
  }
}

/** Whether a task that asks for this launch's name means this launch again, and not a second one. */
function isRenewal({ asker, tasks, request }: Launch, { task, life }: Asker): boolean {
  if (request.startedBy === undefined) return false;
  const sameLife = asker ? asker.task === task && asker.life === life : request.startedBy === task.id;
  return !sameLife || tasks.every(({ running }) => !running);
}
