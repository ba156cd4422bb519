/** A log line that a peer can cause as often as it likes, said once in a while. */

const EVERY_MS = 1000;

/** Says a thing at most once a second and counts the rest. */
export class Throttle {
  readonly #say: (text: string) => void;
  readonly #now: () => number;
  #last = Number.NEGATIVE_INFINITY;
  #held = 0;

  constructor(say: (text: string) => void, now: () => number = () => performance.now()) {
    this.#say = say;
    this.#now = now;
  }

  say(text: string): void {
    const now = this.#now();
    if (now - this.#last < EVERY_MS) {
      this.#held += 1;
      return;
    }
    this.#say(this.#held === 0 ? text : `${text} (and ${this.#held} more since)`);
    this.#last = now;
    this.#held = 0;
  }
}
