/**
 * Blocking calls from the interpreter's thread to ned's main thread.
 *
 * The worker posts a request and sleeps in Atomics.wait; the main thread does the (asynchronous) work, posts
 * the reply, and then wakes the worker, which takes the reply off the port without an event loop. So every
 * operation of a script really blocks the interpreter, in whatever Lua context it is called.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Host, HostError } from './engine.ts';
import type { LuaValue } from './marshal.ts';

/** Shared between the threads: how many replies have been posted. */
export type ReplyCounter = Int32Array;

interface Request {
  readonly operation: string;
  readonly args: LuaValue[];
  /** Nobody waits for the result. */
  readonly oneWay: boolean;
}

/** Runs one operation of a script in the main thread; what it throws becomes `nil, error` in Lua. */
export type Operations = (operation: string, args: LuaValue[]) => Promise<LuaValue[]> | LuaValue[];

/** Operations without a result: the worker goes on at once. Called by finalizers, maybe many at a time. */
const ONE_WAY = new Set(['release', 'task_release']);

/** The worker's side. */
export class BlockingHost implements Host {
  readonly #port: MessagePort;
  readonly #replies: ReplyCounter;

  constructor(port: MessagePort, replies: ReplyCounter) {
    this.#port = port;
    this.#replies = replies;
  }

  call(operation: string, args: LuaValue[]): LuaValue[] {
    const oneWay = ONE_WAY.has(operation);
    const seen = Atomics.load(this.#replies, 0);
    this.#port.postMessage({ operation, args, oneWay } satisfies Request);
    if (oneWay) return [];
    // The notify that belongs to the reply before may come only now: it wakes us without a reply.
    while (Atomics.load(this.#replies, 0) === seen) Atomics.wait(this.#replies, 0, seen);
    return receiveMessageOnPort(this.#port)?.message as LuaValue[];
  }
}

/** The main thread's side: answers calls until the port is closed. */
export function serveCalls(
  port: MessagePort,
  replies: ReplyCounter,
  operations: Operations,
  toHostError: (err: unknown) => HostError,
): void {
  const answer = async ({ operation, args, oneWay }: Request) => {
    let results: LuaValue[];
    try {
      results = await operations(operation, args);
    } catch (err) {
      results = [undefined, { ...toHostError(err) }];
    }
    if (oneWay) return;
    port.postMessage(results);
    Atomics.add(replies, 0, 1);
    Atomics.notify(replies, 0);
  };
  port.on('message', (request: Request) => void answer(request));
}
