/** ned as a broker: the parts that external loading adds to it. */
import type { LabSecret } from '#common/broker/secret';
import { type Capability, rootCapability, type ServerEnd } from '#common/ipc/capability';
import type { Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import type { TaskEnv } from '#common/task/env';
import { Broker, Meta } from '../../../proto/gen/services.js';
import type { Channels } from '../channels.ts';
import type { NamedCapabilities } from '../named_capabilities.ts';
import type { ScriptState } from '../parent.ts';
import type { Task } from '../task.ts';
import type { Tasks } from '../tasks.ts';
import { brokerHandlers } from './broker_service.ts';
import { Launches } from './launches.ts';

export interface ExternalOptions {
  readonly secret: LabSecret;
  /** Command line of the task `machine`: --nic, --host, --guest-forward. */
  readonly machineArguments: readonly string[];
  /** The script is only read: nobody will become its tasks. */
  readonly rehearses?: boolean;
}

export interface ExternalContext {
  readonly env: TaskEnv;
  readonly ipc: Ipc;
  readonly channels: Channels;
  readonly tasks: Tasks;
  readonly script: ScriptState;
  readonly isProgram: (name: string) => boolean;
  readonly taskGone: (task: Pick<Task, 'id'>) => Promise<void>;
  /** Evaluates the functions of a launch for one start of it. */
  readonly evaluate: (launch: Task, task: Task, signal: AbortSignal) => Promise<NamedCapabilities>;
  readonly say: (text: string) => void;
}

/** Gates of the machine, by the names that it and L4.Env know them by. */
export const MACHINE_GATES = ['sigma0', 'icu', 'iommu', 'control'] as const;
const MACHINE_COLOR = 7;
const DEFAULT_DEBUG = 2;

const LET_GO_MS = 1000;

export class External {
  readonly secret: LabSecret;
  readonly launches: Launches;
  readonly #options: ExternalOptions;
  readonly #context: ExternalContext;

  constructor(options: ExternalOptions, context: ExternalContext) {
    const { env, channels, tasks, script, isProgram, taskGone, say, evaluate } = context;
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
      evaluate,
      introduce: (capabilities, task) => channels.introduce(task, capabilities),
    });
  }

  get rehearses(): boolean {
    return this.#options.rehearses ?? false;
  }

  /** Finds running components again, records the machine, and opens the broker's gate. */
  async serve(memAlloc: Capability): Promise<void> {
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
}
