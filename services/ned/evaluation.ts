/**
 * The functions of one task while the interpreter evaluates them: until `prepared` whatever the script does belongs to
 * the evaluation. It must not wait for a server, and what it creates is held by the task. evaluator.ts says when
 * functions are evaluated, and evaluates them again.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { LuaValue } from './engine/marshal.ts';
import {
  type NamedCapabilities,
  type NamedCapabilitiesContext,
  namedCapabilities,
} from './named_capabilities.ts';

export interface Evaluation {
  /** The launch, as Lua knows it. */
  readonly launch: string;
  /** Who will hold what the functions create. */
  readonly task: string;
  readonly done: (result: NamedCapabilities | Error) => void;
}

export class CurrentEvaluation {
  readonly #context: NamedCapabilitiesContext;
  #evaluation: Evaluation | undefined;
  /** Why the evaluation cannot succeed now, but may later. */
  #notYet: string | undefined;
  /** What the functions have created so far; the task holds it. */
  #created: Capability[] = [];

  constructor(context: NamedCapabilitiesContext) {
    this.#context = context;
  }

  /** The task that functions are evaluated for; undefined while the script acts for itself. */
  get task(): string | undefined {
    return this.#evaluation?.task;
  }

  /** The event that makes Lua evaluate. */
  begin(evaluation: Evaluation): LuaValue {
    this.#evaluation = evaluation;
    this.#notYet = undefined;
    this.#created = [];
    return { kind: 'prepare', task: evaluation.launch };
  }

  /** A function must not block the script for other tasks: without a server it is tried again later. */
  checkServed({ gate }: Capability): void {
    const { channels } = this.#context;
    if (!this.#evaluation || channels.isServed(gate)) return;
    const reason = `waiting for a server on ${channels.describe(gate) ?? 'a gate'}`;
    this.postpone(reason);
    throw new L4Error('EAGAIN', reason, { code: 'NED_NOT_YET' });
  }

  /** Should the evaluation fail, then for this reason, and it is tried again later. */
  postpone(reason: string): void {
    this.#notYet = reason;
  }

  /** A function has created an object for the task, which goes again should the evaluation fail. */
  created(cap: Capability): void {
    this.#created.push(cap);
  }

  /** Lua has evaluated: the capabilities, or why there are none. */
  async end(capabilities: LuaValue, failure: LuaValue): Promise<void> {
    const evaluation = this.#evaluation;
    this.#evaluation = undefined;
    if (!evaluation) return;
    const { task, done } = evaluation;
    try {
      if (typeof failure === 'string') {
        const code = this.#notYet === undefined ? 'NED_FUNCTION_FAILED' : 'NED_NOT_YET';
        throw new L4Error('EINVAL', this.#notYet ?? failure, { code });
      }
      const named = namedCapabilities(this.#context, capabilities);
      // Before Lua lets go of them.
      await Promise.all(
        named.map(({ client }) => client && this.#context.references.hold(client as Capability, task)),
      );
      done(named);
    } catch (err) {
      for (const cap of this.#created) this.#context.references.letGo(cap, task);
      done(toL4Error(err));
    }
  }
}
