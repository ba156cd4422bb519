/**
 * Token buckets by number, filled lazily: nothing happens between two calls, and no timer runs.
 *
 * A bucket that is full lets through what is larger than itself, and is in debt afterwards: the rate holds in the
 * long run whatever the size of the pieces. The time is an array of one element, in milliseconds: a number with a fraction
 * that is passed from function to function would be an object in each call.
 */

export class TokenBuckets {
  readonly #used: Uint8Array;
  readonly #perMs: Float64Array;
  readonly #depth: Float64Array;
  readonly #level: Float64Array;
  /** When the level was right, in milliseconds. */
  readonly #at: Float64Array;
  readonly #time: Float64Array;

  /** `time[0]` is the present time in milliseconds. */
  constructor(buckets: number, time: Float64Array) {
    this.#time = time;
    this.#used = new Uint8Array(buckets);
    this.#perMs = new Float64Array(buckets);
    this.#depth = new Float64Array(buckets);
    this.#level = new Float64Array(buckets);
    this.#at = new Float64Array(buckets);
  }

  /** Limits a bucket to `perSecond` tokens on average and `depth` at once; it starts full. */
  limit(bucket: number, perSecond: number, depth: number): void {
    this.#used[bucket] = 1;
    this.#perMs[bucket] = perSecond / 1000;
    this.#depth[bucket] = depth;
    this.#level[bucket] = depth;
    // No time has passed, whenever the first call comes.
    this.#at[bucket] = Number.POSITIVE_INFINITY;
  }

  /** Takes the limit away. */
  unlimit(bucket: number): void {
    this.#used[bucket] = 0;
  }

  /** Takes tokens out. False when there are too few: nothing is taken then. */
  take(bucket: number, tokens: number): boolean {
    if (this.#used[bucket] === 0) return true;
    const now = this.#time[0] as number;
    const depth = this.#depth[bucket] as number;
    const passed = Math.max(now - (this.#at[bucket] as number), 0);
    const level = Math.min((this.#level[bucket] as number) + passed * (this.#perMs[bucket] as number), depth);
    const enough = depth > 0 && level >= Math.min(tokens, depth);
    this.#level[bucket] = enough ? level - tokens : level;
    this.#at[bucket] = now;
    return enough;
  }
}
