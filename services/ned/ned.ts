/**
 * One ned: puts together the objects that it serves, its tasks, and the interpreter.
 */
import { arch } from 'node:os';
import { basename } from 'node:path';
import { LabSecret } from '#common/broker/secret';
import { type Capability, createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import { Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import { Sweeper } from '#common/shm/sweep';
import type { TaskEnv } from '#common/task/env';
import { Lab, Meta, Parent } from '../../proto/gen/services.js';
import { builtinPrograms } from './builtins.ts';
import { Channels } from './channels.ts';
import { CommandServer } from './command.ts';
import type { LuaValue } from './engine/marshal.ts';
import type { InterpreterThread } from './engine/thread.ts';
import { Evaluator } from './evaluator.ts';
import { External, type ExternalOptions } from './external/external.ts';
import { Rehearsal } from './external/rehearsal.ts';
import { serveFactory } from './factory.ts';
import { toHostError } from './host_error.ts';
import { consoleDescriptor, type LoadBackend, SpawnBackend, type StartOptions } from './loader.ts';
import { LogSink, LogTags, OwnLog } from './log.ts';
import type { NedOptions } from './options.ts';
import { labHandlers, parentHandlers, type ScriptState, type StillHolds } from './parent.ts';
import { References } from './references.ts';
import { RestartChoices } from './restart_choices.ts';
import { Rom } from './rom.ts';
import { Script } from './script.ts';
import { ScriptFiles } from './script_files.ts';
import type { Task } from './task.ts';
import { Tasks } from './tasks.ts';

/** Node's name of the processor to L4Re's. */
const ARCH: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: 'x86',
  arm64: 'arm64',
  arm: 'arm',
  riscv64: 'riscv',
};
const WHITE = 7;
/** A server that does not answer at once must not delay the end of a task. */
const TASK_GONE_MS = 1000;

export class Ned {
  readonly #env: TaskEnv;
  readonly #options: NedOptions;
  readonly #thread: InterpreterThread;
  readonly #ipc: Ipc;
  readonly #channels: Channels;
  readonly #references: References;
  readonly #tags: LogTags;
  readonly #log: OwnLog;
  readonly #tasks: Tasks;
  readonly #commands: CommandServer;
  readonly #state: ScriptState;
  readonly #ownEnd: ServerEnd;
  readonly #external: External | undefined;
  readonly #restarts: RestartChoices;
  /** Removes what killed tasks have left in the run directory. */
  readonly #sweeper: Sweeper;
  readonly #events: (() => LuaValue)[] = [];
  readonly #programs = builtinPrograms();
  #gate: Gate | undefined;
  #script: Script | undefined;
  #rehearsal: Rehearsal | undefined;
  #memAlloc: Capability | undefined;
  #wake: ((event: () => LuaValue) => void) | undefined;
  /** The script has ended, or waits for what comes: it has made what it makes. */
  readonly #loaded: Promise<void>;
  #tellLoaded: () => void = () => {};
  #finish: (status: number) => void = () => {};

  constructor(
    env: TaskEnv,
    options: NedOptions,
    thread: InterpreterThread,
    backend: LoadBackend = new SpawnBackend(env.runDir),
    external: ExternalOptions | undefined = externalOptions(env),
  ) {
    this.#thread = thread;
    this.#env = env;
    this.#sweeper = new Sweeper(env.runDir);
    this.#options = options;
    const sink = new LogSink(env.stdout);
    this.#log = new OwnLog(sink, env.name, { tag: env.name, color: WHITE });
    this.#tags = new LogTags(sink);
    this.#channels = new Channels(env.runDir);
    this.#ipc = new Ipc({
      runDir: env.runDir,
      task: env.task,
      nameOf: (gate) => this.#channels.describe(gate),
      onServing: (gate, serving) => env.health?.serving(gate, serving),
      // A script's own waiting is reported with its line by script_capabilities.ts.
      onWaiting: (text) => {
        if (!text.startsWith('Meta.')) this.#log.say(`Ned: ${text}`);
      },
    });
    this.#references = new References(this.#ipc);
    this.#commands = new CommandServer(this.#ipc, (event) => this.#post(() => event));
    this.#state = { state: 'loading', name: options.script ?? '', error: '' };
    this.#loaded = new Promise((resolve) => {
      this.#tellLoaded = resolve;
    });
    env.health?.set('script', 'its script runs');
    const evaluator = new Evaluator({
      script: () => this.#script as Script,
      post: (event) => this.#post(event),
      say: (text) => this.#log.say(text),
    });
    this.#restarts = new RestartChoices(env.environment.get('L4LAB_RESTART'));
    this.#tasks = new Tasks({
      backend,
      sink,
      channels: this.#channels,
      references: this.#references,
      parentFor: (task) => this.#parentFor(task),
      taskGone: (task) => this.#taskGone(task),
      streams: (task) => streamsOf(task),
      evaluate: (task, signal) => evaluator.evaluate(task, task, signal),
      onEnded: (task, delayMs) => this.#onTaskEnded(task, delayMs),
    });
    this.#ownEnd = external?.secret.gate('ned') ?? createGate();
    this.#external =
      external &&
      new External(external, {
        env,
        ipc: this.#ipc,
        channels: this.#channels,
        tasks: this.#tasks,
        script: this.#state,
        isProgram: (name) => this.#programs.includes(name),
        taskGone: (task) => this.#taskGone(task),
        evaluate: (launch, task, signal) => evaluator.evaluate(launch, task, signal),
        say: (text) => this.#log.say(text),
      });
  }

  /** Runs to the end of ned's life; its exit status. */
  async run(): Promise<number> {
    const gate = await this.#ipc.serve(this.#ownEnd, (unbound) => {
      // Components of an earlier life have capabilities already.
      if (this.#external) unbound.awaitObjects(this.#loaded);
    });
    // Nothing stands behind the gate itself but Meta: it takes taskGone for all objects.
    gate.setRoot([]);
    this.#gate = gate;
    const rom = new Rom(
      (this.#env.environment.get('L4LAB_ROM') ?? '').split(':').filter(Boolean),
      this.#programs,
      this.#fixedId,
    );
    const lab = this.#env.serverEnds.get('lab');
    if (lab) {
      const waits = () => this.#rehearsal?.waits ?? false;
      (await this.#ipc.serve(lab)).setRoot([bind(Lab, labHandlers(this.#tasks, this.#state, waits))]);
    }

    this.#log.say('Ned says: Hi World!');
    for (const message of this.#options.messages) this.#log.complain(message);
    const status = new Promise<number>((resolve) => {
      this.#finish = resolve;
    });
    const script = this.#makeScript(gate, rom);
    this.#script = script;
    await this.#external?.serve(this.#memAlloc as Capability);
    this.#thread.serve((name, args) => script.perform(name, args), toHostError);
    this.#watchThread();
    // Ctrl-C may have come while we were being loaded.
    if (this.#env.signal.aborted) this.#finish(0);
    this.#env.signal.addEventListener('abort', () => this.#finish(0), { once: true });
    try {
      return await status;
    } finally {
      this.#sweeper.close();
      this.#tasks.close();
      // Components that others have started go on without us.
      await Promise.all([this.#thread.terminate(), this.#external?.leave() ?? this.#tasks.stop()]);
      this.#ipc.close();
    }
  }

  #makeScript(gate: Gate, rom: Rom): Script {
    const { caps } = this.#env;
    this.#memAlloc = serveFactory({
      gate,
      ipc: this.#ipc,
      references: this.#references,
      memories: this.#env.memories,
      arena: this.#env.arena,
      tags: this.#tags,
      iommu: caps.get('iommu'),
      newId: (holder) => (holder === this.#env.task ? this.#countedId('object') : undefined),
      rootId: this.#fixedId('mem_alloc'),
    });
    const plain = () => gate.export([], { id: this.#countedId('own') });
    if (this.#external?.rehearses) {
      const [channels, references] = [this.#channels, this.#references];
      this.#rehearsal = new Rehearsal({ channels, references, newObject: plain });
    }
    const log = plain();
    this.#tags.set(log, this.#log.style);
    const env = new Map<string, Capability>([
      ['parent', plain()],
      ['mem_alloc', this.#memAlloc],
      ['mem', this.#memAlloc],
      ['rm', plain()],
      ['log', log],
      ['factory', plain()],
      ['scheduler', plain()],
      ['rom', rom.serve(gate)],
      ...caps,
    ]);
    return new Script({
      ipc: this.#ipc,
      channels: this.#channels,
      references: this.#references,
      tasks: this.#tasks,
      starter: this.#external?.launches ?? this.#tasks,
      lateFunctions: this.#external !== undefined,
      restarts: this.#restarts,
      newGate: () => this.#newGate(),
      tags: this.#tags,
      log: this.#log,
      files: new ScriptFiles(this.#ipc, env, rom, () => process.stdin),
      commands: this.#commands,
      env,
      arch: ARCH[arch()] ?? arch(),
      nextEvent: () => this.#nextEvent(),
      onServe: () => this.#setState('serving'),
      onScriptEnded: (failure) => this.#onScriptEnded(failure),
      rehearsal: this.#rehearsal,
    });
  }

  #setState(state: ScriptState['state'], error = ''): void {
    if (this.#state.state === 'failed') return;
    if (this.#state.state === 'loading') this.#reportUnusedRestarts();
    this.#state.state = state;
    this.#state.error = error;
    this.#env.health?.set('script', state === 'failed' ? `the script failed: ${error}` : undefined);
    this.#tasks.changed();
    if (state === 'loading') return;
    this.#tellLoaded();
    void this.#external?.launches.settle();
  }

  /** The number of an object of ned's gate that stays the same when a broker is started again. */
  readonly #fixedId = (purpose: string): number | undefined => this.#external?.secret.object(purpose);

  /** The same for the n-th object or gate that the script makes, which makes them in the same order each time. */
  readonly #counts = new Map<string, number>();

  #count(kind: string): string | undefined {
    if (!this.#external || this.#state.state !== 'loading') return undefined;
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    return `${kind} ${count}`;
  }

  #countedId(kind: string): number | undefined {
    const purpose = this.#count(kind);
    return purpose === undefined ? undefined : this.#fixedId(purpose);
  }

  #newGate(): ServerEnd {
    // What components hold is not known as well as what processes do.
    if (!this.#external)
      for (const gate of this.#channels.forgetOldest(() => this.#gatesInUse())) this.#ipc.forget(gate);
    const purpose = this.#count('channel');
    if (purpose === undefined || !this.#external) return createGate();
    const end = this.#external.secret.gate(purpose);
    this.#external.onChannel(end);
    return end;
  }

  /** Gates with objects that the script, a namespace or a running task has. */
  #gatesInUse(): Set<string> {
    const capabilities = this.#tasks.all.flatMap((task) => (task.running ? task.capabilities : []));
    const given = capabilities.map(({ client, server }) => (server ?? client)?.gate ?? '');
    return new Set([...this.#references.gates, ...given]);
  }

  #onScriptEnded(failure: string | undefined): void {
    if (failure === undefined) this.#setState('serving');
    else this.#setState('failed', failure);
    if (this.#options.after === 'exit') this.#finish(failure === undefined ? 0 : 1);
  }

  #reportUnusedRestarts(): void {
    for (const name of this.#restarts.unused) {
      const task = this.#tasks.find(name);
      const why = task
        ? `as another task, which has started '${name}', decides itself`
        : `as the script has started no task of that name so far; its tasks: ${this.#tasks.all.map((other) => other.name).join(', ') || 'none'}`;
      this.#log.warn(`--restart ${name} has no effect ${why}`);
    }
  }

  /** The interpreter asks for work; with nothing left to do or to wait for, ned ends. */
  #nextEvent(): Promise<LuaValue> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve(event());
    this.#endIfIdle();
    return new Promise((resolve) => {
      this.#wake = (next) => resolve(next());
    });
  }

  /** Puts an event into the script's server loop; it is made when the script takes it. */
  #post(event: () => LuaValue): void {
    const wake = this.#wake;
    this.#wake = undefined;
    if (wake) wake(event);
    else this.#events.push(event);
  }

  #endIfIdle(): void {
    if (this.#tasks.busy) return;
    const failed = this.#state.state === 'failed';
    if (failed || this.#options.after === 'wait-and-exit') this.#finish(failed ? 1 : 0);
  }

  #onTaskEnded(task: Task, delayMs: number | undefined): void {
    this.#reportEnd(task, delayMs);
    if (this.#external) this.#external.launches.restartChildrenOf(task);
    else {
      this.#tasks.endChildrenOf(task);
      this.#sweeper.soon();
    }
    if (delayMs !== undefined) return;
    const { id, exitCode: code } = task;
    this.#post(() => ({ kind: 'exit', task: id, code, again: this.#external !== undefined }));
  }

  #reportEnd(task: Task, delayMs: number | undefined): void {
    const { epitaph, restarts } = task;
    if (delayMs !== undefined) {
      const policy = restarts?.policy;
      this.#log.complain(`Ned: ${epitaph}; it is started again in ${delayMs} ms (restart "${policy}")`);
      return;
    }
    if (task.killed || (task.exitCode === 0 && !restarts?.givenUp)) return;
    const verdict = restarts?.givenUp ? `; ${restarts.verdict}` : '';
    const losses = lossText(this.#channels.lossesOf(task, this.#tasks.all), this.#external !== undefined);
    this.#log.complain(`Ned: ${epitaph}${verdict}${losses}`);
  }

  #watchThread(): void {
    this.#thread.ended.catch((err: unknown) => {
      this.#log.complain(
        `FATAL: Exception: the script interpreter died: ${err instanceof Error ? err.message : String(err)}.`,
      );
      this.#finish(1);
    });
  }

  #parentFor(task: Task): { capability: Capability; close(): void } {
    const gate = this.#gate as Gate;
    const memAlloc = this.#memAlloc as Capability;
    const starter = this.#external?.launches ?? this.#tasks;
    const handlers = parentHandlers(this.#tasks, starter, task, memAlloc, this.#stillHolds);
    const capability = gate.export([bind(Parent, handlers)], { id: this.#fixedId(`parent ${task.id}`) });
    return { capability, close: () => gate.destroy(capability) };
  }

  /** What a server may believe that was away when tasks ended and references went. */
  readonly #stillHolds: StillHolds = (gate, object, holder) => {
    if (holder === this.#env.task) return this.#references.has({ gate, object });
    return this.#tasks.all.some((task) => task.id === holder && task.running && !task.paused);
  };

  async #taskGone({ id }: Pick<Task, 'id'>): Promise<void> {
    const gates = [rootCapability(this.#ownEnd), ...this.#env.caps.values()];
    for (const { end } of this.#channels) gates.push(rootCapability(end));
    const bound = gates.filter(({ gate }) => this.#channels.isServed(gate));
    const options = { deadlineMs: TASK_GONE_MS };
    await Promise.allSettled(bound.map((cap) => this.#ipc.client(Meta, cap).taskGone({ task: id }, options)));
  }
}

/** Who goes on without the objects of a server that has ended; empty when nobody does. Others may start it again. */
function lossText(losses: readonly string[], mayComeBack: boolean): string {
  if (losses.length === 0) return '';
  const whom = losses.join(', ');
  return mayComeBack
    ? `; until it is started again what it served is missing to ${whom}`
    : `; what it served is lost to ${whom}`;
}

/** The launcher of an external lab gives its secret and the machine's command line. */
function externalOptions({ environment }: TaskEnv): ExternalOptions | undefined {
  const secret = environment.get('L4LAB_SECRET');
  if (secret === undefined) return undefined;
  const machine = JSON.parse(environment.get('L4LAB_MACHINE') ?? '[]') as string[];
  const rehearses = environment.has('L4LAB_REHEARSAL');
  return { secret: new LabSecret(secret), machineArguments: machine, rehearses };
}

/** Raw output for `l4lab run --raw TASK`; a person's terminal for ned-prompt. */
function streamsOf(task: Task): StartOptions {
  const { L4LAB_RAW_TASK, L4LAB_RAW_FD } = process.env;
  const rawStdout = L4LAB_RAW_TASK === task.name && L4LAB_RAW_FD ? Number(L4LAB_RAW_FD) : undefined;
  if (basename(task.argv[0] ?? '') !== 'ned-prompt') return { rawStdout };
  const console = consoleDescriptor(process.env);
  return { rawStdout, console, inheritStdin: true };
}
