/**
 * Runs the data-plane loop of a process on Node's event loop.
 *
 * While there is work it polls, turn by turn, so that timers, sockets and calls get their share. Whenever the
 * work runs out it gives up the core, for a peer on the same core must be able to produce, and looks again; what this
 * process itself waits for (a file written, a socket drained) comes through the event loop, so after some looks
 * it goes round that. After a moment without work, or at once beside programs that keep the core (crowd.ts), it arms the
 * notifications and sleeps until a doorbell kicks it. Idle, it costs nothing.
 */
import { Crowd } from './crowd.ts';
import { inlineDeeply } from './jit.ts';
import { schedYield } from './libc.ts';
import { takeShortTurns } from './slice.ts';

export interface PumpWork {
  /** One bounded, non-blocking turn. True when anything was done. */
  poll(): boolean;
  /** Turns notifications on. True when work has arrived meanwhile: the pump does not sleep then. */
  arm(): boolean;
  /** Turns notifications off: the pump polls again. */
  disarm(): void;
}

/** A turn ends after this long even when there is more to do, for the sake of the event loop. */
const TURN_MS = 1;
/**
 * How long an idle pump goes on before it sleeps. Measured on the download through the whole chain, two cores:
 * 0 -> 100 MB/s, 0.05 -> 125, 0.3 -> 160, 1 -> 125 (test/bench/README.md).
 */
const SPIN_MS = 0.3;

/**
 * How often a pump without work looks again before it goes round the event loop. Measured (test/bench/README.md): CPU of the
 * switch for a frame at a time 5.3 us without, 3.3, 2.5, 2.2 us with 1, 4, 8; the download is best with 4.
 */
const LOOKS = 4;

export class Pump {
  readonly #work: PumpWork;
  readonly #spinMs: number;
  readonly #crowd = new Crowd();
  #state: 'stopped' | 'asleep' | 'scheduled' | 'running' = 'stopped';
  #kicked = false;
  /** When the pump last had work; 0 while it has. */
  #idleSince = 0;
  #next: NodeJS.Immediate | undefined;

  constructor(work: PumpWork, options: { spinMs?: number } = {}) {
    this.#work = work;
    this.#spinMs = options.spinMs ?? SPIN_MS;
    inlineDeeply();
    takeShortTurns();
  }

  start(): void {
    if (this.#state !== 'stopped') return;
    this.#schedule();
  }

  /** There may be work: from a doorbell, a timer or a call. Cheap; may be called at any time. */
  kick(): void {
    if (this.#state === 'asleep') {
      this.#work.disarm();
      this.#turn();
    } else {
      this.#kicked = true;
    }
  }

  stop(): void {
    this.#state = 'stopped';
    clearImmediate(this.#next);
  }

  #schedule(): void {
    this.#state = 'scheduled';
    this.#next = setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    if (this.#state === 'stopped') return;
    this.#state = 'running';
    const kicked = this.#kicked;
    this.#kicked = false;
    const start = performance.now();
    const busy = this.#pollUntil(start + TURN_MS);
    if (busy || kicked) this.#idleSince = 0;
    else if (this.#idleSince === 0) this.#idleSince = start;
    // poll() may have stopped us.
    if ((this.#state as string) === 'stopped') return;
    if (this.#crowd.isCrowded(start)) {
      if (this.#idleSince !== 0 && this.#fallAsleep()) return;
    } else if (this.#idleSince === 0 || start - this.#idleSince <= this.#spinMs) {
      this.#linger(start + TURN_MS);
    } else if (this.#fallAsleep()) {
      return;
    }
    if ((this.#state as string) === 'stopped') return;
    this.#schedule();
  };

  /** Lets peers on this core run, and goes on at once with what they have made: a turn of the event loop costs more. */
  #linger(end: number): void {
    let now = performance.now();
    for (let n = 0; n < LOOKS; n++) {
      const start = now;
      schedYield();
      now = performance.now();
      this.#crowd.yielded(start, now);
      if (this.#pollUntil(end)) {
        this.#idleSince = 0;
        now = performance.now();
      }
      if ((this.#state as string) === 'stopped' || now >= end) return;
    }
  }

  /** False when work has arrived while notifications were being turned on. */
  #fallAsleep(): boolean {
    this.#idleSince = 0;
    // An interrupt that was pending may come as soon as it is let through, before we are asleep.
    if (this.#work.arm() || this.#kicked) {
      this.#work.disarm();
      return false;
    }
    this.#state = 'asleep';
    return true;
  }

  /** True when there was work. */
  #pollUntil(end: number): boolean {
    if (!this.#work.poll()) return false;
    while (this.#work.poll() && performance.now() < end);
    return true;
  }
}
