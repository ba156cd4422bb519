/** What a script asks of the objects behind its capabilities: what they implement, names of a namespace. */
import type { Capability } from '#common/ipc/capability';
import { toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { Namespace } from '../../proto/gen/services.js';
import type { Channels } from './channels.ts';
import type { CurrentEvaluation } from './evaluation.ts';
import type { OwnLog } from './log.ts';
import type { References } from './references.ts';

export interface ScriptCapabilitiesContext {
  readonly ipc: Ipc;
  readonly channels: Channels;
  readonly references: References;
  readonly log: OwnLog;
}

const SAY_WAITING_MS = 1000;

export class ScriptCapabilities {
  readonly #context: ScriptCapabilitiesContext;
  readonly #evaluation: CurrentEvaluation;

  constructor(context: ScriptCapabilitiesContext, evaluation: CurrentEvaluation) {
    this.#context = context;
    this.#evaluation = evaluation;
  }

  /**
   * What an object implements; waits until its server is there, and says after a second what it waits for. `name` is
   * the script's variable, `where` the line that asks; both may be empty.
   */
  async interfaces(cap: Capability, name: string, where: string): Promise<string[]> {
    const { channels, ipc, log } = this.#context;
    const channel = channels.get(cap.gate);
    if (channel && name !== '') channel.name ??= name;
    channels.checkReachable(cap.gate);
    this.#evaluation.checkServed(cap);
    const timer = setTimeout(() => {
      const peer = channels.describe(cap.gate) ?? `capability '${name}'`;
      log.say(`Ned: ${where === '' ? '' : `${where}: `}waiting for a server on ${peer}`);
      if (!channel) return;
      // The server waits for somebody itself whom the script cannot start as long as it is waiting here.
      for (const sentence of channels.buryOrphans(channel.servers)) log.warn(sentence);
    }, SAY_WAITING_MS);
    try {
      return (await ipc.interfaces(cap)).services;
    } catch (err) {
      throw channels.explain(cap.gate, toL4Error(err));
    } finally {
      clearTimeout(timer);
    }
  }

  /** The handle of what a namespace has under that name. */
  async query(namespace: Capability, name: string): Promise<number> {
    const { capability } = await this.#context.ipc.client(Namespace, namespace).query({ name });
    return this.#context.references.handleByAcquiring(capability as Capability);
  }

  /** Enters a capability into a namespace; null removes the name. */
  async register(namespace: Capability, name: string, capability: Capability | null): Promise<void> {
    await this.#context.ipc.client(Namespace, namespace).register({ name, capability });
  }
}
