/**
 * When ned starts a task again by itself (restart policy; spawn back end only: with external loading whoever
 * starts components does that).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff, MAX_ENDS } from '#common/task/backoff';
import type { RestartPolicy } from '#common/task/restart';
import type { TaskEnd } from './loader.ts';

export class Restarts {
  readonly policy: RestartPolicy;
  /** It has ended too often. */
  givenUp = false;
  readonly #backoff = new Backoff();
  readonly #abandoned = new AbortController();

  constructor(policy: RestartPolicy) {
    this.policy = policy;
  }

  /** Aborted when the task is not to be started any more. */
  get signal(): AbortSignal {
    return this.#abandoned.signal;
  }

  /** Milliseconds until it is started again after this end; undefined: never. */
  delayAfter({ status }: TaskEnd): number | undefined {
    if (this.signal.aborted || this.policy === 'no') return undefined;
    if (this.policy === 'on-failure' && status === 0) return undefined;
    const delay = this.#backoff.next(performance.now());
    this.givenUp = delay === undefined;
    return delay;
  }

  /** False when it was abandoned meanwhile. */
  async wait(ms: number): Promise<boolean> {
    await sleep(ms, undefined, { signal: this.signal }).catch(() => {});
    return !this.signal.aborted;
  }

  abandon(): void {
    this.#abandoned.abort();
  }

  /** What is said of it when it has ended too often. */
  get verdict(): string {
    return `it is given up after ${MAX_ENDS} ends within a minute (restart "${this.policy}")`;
  }
}
