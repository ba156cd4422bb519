/**
 * Waits for a NIC's link at start, and reports it whenever it changes.
 *
 * The original blocks its whole process for up to 10 s, and ned and every client with it. Here the
 * caller says how long it waits; the watch goes on in the background until 10 s are over, and later
 * changes come by the link-status interrupt.
 */
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

const POLL_MS = 100;
const GIVE_UP_MS = 10_000;
/** Changes that are told of in WINDOW_MS: a device that flaps, or lies, must not fill the log. The state after them is told. */
const MAX_TOLD = 10;
const WINDOW_MS = 1000;

export class LinkWatch {
  readonly #readSpeed: () => number;
  readonly #clock: Clock;
  readonly #log: Log;
  #reported: number | undefined;
  #stopped = false;
  #onChange: (speed: number) => void = () => {};
  #windowStart = 0;
  #told = 0;
  #waiting = false;

  /** `readSpeed`: Mbit/s, 0 while the link is down. */
  constructor(readSpeed: () => number, clock: Clock, log: Log) {
    this.#readSpeed = readSpeed;
    this.#clock = clock;
    this.#log = log;
  }

  /** Resolves with the speed, or with 0 after `waitMs` without a link; that it logs, too. */
  async start(waitMs: number): Promise<number> {
    this.#log.info('Waiting for link...');
    const limit = Math.min(waitMs, GIVE_UP_MS);
    for (let waited = 0; ; waited += POLL_MS) {
      const speed = this.#readSpeed();
      if (speed > 0) return this.#report(speed);
      if (waited >= limit) break;
      await this.#clock.sleep(POLL_MS);
    }
    if (limit < GIVE_UP_MS) void this.#goOn(GIVE_UP_MS - limit);
    else this.#giveUp();
    return 0;
  }

  /** The NIC says that its link has changed. */
  changed(): void {
    if (!this.#stopped) this.#report(this.#readSpeed());
  }

  /** Calls `onChange` with the speed, 0 for none, whenever it is another one than before. One listener at a time. */
  listen(onChange: (speed: number) => void): void {
    this.#onChange = onChange;
  }

  stop(): void {
    this.#stopped = true;
  }

  async #goOn(ms: number): Promise<void> {
    this.#log.warn('No link yet: going on without it.');
    for (let left = ms; left > 0; left -= POLL_MS) {
      await this.#clock.sleepInBackground(POLL_MS);
      if (this.#stopped || (this.#reported ?? 0) > 0) return;
      const speed = this.#readSpeed();
      if (speed > 0) {
        this.#report(speed);
        return;
      }
    }
    this.#giveUp();
  }

  #giveUp(): void {
    this.#log.error('Failed to bring up link! The NIC goes on without: check what its cable leads to.');
    this.#reported = 0;
  }

  #report(speed: number): number {
    if (speed === this.#reported) return speed;
    if (this.#mayTell()) {
      if (speed > 0) this.#log.info(`Link speed is ${speed} Mbit/s`);
      else this.#log.warn('Link is down');
      this.#reported = speed;
      this.#onChange(speed);
    } else if (!this.#waiting) {
      this.#waiting = true;
      void this.#clock.sleepInBackground(WINDOW_MS).then(() => {
        this.#waiting = false;
        this.changed();
      });
    }
    return speed;
  }

  #mayTell(): boolean {
    const now = this.#clock.now();
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now;
      this.#told = 0;
    }
    this.#told += 1;
    return this.#told <= MAX_TOLD;
  }
}
