/**
 * Adaptive switching between interrupts and polling (F5.10), for the Wait mode.
 *
 * Every 4096th receive call, at most once a second, the packet rate joins a moving average over the
 * last five rates. Above 1200 packets/ms, or when the last batch was full, polling is cheaper than
 * taking interrupts.
 */

const CHECK_MASK = 0xfff;
const CHECK_MS = 1000;
const WINDOW = 5;
const THRESHOLD_PER_MS = 1200;

export class AdaptiveIrq {
  /** What the receive interrupt should be now. */
  irqWanted = true;
  readonly #rates = new Float64Array(WINDOW);
  #rateCount = 0;
  #calls = 0;
  #packets = 0;
  #lastCheck: number;

  /** `now`: monotonic milliseconds at the start. */
  constructor(now: number) {
    this.#lastCheck = now;
  }

  /** Counts one receive call. True when `irqWanted` has changed: the hardware is to follow. */
  count(packets: number, full: boolean, now: () => number): boolean {
    this.#packets += packets;
    this.#calls = (this.#calls + 1) & CHECK_MASK;
    if (this.#calls !== 0) return false;
    const time = now();
    const elapsed = time - this.#lastCheck;
    if (elapsed <= CHECK_MS) return false;
    this.#rates[this.#rateCount % WINDOW] = this.#packets / elapsed;
    this.#rateCount += 1;
    this.#packets = 0;
    this.#lastCheck = time;
    const before = this.irqWanted;
    this.irqWanted = !(full || this.#average() > THRESHOLD_PER_MS);
    return this.irqWanted !== before;
  }

  #average(): number {
    const n = Math.min(this.#rateCount, WINDOW);
    let sum = 0;
    for (let i = 0; i < n; i++) sum += this.#rates[i] as number;
    return sum / n;
  }
}
