/** ned as a broker: the parts that external loading adds to it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabSecret } from '#common/broker/secret';
import { type Capability, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { Broker, Meta } from '../../../proto/gen/services.js';
import type { Channels } from '../channels.ts';
import type { LuaValue } from '../engine/marshal.ts';
import type { ScriptState } from '../parent.ts';
import type { NamedCapabilities, Script } from '../script.ts';
import type { Task, Tasks } from '../tasks.ts';
import { brokerHandlers } from './broker_service.ts';
import { Launches } from './launches.ts';

export interface ExternalOptions {
  readonly secret: LabSecret;
  /** Command line of the task `machine`: --nic, --host, --guest-forward. */
  readonly machineArguments: readonly string[];
}

export interface ExternalContext {
  readonly env: TaskEnv;
  readonly ipc: Ipc;
  readonly channels: Channels;
  readonly tasks: Tasks;
  readonly script: ScriptState;
  readonly isProgram: (name: string) => boolean;
  readonly taskGone: (task: Pick<Task, 'id'>) => Promise<void>;
  /** Puts an event into the script's server loop. */
  readonly post: (event: () => LuaValue) => void;
  readonly say: (text: string) => void;
}

/** Gates of the machine, by the names that it and L4.Env know them by. */
export const MACHINE_GATES = ['sigma0', 'icu', 'iommu', 'control'] as const;
const MACHINE_COLOR = 7;
const DEFAULT_DEBUG = 2;

const TRY_AGAIN_MS = 50;
const SAY_WAITING_MS = 1000;
const LET_GO_MS = 1000;

export class External {
  readonly secret: LabSecret;
  readonly launches: Launches;
  readonly #options: ExternalOptions;
  readonly #context: ExternalContext;
  #script: Script | undefined;
  /** One evaluation at a time: the interpreter does one thing after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ExternalOptions, context: ExternalContext) {
    const { env, channels, tasks, script, isProgram, taskGone, say } = context;
    this.#options = options;
    this.#context = context;
    this.secret = options.secret;
    this.launches = new Launches({
      runDir: env.runDir,
      tasks,
      script,
      isProgram,
      taskGone,
      say,
      evaluate: (launch, task, signal) => this.#evaluate(launch, task, signal),
      introduce: (capabilities, task) => {
        for (const { name, client, server } of capabilities) {
          if (server?.gate) channels.addServer(server.gate, task);
          else if (client?.gate && !client.object) channels.addClient(client.gate, task, name ?? '');
        }
      },
    });
  }

  /** Finds running components again, records the machine, and opens the broker's gate. */
  async serve(script: Script, memAlloc: Capability): Promise<void> {
    this.#script = script;
    const { ipc, script: state, tasks } = this.#context;
    this.launches.resume();
    await this.#startMachine(memAlloc);
    const gate = await ipc.serve(this.secret.broker);
    gate.setRoot([bind(Broker, brokerHandlers(this.launches, state, ipc))]);
    tasks.changed();
  }

  /** A gate that the script has made: an earlier life of ned may hold objects behind it. */
  onChannel({ gate, secret }: ServerEnd): void {
    const { channels, env, ipc } = this.#context;
    if (!channels.isServed(gate)) return;
    const root = rootCapability({ gate, secret });
    void ipc
      .client(Meta, root)
      .taskGone({ task: env.task }, { deadlineMs: LET_GO_MS })
      .catch(() => {});
  }

  leave(): Promise<void> {
    this.launches.leave();
    return Promise.resolve();
  }

  async #startMachine(memAlloc: Capability): Promise<void> {
    const ends = MACHINE_GATES.map((name) => ({ name, server: this.secret.gate(name) }));
    for (const { name, server } of ends) this.#context.channels.add(server, '').name = name;
    await this.launches.start({
      argv: ['machine', ...this.#options.machineArguments],
      program: 'machine',
      environment: {},
      capabilities: ends,
      tag: 'machine',
      color: MACHINE_COLOR,
      memAlloc,
      debug: DEFAULT_DEBUG,
    });
  }

  /** Evaluates the functions of a launch; as long as a server that they need is not there, again and again. */
  async #evaluate(launch: Task, task: Task, signal: AbortSignal): Promise<NamedCapabilities> {
    const giveUpSaying = Date.now() + SAY_WAITING_MS;
    let said = false;
    for (;;) {
      const result = await this.#inTurn(() => this.#evaluateOnce(launch, task));
      if (!(result instanceof Error)) return result;
      if (toL4Error(result).code !== 'NED_NOT_YET') throw functionFailed(task, result);
      if (signal.aborted) throw new L4Error('EIPC_CANCELED', `Starting '${task.name}' was abandoned`);
      if (!said && Date.now() > giveUpSaying) {
        said = true;
        this.#context.say(`Ned: starting '${task.name}': ${result.message}`);
      }
      await sleep(TRY_AGAIN_MS);
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result;
    return result;
  }

  #evaluateOnce(launch: Task, task: Task): Promise<NamedCapabilities | Error> {
    return new Promise((done) => {
      const script = this.#script as Script;
      // The event is made when the interpreter takes it: until then its operations belong to the script.
      this.#context.post(() => script.evaluate({ launch: launch.id, task: task.id, done }));
    });
  }
}

function functionFailed({ name }: Task, err: Error): L4Error {
  const { errno, message } = toL4Error(err);
  return new L4Error(
    errno,
    `Cannot start '${name}' as a function among its capabilities failed: ${message}`,
    { code: 'NED_FUNCTION_FAILED', cause: err },
  );
}
