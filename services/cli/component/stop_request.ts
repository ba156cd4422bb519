/** The request to end: by signal, or by an order of the broker. */

/** A program that ignores the request that long is ended. */
const GRACE_MS = 1500;

export class StopRequest {
  readonly #controller = new AbortController();
  /** Resolves when the program has had its time. */
  readonly graceOver: Promise<void>;
  #endGrace: () => void = () => {};

  constructor() {
    this.graceOver = new Promise((resolve) => {
      this.#endGrace = resolve;
    });
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => this.request());
    process.on('SIGHUP', () => {});
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  request(): void {
    if (this.signal.aborted) return;
    this.#controller.abort();
    setTimeout(this.#endGrace, GRACE_MS).unref();
  }
}
