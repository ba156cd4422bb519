/**
 * One component that is a task right now: a process that somebody else has started, seen through its calls
 * and its lifeline.
 */
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { LifelineWatch } from '#common/shm/lifeline';
import { l4lab as m } from '../../../proto/gen/messages.js';
import type { TaskEnd, TaskProcess } from '../loader.ts';

/** What a component is told to do. */
export type Order = m.CommandReply.Kind;
export const { NONE, END, KILL, RESTART } = m.CommandReply.Kind;

/** A question for orders is answered after this time at the latest. */
const ASK_AGAIN_MS = 20_000;
/** As if SIGKILL had ended it: nobody can tell what did. */
const STATUS_LOST = 137;
/** Memory that unread output of one component may take before it has to wait. */
const BUFFER_BYTES = 256 * 1024;

export interface InstanceFacts {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
}

export class Instance implements TaskProcess {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly stdout = new PassThrough({ highWaterMark: BUFFER_BYTES });
  readonly stderr = new PassThrough({ highWaterMark: BUFFER_BYTES });
  readonly ended: Promise<TaskEnd>;
  readonly #lifeline: LifelineWatch;
  #finish: (end: TaskEnd) => void = () => {};
  readonly #gone = new AbortController();
  #over = false;
  #order: Order = NONE;
  #delivered: Order = NONE;
  #wake: () => void = () => {};

  /** Throws when the component does not hold its lifeline. */
  constructor(runDir: string, { id, host, pid }: InstanceFacts) {
    this.id = id;
    this.host = host;
    this.pid = pid;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#lifeline = new LifelineWatch(runDir, id, () =>
      this.#end({ status: STATUS_LOST, signal: 'a signal' }),
    );
  }

  /** True as long as the component lives; looks now instead of waiting for the event. */
  get alive(): boolean {
    return !this.#over && this.#lifeline.check();
  }

  /** Output of the component; resolves when there is room for more. */
  async write(chunks: readonly m.ILogChunk[]): Promise<void> {
    for (const { stderr, data } of chunks) {
      if (this.#over) return;
      const stream = stderr ? this.stderr : this.stdout;
      if (stream.write(data ?? new Uint8Array(0))) continue;
      await once(stream, 'drain', { signal: this.#gone.signal }).catch(() => {});
    }
  }

  /** The component has told its end. */
  reportEnd(status: number): void {
    this.#end({ status, signal: undefined });
  }

  kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.give(signal === 'SIGKILL' ? KILL : END);
  }

  /** Gives an order; one that is harder than the one before replaces it. */
  give(order: Order): void {
    if (order === KILL || this.#order === NONE) this.#order = order;
    this.#wake();
  }

  /** Waits for an order that has not been given yet; NONE after 20 s without. */
  async nextOrder(signal: AbortSignal): Promise<Order> {
    if (this.#order === this.#delivered) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        const timer = setTimeout(wake, ASK_AGAIN_MS);
        signal.addEventListener('abort', wake, { once: true });
        this.#wake = wake;
      });
    }
    if (this.#order === this.#delivered) return NONE;
    this.#delivered = this.#order;
    return this.#order;
  }

  /** Lets go of it without touching the component: ned ends, the component goes on. */
  leave(): void {
    this.#over = true;
    this.#lifeline.leave();
    this.#gone.abort();
    this.#wake();
  }

  #end(end: TaskEnd): void {
    if (this.#over) return;
    this.#over = true;
    this.#lifeline.close();
    this.stdout.end();
    this.stderr.end();
    this.#gone.abort();
    this.#wake();
    this.#finish(end);
  }
}
