/**
 * What the interpreter's operations do: the main thread's half of every function of the L4 module.
 *
 * Lua knows capabilities by numbers (references.ts), tasks by ids. Each operation is one small method; what it
 * throws becomes the error table of the script (l4re-facts.md 1.5).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Capability, narrow, RIGHTS_ALL, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { errnoText, L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Factory, Namespace } from '../../proto/gen/services.js';
import type { ChannelServer, Channels } from './channels.ts';
import type { CommandServer } from './command.ts';
import type { LuaValue } from './engine/marshal.ts';
import type { Rehearsal } from './external/rehearsal.ts';
import { PROTO } from './factory.ts';
import type { LogTags, OwnLog } from './log.ts';
import { baseName, nameOf } from './names.ts';
import type { References } from './references.ts';
import type { RestartChoices } from './restart_choices.ts';
import type { ScriptFiles } from './script_files.ts';
import type { Task, TaskRequest } from './task.ts';
import type { Starter, Tasks } from './tasks.ts';

export interface ScriptContext {
  readonly ipc: Ipc;
  readonly channels: Channels;
  readonly references: References;
  readonly tasks: Tasks;
  readonly starter: Starter;
  /** Functions as capabilities are evaluated at each start of the task, not when the script starts it. */
  readonly lateFunctions: boolean;
  /** What the command line says of restart policies. */
  readonly restarts: RestartChoices;
  /** Makes the server end of a new channel. */
  readonly newGate: () => ServerEnd;
  readonly tags: LogTags;
  readonly log: OwnLog;
  readonly files: ScriptFiles;
  readonly commands: CommandServer;
  /** L4.Env. */
  readonly env: ReadonlyMap<string, Capability>;
  readonly arch: string;
  readonly nextEvent: () => Promise<LuaValue>;
  readonly onServe: () => void;
  readonly onScriptEnded: (failure: string | undefined) => void;
  /** Answers for what the script starts, which does not run; undefined: it does. */
  readonly rehearsal: Rehearsal | undefined;
}

const SAY_WAITING_MS = 1000;

const MAX_DELAY_MS = 2 ** 31 - 1;

/** A function that takes longer than that to create its object does not get it. */
const CREATE_MS = 5000;

export type NamedCapabilities = readonly m.INamedCapability[];

/** Functions of a launch that are being evaluated for a task. */
export interface Evaluation {
  /** The launch, as Lua knows it. */
  readonly launch: string;
  /** Who will hold what the functions create. */
  readonly task: string;
  readonly done: (result: NamedCapabilities | Error) => void;
}

type Args = readonly LuaValue[];

/** What is no UTF-8 gets replacement characters. */
const text = (value: LuaValue): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString() : typeof value === 'string' ? value : '';
const number = (value: LuaValue): number => Number(value ?? 0);
const list = (value: LuaValue): LuaValue[] => (Array.isArray(value) ? value : []);
const fields = (value: LuaValue): { [key: string]: LuaValue } =>
  typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array) ? value : {};

export class Script {
  readonly #context: ScriptContext;
  /** Tasks that Lua has waited for or killed: nothing is left of them but their name. */
  readonly #reaped = new WeakSet<Task>();
  /** Commands or exit handlers can start tasks when the script has ended. */
  #goesOn = false;
  /** Factories like L4.Env.factory that the script made, by their handles. */
  readonly #kernelFactories = new Set<number>();
  #evaluation: Evaluation | undefined;
  /** Why the evaluation cannot succeed now, but may later. */
  #notYet: string | undefined;

  constructor(context: ScriptContext) {
    this.#context = context;
  }

  /** Performs one operation; the values that Lua gets. Throws L4Error. */
  async perform(operation: string, args: Args): Promise<LuaValue[]> {
    const method = this.#operations[operation];
    if (!method) throw new L4Error('ENOSYS', `ned has no operation ${operation}`);
    const result = this.#context.rehearsal?.answer(operation, args) ?? (await method(args));
    return result === undefined ? [] : Array.isArray(result) ? result : [result];
  }

  readonly #operations: Record<string, (args: Args) => LuaValue | Promise<LuaValue>> = {
    info: () => ({
      kip: 'L4 Microkernel interface of l4lab',
      arch: this.#context.arch,
      platform: 'pc',
      late_functions: this.#context.lateFunctions,
    }),
    env: () => {
      const entries = [...this.#context.env].map(([name, cap]): [string, LuaValue] => [
        name,
        this.#handle(cap),
      ]);
      return Object.fromEntries(entries);
    },
    errno_text: ([errno]) => errnoText(number(errno)),
    write: ([fd, data]) => this.#write(number(fd) === 2 ? 'stderr' : 'stdout', data),
    read_file: ([path]) => this.#context.files.read(text(path)),
    read_script: ([path]) =>
      path === undefined ? this.#context.files.readStdin('a') : this.#context.files.readScript(text(path)),
    read_stdin: ([format]) =>
      this.#context.files.readStdin(typeof format === 'string' ? format : number(format)),
    sleep: async ([milliseconds]) => {
      await this.#sleep(number(milliseconds));
      return [];
    },
    release: ([handle]) => {
      this.#kernelFactories.delete(number(handle));
      this.#context.references.drop(number(handle));
      return [];
    },
    interfaces: async ([handle, name, where]) => [
      await this.#interfaces(number(handle), text(name), text(where)),
    ],
    create: (args) => this.#create(args),
    query: async ([handle, name]) => {
      const namespace = this.#context.ipc.client(Namespace, this.#cap(handle));
      const { capability } = await namespace.query({ name: text(name) });
      await this.#context.references.acquire(capability as Capability);
      return this.#context.references.handleFor(capability as Capability);
    },
    register: async ([handle, name, value, rights]) => {
      const namespace = this.#context.ipc.client(Namespace, this.#cap(handle));
      const capability = value === undefined ? null : this.#narrowed(value, rights);
      await namespace.register({ name: text(name), capability });
      return true;
    },
    start: ([request]) => this.#start(fields(request)),
    task_release: ([id]) => {
      this.#context.tasks.release(text(id));
      return [];
    },
    task_state: ([id]) => this.#task(id)?.state,
    task_exit_code: ([id]) => this.#task(id)?.exitCode,
    task_kill: ([id]) => this.#kill(id),
    task_wait: ([id]) => this.#wait(id),
    task_on_exit: ([id]) => {
      this.#goesOn = true;
      const task = this.#context.tasks.find(text(id));
      return [!task?.running, task?.exitCode];
    },
    serve: async ([handle, name]) => {
      if (handle !== undefined) await this.#serveCommands(this.#cap(handle), text(name));
      if (!this.#goesOn) this.#reportOrphans();
      this.#context.onServe();
      return true;
    },
    next_event: () => this.#context.nextEvent(),
    prepared: ([capabilities, failure]) => this.#prepared(list(capabilities), failure),
    command_done: ([id, errno, result]) => {
      this.#context.commands.done(number(id), number(errno), text(result));
      return [];
    },
    loading: ([script]) => {
      this.#context.log.say(`Ned: loading file: '${typeof script === 'string' ? script : '(stdin)'}'`);
      return [];
    },
    script_ended: ([failure]) => {
      this.#context.onScriptEnded(typeof failure === 'string' ? failure : undefined);
      return [];
    },
    loop_ended: () => [],
  };

  /** The event that makes Lua evaluate; everything that it does until `prepared` belongs to it. */
  evaluate(evaluation: Evaluation): LuaValue {
    this.#evaluation = evaluation;
    this.#notYet = undefined;
    return { kind: 'prepare', task: evaluation.launch };
  }

  async #prepared(capabilities: LuaValue[], failure: LuaValue): Promise<LuaValue> {
    const evaluation = this.#evaluation;
    this.#evaluation = undefined;
    if (!evaluation) return [];
    const { task, done } = evaluation;
    try {
      if (typeof failure === 'string') {
        const code = this.#notYet === undefined ? 'NED_FUNCTION_FAILED' : 'NED_NOT_YET';
        throw new L4Error('EINVAL', this.#notYet ?? failure, { code });
      }
      const named = capabilities.map((entry) => this.#named(fields(entry)));
      // Before Lua lets go of them.
      await Promise.all(
        named.map(({ client }) => client && this.#context.references.hold(client as Capability, task)),
      );
      done(named);
    } catch (err) {
      done(toL4Error(err));
    }
    return [];
  }

  /** A function must not block the script for other tasks: without a server it is tried again later. */
  #checkServed({ gate }: Capability): void {
    if (!this.#evaluation || this.#context.channels.isServed(gate)) return;
    this.#notYet = `waiting for a server on ${this.#context.channels.describe(gate) ?? 'a gate'}`;
    throw new L4Error('EAGAIN', this.#notYet, { code: 'NED_NOT_YET' });
  }

  #cap(handle: LuaValue): Capability {
    return this.#context.references.get(number(handle));
  }

  #narrowed(handle: LuaValue, rights: LuaValue): Capability {
    return narrow(this.#cap(handle), number(rights) & RIGHTS_ALL);
  }

  /** Takes over a capability that ned holds already. */
  #handle(cap: Capability): number {
    this.#context.references.adopt(cap);
    return this.#context.references.handleFor(cap);
  }

  /** Any time: a timer of Node takes 24 days at most. */
  async #sleep(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= MAX_DELAY_MS) await sleep(Math.min(left, MAX_DELAY_MS));
  }

  async #write(stream: 'stdout' | 'stderr', data: LuaValue): Promise<LuaValue> {
    await this.#context.log.write(stream, data instanceof Uint8Array ? data : text(data));
    return [];
  }

  /** What an object implements; waits until its server is there, and says after a second what it waits for. */
  async #interfaces(handle: number, name: string, where: string): Promise<string[]> {
    const cap = this.#context.references.get(handle);
    const channel = this.#context.channels.get(cap.gate);
    if (channel && name !== '') channel.name ??= name;
    this.#context.channels.checkReachable(cap.gate);
    this.#checkServed(cap);
    const timer = setTimeout(() => {
      const peer = this.#context.channels.describe(cap.gate) ?? `capability '${name}'`;
      this.#context.log.say(`Ned: ${where === '' ? '' : `${where}: `}waiting for a server on ${peer}`);
      // The server waits for somebody itself whom the script cannot start as long as it is waiting here.
      if (channel) this.#reportOrphans(channel.servers);
    }, SAY_WAITING_MS);
    try {
      return (await this.#context.ipc.interfaces(cap)).services;
    } catch (err) {
      throw this.#context.channels.explain(cap.gate, toL4Error(err));
    } finally {
      clearTimeout(timer);
    }
  }

  #reportOrphans(among?: readonly ChannelServer[]): void {
    for (const sentence of this.#context.channels.buryOrphans(among)) {
      this.#context.log.complain(`Warning: ${sentence}`);
    }
  }

  async #create([handle, proto, args, where]: Args): Promise<LuaValue> {
    const factory = this.#cap(handle);
    const type = number(proto);
    if (sameObject(factory, this.#context.env.get('factory')) || this.#kernelFactories.has(number(handle)))
      return this.#createKernelObject(type, text(where));
    if (type === PROTO.SIGMA0 && sameObject(factory, this.#context.env.get('sigma0')))
      return this.#handle(factory);
    const given = list(args).map((value) => this.#argument(fields(value)));
    const request = { type, arguments: [...given, { nil: true }] };
    this.#checkServed(factory);
    const object = await this.#createAt(factory, request);
    if (!object) throw new L4Error('EIO', 'Cannot use the new object as its server returned none');
    return this.#evaluation ? this.#acquired(object) : this.#handle(object);
  }

  /** What a function creates is held by the task that it is for from the beginning. */
  async #createAt(factory: Capability, request: m.ICreateRequest): Promise<Capability | undefined> {
    const { ipc } = this.#context;
    const options = this.#evaluation ? { task: this.#evaluation.task, deadlineMs: CREATE_MS } : {};
    try {
      const { object } = await ipc.client(Factory, factory).create(request, options);
      return (object ?? undefined) as Capability | undefined;
    } catch (err) {
      const { errno, message } = toL4Error(err);
      if (errno >= L4_ERRNO.EIPC_RECV_TIMEOUT) this.#notYet = message;
      throw err;
    }
  }

  async #acquired(cap: Capability): Promise<LuaValue> {
    await this.#context.references.acquire(cap);
    return this.#context.references.handleFor(cap);
  }

  async #createKernelObject(type: number, site: string): Promise<LuaValue> {
    if (type === PROTO.FACTORY) return this.#createKernelFactory();
    if (type !== PROTO.IPC_GATE) {
      throw new L4Error(
        'ENODEV',
        `Cannot create a kernel object of type ${type} as L4.Env.factory makes channels here (L4.Proto.Ipc_gate) and factories of them; memory, namespaces and logs come from L4.Env.user_factory`,
      );
    }
    const end = this.#context.newGate();
    this.#context.channels.add(end, site);
    return this.#handle(rootCapability(end));
  }

  /** Another one like L4.Env.factory. Its quota of kernel memory limits nothing: there is no such memory. */
  async #createKernelFactory(): Promise<LuaValue> {
    const memAlloc = this.#context.env.get('mem_alloc') as Capability;
    const object = await this.#createAt(memAlloc, { type: PROTO.RM, arguments: [] });
    const handle = this.#handle(object as Capability);
    this.#kernelFactories.add(handle);
    return handle;
  }

  #argument(value: { [key: string]: LuaValue }): m.IFactoryArgument {
    if (value.number !== undefined) return { number: String(value.number) };
    if (value.null === true) return { nil: true };
    if (value.capability !== undefined) return { capability: this.#narrowed(value.capability, value.rights) };
    if (typeof value.text === 'string') return { text: value.text };
    if (value.text instanceof Uint8Array) return { text: Buffer.from(value.text).toString('latin1') };
    return {};
  }

  async #start(request: { [key: string]: LuaValue }): Promise<LuaValue> {
    const capabilities = list(request.capabilities).map((entry) => this.#named(fields(entry)));
    const logCap = this.#cap(request.log);
    const style = this.#context.tags.get(logCap) ?? this.#context.log.style;
    const argv = list(request.argv).map(text);
    const functions = list(request.functions).map(text);
    const launch: TaskRequest = {
      argv,
      environment: Object.fromEntries(
        Object.entries(fields(request.environment))
          .map(([name, value]) => [name, text(value)] as const)
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
      capabilities,
      tag: request.default_tag === true ? undefined : style.tag,
      // With the log of ned itself a task is still a task of its own.
      name: sameObject(logCap, this.#context.env.get('log')) ? baseName(argv[0] ?? '') : undefined,
      color: style.color,
      memAlloc:
        request.mem === undefined
          ? (this.#context.env.get('mem_alloc') as Capability)
          : this.#cap(request.mem),
      debug: number(request.debug),
      functions,
    };
    const restart = this.#context.restarts.of(nameOf(launch), text(request.restart));
    const task = await this.#context.starter.start({ ...launch, restart });
    // A launch lives as long as the lab, and what it gives to its tasks with it.
    if (this.#context.lateFunctions) for (const { client } of capabilities) this.#keep(client);
    // Lua keeps the functions of what can be started again.
    const keep = functions.length > 0 && (this.#context.lateFunctions || task.restarts !== undefined);
    return [task.id, undefined, keep];
  }

  #keep(client: m.ICapability | null | undefined): void {
    if (client) this.#context.references.adopt(client as Capability);
  }

  #named(entry: { [key: string]: LuaValue }): m.INamedCapability {
    const name = text(entry.name);
    const cap = this.#cap(entry.id);
    const channel = cap.object === 0 ? this.#context.channels.get(cap.gate) : undefined;
    if (channel && typeof entry.variable === 'string') channel.name ??= entry.variable;
    if (entry.server !== true) return { name, client: this.#narrowed(entry.id, entry.rights) };
    if (channel) return { name, server: channel.end };
    this.#context.log.complain(
      `Warning: capability '${name}' was given with :svr(), but only a channel of this script has a server end; its client end is passed`,
    );
    return { name, client: cap };
  }

  /** Undefined once it has been waited for or killed. */
  #task(id: LuaValue): Task | undefined {
    const task = this.#context.tasks.find(text(id));
    return task && !this.#reaped.has(task) ? task : undefined;
  }

  #kill(id: LuaValue): LuaValue {
    const task = this.#task(id);
    if (!task) return undefined;
    this.#reaped.add(task);
    if (!task.running) return task.exitCode;
    task.kill();
    return 'killed';
  }

  async #wait(id: LuaValue): Promise<LuaValue> {
    const task = this.#task(id);
    if (!task) return undefined;
    await task.ended;
    this.#reaped.add(task);
    return task.exitCode;
  }

  async #serveCommands(cap: Capability, name: string): Promise<void> {
    const channel = cap.object === 0 ? this.#context.channels.get(cap.gate) : undefined;
    if (!channel)
      throw new L4Error('EINVAL', 'Cannot serve commands as server_loop needs a channel of this script');
    channel.name ??= name || undefined;
    channel.own = true;
    this.#goesOn = true;
    await this.#context.commands.serve(channel.end);
  }
}

function sameObject(a: Capability, b: Capability | undefined): boolean {
  return b !== undefined && a.gate === b.gate && a.object === b.object;
}
