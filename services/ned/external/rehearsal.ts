/**
 * A script that is only read, to learn what it starts (`l4lab compose`, `l4lab pm2`): nothing that it starts runs, so
 * what others would answer is made up here. Servers create whatever is asked of them, tasks end with status 0 as soon
 * as they are waited for, and time does not pass.
 */
import type { Capability } from '#common/ipc/capability';
import type { Channels } from '../channels.ts';
import type { LuaValue } from '../engine/marshal.ts';
import type { References } from '../references.ts';

export interface RehearsalContext {
  readonly channels: Channels;
  readonly references: References;
  /** A new object that does nothing. */
  readonly newObject: () => Capability;
}

/** What any server of a channel may be asked for. */
const SERVICES = ['l4lab.Factory', 'l4lab.Namespace'];
/** What a script sees of a task that it looks at again and again. */
const LIFE = ['initializing', 'running', 'zombie'];

export class Rehearsal {
  readonly #context: RehearsalContext;
  readonly #looks = new Map<LuaValue, number>();
  #waits = false;

  constructor(context: RehearsalContext) {
    this.#context = context;
  }

  /** True once the script would have waited for something that it has started. */
  get waits(): boolean {
    return this.#waits;
  }

  /** Instead of performing the operation: what Lua gets. Undefined: it is performed. Throws as it would. */
  answer(operation: string, [subject]: readonly LuaValue[]): LuaValue | undefined {
    switch (operation) {
      case 'sleep':
        return [];
      case 'task_state':
        return LIFE[this.#lookAt(subject)];
      case 'task_exit_code':
        return this.#looks.has(subject) ? 0 : undefined;
      case 'task_wait':
        this.#waits = true;
        this.#looks.set(subject, LIFE.length);
        return 0;
      case 'interfaces':
        return this.#ask(subject) ? [SERVICES] : undefined;
      case 'create':
      case 'query':
        return this.#ask(subject) ? this.#newObject() : undefined;
      case 'register':
        return this.#ask(subject) || undefined;
      default:
        return undefined;
    }
  }

  /** True for a call on a channel of the script, which a task serves. */
  #ask(handle: LuaValue): boolean {
    const { channels, references } = this.#context;
    const { gate } = references.get(Number(handle));
    const channel = channels.get(gate);
    if (!channel || channel.own) return false;
    channels.checkReachable(gate);
    this.#waits = true;
    return true;
  }

  #newObject(): LuaValue {
    return this.#context.references.handleByAdopting(this.#context.newObject());
  }

  #lookAt(task: LuaValue): number {
    const look = this.#looks.get(task) ?? 0;
    this.#looks.set(task, look + 1);
    if (look > 0) this.#waits = true;
    return Math.min(look, LIFE.length - 1);
  }
}
