/**
 * Whether somebody else wants the core, and keeps it, whenever a data plane gives it up.
 *
 * Peers of a chain run for less than a millisecond and give the core back. A CPU-bound program keeps it for a whole slice, 3 to 4 ms, and
 * most of the time goes into that: then it is better not to yield at all but to sleep, as who is woken comes before
 * who has had more than a fair share. One long yield says nothing, as V8's compiler takes a core for a moment, too: what counts
 * is the part of the time that went into them. Measured in test/bench/README.md, "Beside other programs".
 */

/** Longer than a peer's turn (pump.ts), shorter than the kernel's usual slice. */
const LONG_MS = 2;
/** The part of the time that may go into long yields. */
const SHARE = 0.5;
/** What went into them beyond that until the core counts as crowded. */
const LIMIT_MS = 20;
/** How long it counts as that before it is tried again. */
const CROWDED_MS = 100;

export class Crowd {
  #excessMs = 0;
  /** Up to when the excess is reckoned. */
  #reckoned = 0;
  #until = 0;

  /** The core was given up and is back at `now`, both in milliseconds of one clock. */
  yielded(start: number, now: number): void {
    const took = now - start;
    this.#excessMs = Math.max(0, this.#excessMs - Math.max(0, now - this.#reckoned) * SHARE);
    this.#reckoned = Math.max(now, this.#reckoned);
    if (took < LONG_MS) return;
    this.#excessMs += took;
    // What was reckoned stays as it is until then: the first long yield shows that nothing has changed.
    if (this.#excessMs > LIMIT_MS) this.#until = this.#reckoned = now + CROWDED_MS;
  }

  /** True while it does not pay to give up the core. */
  isCrowded(now: number): boolean {
    return now < this.#until;
  }
}
