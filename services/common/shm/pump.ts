/**
 * Runs the data-plane loop of a process on Node's event loop.
 *
 * While there is work it polls, turn by turn, so that timers and calls get their share; then it spins
 * for a moment, giving up the core each time (a peer on the same core must be able to produce); then
 * it arms the notifications and sleeps until a doorbell kicks it. Idle, it costs nothing.
 */
import { schedYield } from './libc.ts';

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
/** How long an idle pump looks for work before it sleeps; a wake-up costs about that much. */
const SPIN_MS = 0.05;

export class Pump {
  readonly #work: PumpWork;
  readonly #spinMs: number;
  #state: 'stopped' | 'asleep' | 'scheduled' | 'running' = 'stopped';
  #kicked = false;

  constructor(work: PumpWork, options: { spinMs?: number } = {}) {
    this.#work = work;
    this.#spinMs = options.spinMs ?? SPIN_MS;
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
  }

  #schedule(): void {
    this.#state = 'scheduled';
    setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    if (this.#state === 'stopped') return;
    this.#state = 'running';
    this.#kicked = false;
    const busy = this.#pollFor(TURN_MS) || this.#spin();
    // poll() may have stopped us.
    if ((this.#state as string) === 'stopped') return;
    if (busy || this.#kicked || this.#work.arm()) {
      if (!busy) this.#work.disarm();
      this.#schedule();
    } else {
      this.#state = 'asleep';
    }
  };

  #pollFor(ms: number): boolean {
    if (!this.#work.poll()) return false;
    const end = performance.now() + ms;
    while (this.#work.poll() && performance.now() < end);
    return true;
  }

  #spin(): boolean {
    const end = performance.now() + this.#spinMs;
    while (performance.now() < end) {
      schedYield();
      if (this.#work.poll()) return true;
    }
    return false;
  }
}
