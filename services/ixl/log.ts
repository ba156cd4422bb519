/** Messages of the driver library, in the form of the original: `[INFO ] text`, `[WARN ] text`, `[ERROR] text`. */
export interface Log {
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

/** Information goes to stdout, the rest to stderr (F5.1). An error does not stop the program. */
export const consoleLog: Log = {
  info: (text) => console.log(`[INFO ] ${text}`),
  warn: (text) => console.error(`[WARN ] ${text}`),
  error: (text) => console.error(`[ERROR] ${text}`),
};

/** Lets a message through at most once per `everyMs`; says how many it kept back. For the data plane. */
export class Throttle {
  readonly #emit: (text: string) => void;
  readonly #everyMs: number;
  readonly #now: () => number;
  #last = Number.NEGATIVE_INFINITY;
  #kept = 0;

  constructor(emit: (text: string) => void, everyMs = 1000, now: () => number = () => performance.now()) {
    this.#emit = emit;
    this.#everyMs = everyMs;
    this.#now = now;
  }

  say(text: string): void {
    const now = this.#now();
    if (now - this.#last < this.#everyMs) {
      this.#kept += 1;
      return;
    }
    this.#emit(this.#kept > 0 ? `${text} (${this.#kept} more like this)` : text);
    this.#last = now;
    this.#kept = 0;
  }
}
