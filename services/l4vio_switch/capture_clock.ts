/** Wall-clock time of frames, to the nanosecond, as two integers and without allocation. */
export class CaptureClock {
  /** Since the Unix epoch. */
  seconds = 0;
  nanoseconds = 0;
  readonly #originSeconds: number;
  readonly #originMs: number;

  /** The monotonic clock tells the time from now on; where it started is looked up here, once. */
  constructor() {
    const now = Date.now();
    // The origin of the process is exact to the microsecond, unless the wall clock was set since.
    const drift = now - (performance.timeOrigin + performance.now());
    const origin = performance.timeOrigin + (Math.abs(drift) > 2 ? drift : 0);
    this.#originSeconds = Math.floor(origin / 1000);
    this.#originMs = origin - this.#originSeconds * 1000;
  }

  /** Reads the clock. */
  read(): void {
    // Small numbers: as milliseconds since 1970 a double has a quarter of a microsecond.
    const ms = this.#originMs + performance.now();
    const seconds = Math.floor(ms / 1000);
    this.seconds = this.#originSeconds + seconds;
    this.nanoseconds = Math.floor((ms - seconds * 1000) * 1e6);
  }
}
