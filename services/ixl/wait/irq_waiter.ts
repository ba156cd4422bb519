/**
 * Turns a receive interrupt into a promise, for the Wait mode: the Node thread cannot block.
 *
 * An interrupt that comes while nobody waits is remembered, so that it cannot be missed.
 */
export class IrqWaiter {
  #fired = false;
  #wake: (() => void) | undefined;

  /** From the interrupt. */
  fire(): void {
    this.#fired = true;
    this.#wake?.();
  }

  /** True when the interrupt came, false after `timeoutMs` (undefined: no limit) or when `signal` is aborted. */
  wait(timeoutMs: number | undefined, signal?: AbortSignal): Promise<boolean> {
    if (this.#fired || signal?.aborted) return Promise.resolve(this.#take());
    return new Promise((resolve) => {
      const finish = (): void => {
        this.#wake = undefined;
        clearTimeout(timer);
        signal?.removeEventListener('abort', finish);
        resolve(this.#take());
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(finish, timeoutMs);
      signal?.addEventListener('abort', finish, { once: true });
      this.#wake = finish;
    });
  }

  #take(): boolean {
    const fired = this.#fired;
    this.#fired = false;
    return fired;
  }
}
