/** The switches of a running lab, as commands reach them (services/l4vio_switch, proto/switch_control.proto). */
import { findPublished, type Published } from '#common/control/publication';
import { L4_ERRNO, toL4Error } from '#common/ipc/errors';
import { Ipc } from '#common/ipc/ipc';
import type { CallOptions, Client } from '#common/ipc/service';
import { randomName } from '#common/shm/run_dir';
import { SwitchControl } from '../../proto/gen/services.js';
import { UsageError } from './problem.ts';
import type { LabRecord } from './registry.ts';

/** A switch that lives answers at once; with the start of this program that makes less than two seconds. */
const ANSWER_MS = 1500;
/** How long a program may take to be started. */
const START_MS = 10_000;

export const ANSWER: CallOptions = { deadlineMs: ANSWER_MS };
export const START: CallOptions = { deadlineMs: START_MS };

export class SwitchClient {
  readonly name: string;
  readonly lab: LabRecord;
  readonly #published: Published;
  readonly #ipc: Ipc;
  readonly #control: Client<typeof SwitchControl>;

  constructor(ipc: Ipc, lab: LabRecord, published: Published) {
    this.name = published.name;
    this.lab = lab;
    this.#published = published;
    this.#ipc = ipc;
    this.#control = ipc.client(SwitchControl, published.capability);
  }

  /** Calls the switch. Throws UsageError when it does not answer; its own refusals stay as they are. */
  async ask<T>(call: (control: Client<typeof SwitchControl>) => Promise<T>): Promise<T> {
    try {
      return await call(this.#control);
    } catch (err) {
      const { errno, code } = toL4Error(err);
      const who = `switch '${this.name}' of lab ${this.lab.id}`;
      if (errno === L4_ERRNO.EIPC_RECV_TIMEOUT) {
        throw new UsageError(
          `Cannot ask ${who} as it did not answer in time: is its process stopped or overloaded? l4lab ps shows it`,
        );
      }
      if (code === 'IPC_SERVER_DIED')
        throw new UsageError(`Cannot ask ${who} as it has ended: see l4lab logs`);
      throw err;
    }
  }

  /** Resolves when the switch, which has been called before, goes away. */
  whenGone(): Promise<void> {
    return this.#ipc.whenGone(this.#published.capability);
  }
}

/** The switches of a lab for as long as `use` takes; with `wanted`, the one of that task. Throws UsageError when there is none. */
export async function withSwitches<T>(
  lab: LabRecord,
  wanted: string | undefined,
  use: (switches: readonly SwitchClient[]) => Promise<T>,
): Promise<T> {
  const ipc = newIpc(lab);
  try {
    return await use(switchesOf(ipc, lab, wanted));
  } finally {
    ipc.close();
  }
}

export function newIpc(lab: LabRecord): Ipc {
  return new Ipc({ runDir: lab.dir, task: randomName(), nameOf: () => 'the switch' });
}

export function switchesOf(ipc: Ipc, lab: LabRecord, wanted: string | undefined): readonly SwitchClient[] {
  const found = findPublished(lab.dir, 'switch');
  if (found.length === 0) {
    throw new UsageError(
      `Cannot find a switch in lab ${lab.id} (${lab.command.join(' ')}) as no running task of it is one: l4lab ps shows its tasks`,
    );
  }
  const chosen = wanted === undefined ? found : found.filter(({ name }) => name === wanted);
  if (chosen.length === 0) {
    const names = found.map(({ name }) => name).join(', ');
    throw new UsageError(`Cannot find switch '${wanted}' in lab ${lab.id}: its switches are ${names}`);
  }
  return chosen.map((published) => new SwitchClient(ipc, lab, published));
}

/** The one switch of several that has all these ports, by name or number. Throws UsageError when that is not clear. */
export async function switchWithPorts(
  switches: readonly SwitchClient[],
  ports: readonly string[],
): Promise<SwitchClient> {
  const [first] = switches;
  if (switches.length === 1 && first) return first;
  const views = await Promise.all(switches.map((one) => one.ask((control) => control.stats({}, ANSWER))));
  const having = switches.filter((_, n) =>
    ports.every((port) =>
      views[n]?.ports.some(({ name, number }) => name === port || String(number) === port),
    ),
  );
  const [only] = having;
  if (having.length === 1 && only) return only;
  const list = switches
    .map(({ name }, n) => `${name} (${views[n]?.ports.map((port) => `'${port.name}'`).join(', ')})`)
    .join(', ');
  const problem = having.length === 0 ? 'no switch has' : 'several switches have';
  const what = ports.map((port) => `'${port}'`).join(', ');
  throw new UsageError(
    `Cannot find the ports ${what} as ${problem} them: name the switch with --switch. There are ${list}`,
  );
}
