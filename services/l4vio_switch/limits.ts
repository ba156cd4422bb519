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

/** Limits of all ports, and the clock that fills them: it is read once for the frames that a port brings at once. */
export class Limits {
  /** Bits. */
  readonly #in: TokenBuckets;
  readonly #out: TokenBuckets;
  /** Frames; three buckets for each port. */
  readonly #storms: TokenBuckets;
  readonly #clock: () => number;
  /** Milliseconds; right after `readClock` until `endBatch`. */
  readonly #now = new Float64Array(1);
  /** Ports with a limit, and others who need the time: without any the clock is not read. */
  #users = 0;
  readonly #limited: Uint8Array;
  /** The clock is to be read before anything is asked. */
  stale = false;

  constructor(ports: number, clock: () => number) {
    this.#in = new TokenBuckets(ports, this.#now);
    this.#out = new TokenBuckets(ports, this.#now);
    this.#storms = new TokenBuckets(ports * KINDS, this.#now);
    this.#limited = new Uint8Array(ports);
    this.#clock = clock;
  }

  /** Sets the limits of a port, which has none that are absent. */
  set(port: number, { rateIn, rateOut, storm }: PortLimits): void {
    setRate(this.#in, port, rateIn);
    setRate(this.#out, port, rateOut);
    for (const [kind, name] of STORM_KINDS.entries()) {
      const frames = storm?.[name];
      if (frames === undefined) this.#storms.unlimit(port * KINDS + kind);
      else this.#storms.limit(port * KINDS + kind, frames, frames);
    }
    const limited = rateIn || rateOut || storm ? 1 : 0;
    this.useClock(limited - (this.#limited[port] as number));
    this.#limited[port] = limited;
  }

  /** So many more, or fewer, need the time. */
  useClock(users: number): void {
    this.#users += users;
    this.endBatch();
  }

  /** Returns the time in milliseconds. */
  readClock(): number {
    const now = this.#clock();
    this.#now[0] = now;
    this.stale = false;
    return now;
  }

  /** The next frames may come much later. */
  endBatch(): void {
    this.stale = this.#users > 0;
  }

  /** May a frame of so many bytes come from the port? */
  admitsIn(port: number, bytes: number): boolean {
    return this.#in.take(port, 8 * bytes);
  }

  /** May a frame of so many bytes go to the port? */
  admitsOut(port: number, bytes: number): boolean {
    return this.#out.take(port, 8 * bytes);
  }

  /** May a frame from the port be flooded? */
  admitsFlood(port: number, frame: SourceFrame): boolean {
    return this.#storms.take(port * KINDS + kindOf(frame), 1);
  }
}

function setRate(buckets: TokenBuckets, port: number, rate: RateLimit | undefined): void {
  if (rate) buckets.limit(port, rate.bitsPerSecond, 8 * rate.burst);
  else buckets.unlimit(port);
}

function kindOf(frame: SourceFrame): number {
  if (!frame.multicast) return UNKNOWN;
  return frame.dstHi === 0xffff && (frame.dstLo | 0) === -1 ? BROADCAST : MULTICAST;
}
