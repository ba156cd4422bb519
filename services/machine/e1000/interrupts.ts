/**
 * Interrupt causes, mask, and everything that delays an interrupt. [8254x §3.2.7, §13.4.17-13.4.21]
 *
 * The pin is asserted while a cause is pending and not masked, but never sooner than ITR after the
 * last assertion. So the first interrupt after a pause is delivered at once; only the next ones are
 * spread. RDTR/RADV and TIDV/TADV delay the causes RXT0 and TXDW themselves.
 */
import { DELAY_FPD, DELAY_UNIT_NS, ICR_RXT0, ICR_SRPD, ICR_TXDW, ITR_UNIT_NS } from '#common/nic/e1000';

/** One packet timer with its absolute companion, in microseconds; deadlines are Infinity while stopped. */
class DelayTimer {
  delay = 0;
  absolute = 0;
  #packetAt = Infinity;
  #absoluteAt = Infinity;

  get deadline(): number {
    return Math.min(this.#packetAt, this.#absoluteAt);
  }

  start(now: number): void {
    this.#packetAt = now + this.delay;
    if (this.absolute > 0 && this.#absoluteAt === Infinity) this.#absoluteAt = now + this.absolute;
  }

  stop(): void {
    this.#packetAt = Infinity;
    this.#absoluteAt = Infinity;
  }
}

export interface InterruptHost {
  setIrq(asserted: boolean): void;
  now(): number;
  setTimer(at: number): void;
}

export class Interrupts {
  readonly #host: InterruptHost;
  readonly #rx = new DelayTimer();
  readonly #tx = new DelayTimer();
  #causes = 0;
  #mask = 0;
  #asserted = false;
  #interval = 0;
  /** Earliest time of the next assertion. */
  #notBefore = 0;
  #armed = Infinity;
  #smallPacket = 0;

  constructor(host: InterruptHost) {
    this.#host = host;
  }

  get mask(): number {
    return this.#mask;
  }

  reset(): void {
    this.#causes = 0;
    this.#mask = 0;
    this.#interval = 0;
    this.#notBefore = 0;
    this.#smallPacket = 0;
    for (const timer of [this.#rx, this.#tx]) {
      timer.delay = 0;
      timer.absolute = 0;
      timer.stop();
    }
    this.#update();
    this.#rearm();
  }

  /** Reading ICR acknowledges everything. */
  readIcr(): number {
    const causes = this.#causes;
    this.clear(causes);
    return causes;
  }

  /** A write to ICR: ones clear. */
  clear(causes: number): void {
    this.#causes &= ~causes;
    this.#update();
  }

  raise(causes: number): void {
    this.#causes |= causes;
    this.#update();
  }

  setMask(bits: number): void {
    this.#mask |= bits & 0x1_ffff;
    this.#update();
  }

  clearMask(bits: number): void {
    this.#mask &= ~bits;
    this.#update();
  }

  setItr(value: number): void {
    this.#interval = ((value & 0xffff) * ITR_UNIT_NS) / 1000;
    if (this.#interval === 0) this.#notBefore = 0;
    this.#update();
  }

  setRxDelay(value: number): void {
    this.#rx.delay = microseconds(value);
    if (value & DELAY_FPD) this.#fire(this.#rx, ICR_RXT0);
  }

  setRxAbsolute(value: number): void {
    this.#rx.absolute = microseconds(value);
  }

  setTxDelay(value: number): void {
    this.#tx.delay = microseconds(value);
    if (value & DELAY_FPD) this.#fire(this.#tx, ICR_TXDW);
  }

  setTxAbsolute(value: number): void {
    this.#tx.absolute = microseconds(value);
  }

  /** Frames of at most so many bytes interrupt at once; 0: none. */
  setSmallPacket(bytes: number): void {
    this.#smallPacket = bytes & 0xfff;
  }

  /** A frame of `length` bytes is in the host's memory. */
  received(length: number): void {
    if (length <= this.#smallPacket) this.raise(ICR_SRPD);
    if (this.#rx.delay === 0) {
      if ((this.#causes & ICR_RXT0) === 0) this.raise(ICR_RXT0);
      return;
    }
    this.#rx.start(this.#host.now());
    this.#rearm();
  }

  /** Descriptors with RS were written back; `delayed`: all of them asked for delay (IDE). */
  transmitted(delayed: boolean): void {
    if (!delayed || this.#tx.delay === 0) {
      if ((this.#causes & ICR_TXDW) === 0) this.raise(ICR_TXDW);
      return;
    }
    this.#tx.start(this.#host.now());
    this.#rearm();
  }

  /** The time asked for has come. */
  timer(): void {
    this.#armed = Infinity;
    const now = this.#host.now();
    if (this.#rx.deadline <= now) this.#fire(this.#rx, ICR_RXT0);
    if (this.#tx.deadline <= now) this.#fire(this.#tx, ICR_TXDW);
    this.#update();
    this.#rearm();
  }

  #fire(timer: DelayTimer, cause: number): void {
    timer.stop();
    this.raise(cause);
  }

  #update(): void {
    const wanted = (this.#causes & this.#mask) !== 0;
    if (wanted === this.#asserted) return;
    if (wanted && this.#interval > 0) {
      const now = this.#host.now();
      if (now < this.#notBefore) {
        this.#rearm();
        return;
      }
      this.#notBefore = now + this.#interval;
    }
    this.#asserted = wanted;
    this.#host.setIrq(wanted);
  }

  #rearm(): void {
    const throttled = !this.#asserted && (this.#causes & this.#mask) !== 0;
    const at = Math.min(this.#rx.deadline, this.#tx.deadline, throttled ? this.#notBefore : Infinity);
    if (at === this.#armed) return;
    this.#armed = at;
    this.#host.setTimer(at);
  }
}

function microseconds(value: number): number {
  return ((value & 0xffff) * DELAY_UNIT_NS) / 1000;
}
