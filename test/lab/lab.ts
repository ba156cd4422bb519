/**
 * A lab in a container, for integration tests of whatever talks to it:
 *
 *     await using lab = await startLab({ script: 'net.cfg', expose: ['10.0.2.15:80'] });
 *     const { host, port } = lab.address('10.0.2.15:80');
 *
 * One container runs `l4lab run` with the script, without any privilege. README.md beside this file.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ContainerRuntimeClient,
  GenericContainer,
  getContainerRuntimeClient,
  ImageName,
  type StartedTestContainer,
  type WaitStrategy,
} from 'testcontainers';
import { INBOUND } from '#common/capture/pcapng';
import { PcapngReader } from '#common/capture/reader';
import { fileOf } from './archive.ts';
import { commandOf, filesOf, type LabOptions, MODE, portOf, WIRE } from './options.ts';
import { Records, type TaskEnd, WaitError } from './records.ts';

const DEFAULT_IMAGE = 'l4lab';
const START_MS = 60_000;
const WAIT_MS = 30_000;
/** A lab ends within a second; one on a machine that is busy with other things must not be killed. */
const STOP_MS = 30_000;

/** What a lab prints tells whether it runs: testcontainers, which would remove what it waits for in vain, need not know. */
const AT_ONCE: WaitStrategy = {
  waitUntilReady: async () => {},
  withStartupTimeout: () => AT_ONCE,
  isStartupTimeoutSet: () => true,
  getStartupTimeout: () => START_MS,
};

/** Where the test reaches a port of the lab. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A guest on the lab's user network. */
export interface Guest {
  readonly mac: string;
  /** The IPv4 address that it has leased. */
  readonly address: string;
}

/** A port of one of the lab's switches. */
export interface Port {
  /** Task of the switch. */
  readonly switch: string;
  readonly number: number;
  readonly name: string;
  /** `port`, `monitor`, `mirror`, `nic` or `vxlan`. */
  readonly kind: string;
  readonly mac: string | null;
  /** `native`, `access 7`, `trunk 1,2`, `trunk all`. */
  readonly vlan: string;
  /** The IPv4 address that its client has leased on a user network; null: none, or a static one. */
  readonly address: string | null;
}

/** A task of the lab as `l4lab ps --json` tells it. */
export interface Task {
  readonly name: string;
  readonly state: string;
  readonly exitCode: number;
}

/** What is used of `l4lab ps --json` and `l4lab stats --json`. */
interface LabView {
  readonly problem?: string;
  readonly tasks: Task[];
  readonly nics: readonly { readonly leases: Guest[] }[];
}
interface SwitchView {
  readonly switch: string;
  readonly ports: readonly Omit<Port, 'switch' | 'address'>[];
}

/** A frame on the cable of the first NIC. */
export interface WireFrame {
  readonly timeNs: bigint;
  /** Towards the NIC, that is, into the lab. */
  readonly inbound: boolean;
  readonly bytes: Uint8Array;
}

/** Keeps the id of what could not be started to the end: nobody else removes it. */
class LabContainer extends GenericContainer {
  id: string | undefined;

  protected override async containerCreated(id: string): Promise<void> {
    this.id = id;
  }
}

/**
 * Starts the lab. Throws, with what the lab has printed, when it ends or `ready` does not come in time; with a hint when
 * there is no engine or no image.
 */
export async function startLab(options: LabOptions): Promise<Lab> {
  const image = options.image ?? process.env.L4LAB_IMAGE ?? DEFAULT_IMAGE;
  const files = filesOf(options);
  const command = commandOf(options);
  await engineWith(image);
  const records = new Records();
  const container = new LabContainer(image);
  container
    .withCommand(command)
    .withCopyFilesToContainer(
      files.flatMap(({ source, target }) => (source ? [{ source, target, mode: MODE }] : [])),
    )
    .withCopyContentToContainer(
      files.flatMap(({ content, target }) =>
        content === undefined ? [] : [{ content, target, mode: MODE }],
      ),
    )
    .withTmpFs({ '/run/l4lab': 'rw,size=256m,mode=1777' })
    .withDroppedCapabilities('ALL')
    .withSecurityOpt('no-new-privileges:true')
    .withExtraHosts([{ host: 'host.docker.internal', ipAddress: 'host-gateway' }])
    .withLogConsumer((stream) => records.follow(stream))
    .withWaitStrategy(AT_ONCE);
  if (options.network) container.withNetworkMode(options.network.getName());
  const ports = (options.expose ?? []).map((_, n) => portOf(n));
  if (ports.length > 0) container.withExposedPorts(...ports);
  try {
    const lab = new Lab(await container.start(), records, options);
    const { ready, timeoutMs = START_MS } = options;
    if (ready !== undefined) await lab.printed(ready, { timeoutMs });
    else await records.first(({ event }) => event, 'the start of ned', timeoutMs);
    return lab;
  } catch (err) {
    const why = err instanceof WaitError ? err.why : (err as Error).message;
    const { ended, output } = await lastWords(container.id).catch((problem: Error) => ({
      ended: undefined,
      output: problem.message,
    }));
    throw new Error(`Cannot start a lab: ${ended ?? why}\n${output}`, { cause: err });
  }
}

/** Ends and removes the container of a lab that cannot be used; returns how it had ended, if it had, and what it has printed. */
async function lastWords(id: string | undefined): Promise<{ ended: string | undefined; output: string }> {
  if (id === undefined) return { ended: undefined, output: '' };
  const { container: engine } = await getContainerRuntimeClient();
  const container = engine.getById(id);
  const { State } = await engine.inspect(container);
  await engine.stop(container, { timeout: 0 });
  const records = new Records();
  records.follow(await engine.logs(container));
  await records.ended;
  await engine.remove(container, { removeVolumes: true });
  const ended = State.Status === 'exited' ? `it has ended with status ${State.ExitCode}` : undefined;
  return { ended, output: records.dump() };
}

export class Lab implements AsyncDisposable {
  /** For whatever the lab does not offer by itself. */
  readonly container: StartedTestContainer;
  readonly #records: Records;
  readonly #options: LabOptions;
  #stopping: Promise<void> | undefined;
  #wire: Buffer | undefined;

  /** Use `startLab`. */
  constructor(container: StartedTestContainer, records: Records, options: LabOptions) {
    this.container = container;
    this.#records = records;
    this.#options = options;
  }

  /** What the task, or every task, has printed so far. */
  output(task?: string): string {
    return this.#records.text(task);
  }

  /** Resolves when a line of the task (default: any) has the text or matches; returns the line. */
  async printed(
    text: string | RegExp,
    { task, timeoutMs = WAIT_MS }: { readonly task?: string; readonly timeoutMs?: number } = {},
  ): Promise<string> {
    const has = (line: string) => (typeof text === 'string' ? line.includes(text) : line.search(text) >= 0);
    const pick = (record: { event?: unknown; task: string; text: string }) =>
      !record.event && (task ?? record.task) === record.task && has(record.text) ? record.text : undefined;
    return this.#records.first(pick, `${text} from ${task ?? 'any task'}`, timeoutMs);
  }

  /** Resolves with the exit status when the task has ended. */
  async ended(task: string, { timeoutMs = WAIT_MS }: { readonly timeoutMs?: number } = {}): Promise<TaskEnd> {
    const end = await this.#records.first(
      (record) => (record.task === task && record.event?.kind === 'end' ? record.event : undefined),
      `the end of task '${task}'`,
      timeoutMs,
    );
    return { status: end.status };
  }

  /** Where the test reaches a port of `expose`. Throws for any other. */
  address(exposed: string): Address {
    const n = (this.#options.expose ?? []).indexOf(exposed);
    if (n < 0) throw new Error(`Cannot reach ${exposed} as it is not in \`expose\` of the lab's options`);
    return { host: this.container.getHost(), port: this.container.getMappedPort(portOf(n)) };
  }

  /** The lab's tasks. */
  async tasks(): Promise<Task[]> {
    return (await this.#view()).tasks;
  }

  /** The ports of the lab's switches. */
  async ports(): Promise<Port[]> {
    const [{ switches }, guests] = await Promise.all([
      this.#ask<{ switches: SwitchView[] }>('stats', '--json', '--interval', '0'),
      this.guests(),
    ]);
    const leased = new Map(guests.map(({ mac, address }) => [mac, address]));
    return switches.flatMap(({ switch: task, ports }) =>
      ports.map(({ number, name, kind, mac, vlan }) => ({
        switch: task,
        number,
        name,
        kind,
        mac,
        vlan,
        address: leased.get(mac ?? '') ?? null,
      })),
    );
  }

  /** Who has leased an address on the lab's user networks. */
  async guests(): Promise<Guest[]> {
    return (await this.#view()).nics.flatMap(({ leases }) => leases);
  }

  /** What was recorded so far (`record: true`): a pcapng file, complete after `stop`. */
  async wire(): Promise<Buffer> {
    if (this.#wire) return this.#wire;
    if (!this.#options.record)
      throw new Error('Cannot read the wire of the lab as it was started without `record: true`');
    return fileOf(await this.container.copyArchiveFromContainer(WIRE));
  }

  /** The frames recorded so far. */
  async frames(): Promise<WireFrame[]> {
    // The last block may be half written.
    const packets = new PcapngReader().push(await this.wire());
    return packets.map(({ timeNs, direction, bytes }) => ({ timeNs, inbound: direction === INBOUND, bytes }));
  }

  /** Writes what was recorded to a file, for Wireshark. */
  async saveWire(path: string): Promise<void> {
    await writeFile(path, await this.wire());
  }

  /** Ends the lab in order and removes its container; output and recording stay readable. May be called again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(): Promise<void> {
    try {
      const { container } = await getContainerRuntimeClient();
      await container.stop(container.getById(this.container.getId()), { timeout: STOP_MS });
      // What it has printed is all here when its end is; an engine that forgets to tell it holds up nobody.
      await Promise.race([this.#records.ended, sleep(STOP_MS, undefined, { ref: false })]);
      if (this.#options.record) this.#wire = await this.wire();
    } finally {
      await this.container.stop({ remove: true, removeVolumes: true });
    }
  }

  async #view(): Promise<LabView> {
    const [lab] = await this.#ask<[LabView?]>('ps', '--json');
    if (!lab || lab.problem) throw new Error(`Cannot ask the lab as ${lab?.problem ?? 'it has ended'}`);
    return lab;
  }

  /** What an `l4lab` command inside the container prints. */
  async #ask<T>(...words: string[]): Promise<T> {
    const { stdout, stderr, exitCode } = await this.container.exec(['l4lab', ...words]);
    // -1: an engine that is busy tells the output before it knows of the end.
    if (exitCode > 0 || stdout === '')
      throw new Error(`Cannot ask the lab as "l4lab ${words.join(' ')}" ended with ${exitCode}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }
}

/** The engine. Throws, with what a user can do about it, when there is none or it lacks the image. */
async function engineWith(image: string): Promise<ContainerRuntimeClient> {
  const engine = await getContainerRuntimeClient().catch((cause: Error) => {
    throw new Error(
      'Cannot start a lab as no container engine answers: is Docker running, and may you use it (docker info)?',
      { cause },
    );
  });
  if (await engine.image.exists(ImageName.fromString(image))) return engine;
  throw new Error(
    `Cannot start a lab as there is no image "${image}": make it in l4lab's checkout with docker build -t l4lab -f deploy/docker/Dockerfile .`,
  );
}
