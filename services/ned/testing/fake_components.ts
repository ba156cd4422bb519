/** A broker with its real interpreter and gates, and components that are functions of the test. */
import { LabSecret } from '#common/broker/secret';
import type { Capability, ServerEnd } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import type { Client } from '#common/ipc/service';
import { Lifeline } from '#common/shm/lifeline';
import { randomName } from '#common/shm/run_dir';
import { VERSION } from '#common/version';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { Broker } from '../../../proto/gen/services.js';
import { FakeLab } from './fake_lab.ts';

export const SECRET = 'a secret for tests only';

/** One component: what `l4lab component` is, without a process. */
export class FakeComponent {
  readonly instance = randomName();
  readonly record: Promise<m.LaunchRecord>;
  readonly broker: Client<typeof Broker>;
  readonly #lifeline: Lifeline;
  readonly #ipc: Ipc;
  #own: Ipc | undefined;
  #alive = true;

  constructor(runDir: string, task: string) {
    this.#lifeline = new Lifeline(runDir, this.instance);
    this.#ipc = new Ipc({ runDir, task: randomName() });
    this.broker = this.#ipc.client(Broker, new LabSecret(SECRET).brokerCapability);
    this.record = this.broker.fetch({
      task,
      instance: this.instance,
      version: VERSION,
      host: 'test',
      pid: 1,
    });
    this.record.catch(() => {});
    this.runDir = runDir;
  }

  readonly runDir: string;

  /** Calls and gates of the task itself. */
  async ipc(): Promise<Ipc> {
    this.#own ??= new Ipc({ runDir: this.runDir, task: (await this.record).task });
    return this.#own;
  }

  async client(name: string): Promise<Capability> {
    return (await this.record).capabilities.find((cap) => cap.name === name)?.client as Capability;
  }

  async server(name: string): Promise<ServerEnd> {
    return (await this.record).capabilities.find((cap) => cap.name === name)?.server as ServerEnd;
  }

  /** Tells its end, then is gone. */
  async end(status: number): Promise<void> {
    await this.broker.ended({ instance: this.instance, status });
    this.die();
  }

  /** As SIGKILL ends it. */
  die(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#own?.close();
    this.#ipc.close();
    this.#lifeline.close();
  }
}

export class FakeExternalLab extends FakeLab {
  readonly #components: FakeComponent[] = [];

  constructor(files: Record<string, string>, ...words: string[]) {
    super(files, {}, ...words);
  }

  protected override variables(): [string, string][] {
    return [
      ['L4LAB_SECRET', SECRET],
      ['L4LAB_MACHINE', '["--nic","none"]'],
    ];
  }

  component(task: string): FakeComponent {
    const component = new FakeComponent(this.runDir, task);
    this.#components.push(component);
    return component;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    for (const component of this.#components) component.die();
    await super[Symbol.asyncDispose]();
  }
}
