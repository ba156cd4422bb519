/**
 * Limits of single ports: rates in both directions and storm control. A frame above a limit is dropped (policed, not
 * delayed) and counted at the port whose limit it is.
 */
import type { SourceFrame } from '#common/vnet/source_frame';
import { TokenBuckets } from './token_buckets.ts';

/** Bits per second of frames without preamble, FCS and gap; `burst` bytes may come at once. */
export interface RateLimit {
  readonly bitsPerSecond: number;
  readonly burst: number;
}

/** What storm control counts, each by itself: frames to all, to groups, and to nobody the switch knows. */
export const STORM_KINDS = ['broadcast', 'multicast', 'unknown'] as const;
export type StormKind = (typeof STORM_KINDS)[number];

/** Frames per second of each kind, as many at once; a kind that is absent has no limit. */
export type StormLimit = Readonly<Partial<Record<StormKind, number>>>;

export interface PortLimits {
  /** From the port into the switch. */
  readonly rateIn?: RateLimit | undefined;
  /** From the switch to the port. */
  readonly rateOut?: RateLimit | undefined;
  readonly storm?: StormLimit | undefined;
}

const BROADCAST = 0;
const MULTICAST = 1;
const UNKNOWN = 2;
const KINDS = STORM_KINDS.length;

/** Tokens are bits. */
export class Rates {
  readonly #buckets: TokenBuckets;

  constructor(ports: number) {
    this.#buckets = new TokenBuckets(ports);
  }

  limit(port: number, rate: RateLimit | undefined): void {
    if (rate) this.#buckets.limit(port, rate.bitsPerSecond, 8 * rate.burst);
    else this.#buckets.unlimit(port);
  }

  /** May a frame of so many bytes pass at `now` (milliseconds)? */
  admits(port: number, bytes: number, now: number): boolean {
    return this.#buckets.take(port, 8 * bytes, now);
  }
}

/** Tokens are frames; three buckets for each port. */
export class Storms {
  readonly #buckets: TokenBuckets;

  constructor(ports: number) {
    this.#buckets = new TokenBuckets(ports * KINDS);
  }

  limit(port: number, storm: StormLimit | undefined): void {
    for (const [kind, name] of STORM_KINDS.entries()) {
      const frames = storm?.[name];
      if (frames !== undefined) this.#buckets.limit(port * KINDS + kind, frames, frames);
      else this.#buckets.unlimit(port * KINDS + kind);
    }
  }

  /** May a frame that is to be flooded pass at `now` (milliseconds)? */
  admits(port: number, frame: SourceFrame, now: number): boolean {
    return this.#buckets.take(port * KINDS + kindOf(frame), 1, now);
  }
}

function kindOf(frame: SourceFrame): number {
  if (!frame.multicast) return UNKNOWN;
  return frame.dstHi === 0xffff && (frame.dstLo | 0) === -1 ? BROADCAST : MULTICAST;
}
