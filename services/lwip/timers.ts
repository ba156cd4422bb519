/**
 * lwIP's periodic work, run by us.
 *
 * `sys_check_timeouts` would wake an idle process ten times a second for IGMP and MLD. Everything periodic
 * in this build is one of a few exported functions, so we call these ourselves, every 250 ms, and only while
 * something can be pending: a TCP connection, or a while after the last sign of life (ARP and neighbour
 * discovery retries, address detection, reassembly). An idle interface costs no wake-up; entries that aged meanwhile
 * are aged in one go at the next sign of life.
 */
import type { Ffi } from './ffi.ts';

/** TCP_TMR_INTERVAL (tcp_priv.h). */
const TICK_MS = 250;
/** ARP_TMR_INTERVAL, ND6_TMR_INTERVAL, IP_TMR_INTERVAL. */
const TICKS_PER_SECOND = 4;
/** Longest sequence of retries: three router solicitations 4 s apart; 5 s of ARP; 15 s of reassembly. */
const AWAKE_MS = 16_000;
/** ARP_MAXAGE (etharp.c): after that many seconds every entry is gone anyway. */
const ARP_MAX_AGE = 300;

export class StackTimers {
  readonly #ffi: Ffi;
  readonly #before: () => void;
  readonly #after: () => void;
  /** Heads of lwIP's lists of active and of TIME-WAIT connections: not null = tick. */
  readonly #active: BigUint64Array;
  readonly #timeWait: BigUint64Array;
  #timer: NodeJS.Timeout | undefined;
  #awakeUntil = 0;
  #ticks = 0;
  #asleepSince = 0;

  /** `before` and `after` run around every tick: `ActivePcbs.endVainProbes`, `Stack.settle`. */
  constructor(ffi: Ffi, before: () => void, after: () => void) {
    this.#ffi = ffi;
    this.#before = before;
    this.#after = after;
    this.#active = new BigUint64Array(ffi.view(ffi.symbol('tcp_active_pcbs'), 8));
    this.#timeWait = new BigUint64Array(ffi.view(ffi.symbol('tcp_tw_pcbs'), 8));
  }

  /** There is traffic: keep ticking for a while. Cheap enough for every batch. */
  touch(): void {
    const now = performance.now();
    this.#awakeUntil = now + AWAKE_MS;
    if (this.#timer !== undefined) return;
    this.#catchUp(now);
    this.#schedule();
  }

  /** True while the clock ticks; for tests and statistics. */
  get awake(): boolean {
    return this.#timer !== undefined;
  }

  get hasConnections(): boolean {
    return this.#active[0] !== 0n;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer = setTimeout(this.#tick, TICK_MS);
    this.#timer.unref();
  }

  readonly #tick = (): void => {
    const ffi = this.#ffi;
    this.#before();
    ffi.tcp_tmr();
    ffi.mld6_tmr();
    if (++this.#ticks % TICKS_PER_SECOND === 0) {
      ffi.etharp_tmr();
      ffi.ip_reass_tmr();
      ffi.ip6_reass_tmr();
      ffi.nd6_tmr();
    }
    this.#after();
    const now = performance.now();
    if (this.#active[0] !== 0n || this.#timeWait[0] !== 0n || now < this.#awakeUntil) {
      this.#schedule();
    } else {
      this.#timer = undefined;
      this.#asleepSince = now;
    }
  };

  #catchUp(now: number): void {
    if (this.#asleepSince === 0) return;
    const seconds = Math.min(Math.floor((now - this.#asleepSince) / 1000), ARP_MAX_AGE);
    for (let n = 0; n < seconds; n++) this.#ffi.etharp_tmr();
    this.#asleepSince = 0;
  }
}
