/**
 * How long to wait before something that ended is started again: 0.5 s, twice as long each time up to 10 s.
 * The fifth end within a minute is one too many. After a minute without an end everything is forgotten.
 */

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 10_000;
/** So many ends within `WITHIN_MS` are enough. */
export const MAX_ENDS = 5;
const WITHIN_MS = 60_000;

export class Backoff {
  readonly #ends: number[] = [];
  #delayMs = FIRST_DELAY_MS;

  /**
   * Notes an end at `now` (milliseconds of a clock that never goes back). Returns the delay before the next start
   * in milliseconds; undefined: it is not worth another one. Who is `patient` always tries again.
   */
  next(now: number, patient: boolean): number;
  next(now: number): number | undefined;
  next(now: number, patient = false): number | undefined {
    while (this.#ends.length > 0 && now - (this.#ends[0] as number) > WITHIN_MS) this.#ends.shift();
    if (this.#ends.length === 0) this.#delayMs = FIRST_DELAY_MS;
    this.#ends.push(now);
    if (this.#ends.length >= MAX_ENDS && !patient) return undefined;
    const delay = this.#delayMs;
    this.#delayMs = Math.min(2 * delay, MAX_DELAY_MS);
    return delay;
  }
}
