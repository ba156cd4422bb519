/**
 * Capabilities that are functions: evaluated in the interpreter for one start of a task, as an event of the script's
 * server loop.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { LuaValue } from './engine/marshal.ts';
import type { NamedCapabilities } from './named_capabilities.ts';
import type { Script } from './script.ts';
import type { Task } from './task.ts';

const TRY_AGAIN_MS = 50;
const SAY_WAITING_MS = 1000;

export interface EvaluatorContext {
  readonly script: () => Script;
  /** Puts an event into the script's server loop. */
  readonly post: (event: () => LuaValue) => void;
  readonly say: (text: string) => void;
}

export class Evaluator {
  readonly #context: EvaluatorContext;
  /** One evaluation at a time: the interpreter does one thing after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(context: EvaluatorContext) {
    this.#context = context;
  }

  /**
   * Evaluates the functions that Lua knows as those of `launch`, for `task`; as long as a server that they need is not
   * there, again and again until `signal` is aborted. Throws L4Error when one of them fails.
   */
  async evaluate(launch: Task, task: Task, signal: AbortSignal): Promise<NamedCapabilities> {
    let waitsFor = 'the script has to end or to enter its server loop first';
    const timer = setTimeout(() => {
      this.#context.say(`Ned: starting '${task.name}': ${waitsFor}`);
    }, SAY_WAITING_MS);
    try {
      for (;;) {
        const result = await this.#inTurn(() => this.#once(launch, task));
        if (!(result instanceof Error)) return result;
        if (toL4Error(result).code !== 'NED_NOT_YET') throw functionFailed(task, result);
        waitsFor = result.message;
        if (signal.aborted) throw new L4Error('EIPC_CANCELED', `Starting '${task.name}' was abandoned`);
        await sleep(TRY_AGAIN_MS);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result;
    return result;
  }

  #once(launch: Task, task: Task): Promise<NamedCapabilities | Error> {
    return new Promise((done) => {
      // The event is made when the interpreter takes it: until then its operations belong to the script.
      this.#context.post(() => this.#context.script().evaluate({ launch: launch.id, task: task.id, done }));
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
