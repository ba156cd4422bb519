/**
 * Register access between a driver and a device that live in different processes.
 *
 * As on PCIe: writes are posted into a ring and the driver goes on; a read waits until the device has
 * performed all earlier writes and then answers. A device whose process has ended, or that has closed the
 * channel, is gone: the read gives all ones, which is what a PCI host returns when nobody claims the access.
 * A process that is merely stopped is waited for, as a CPU waits for its bus, unless the driver has set a limit. Which of them it is says the
 * device's lifeline (lifeline.ts), the same in every container that shares the run directory.
 *
 * Shared layout, u32 words; each word has one writer, words of different writers lie on different
 * cache lines: 0 magic (device, before anybody else looks) ·
 * 16 tail (driver: writes posted) · 32 head (device: writes done) ·
 * 48 asleep (device) · 64 read sequence, 65 read offset (driver) · 80 done sequence, 81 value (device) ·
 * 96 closed (device) · 1024.. ring of { offset, value }.
 */
import type { Memory } from '#common/memory';
import type { Bell } from './doorbell.ts';
import { schedYield } from './libc.ts';

const MAGIC = 0x6d6d_696f; // "mmio"
const TAIL = 16;
const HEAD = 32;
const ASLEEP = 48;
const READ_SEQ = 64;
const READ_OFFSET = 65;
const DONE_SEQ = 80;
const DONE_VALUE = 81;
const CLOSED = 96;
const RING = 1024;
const RING_SIZE = 2048;

/** Bytes of shared memory that a channel takes. */
export const MMIO_BYTES = (RING + 2 * RING_SIZE) * 4;
const ALL_ONES = 0xffff_ffff;
const SPINS_BEFORE_YIELD = 50;
/** A device that has not answered after this long is waited for asleep, and looked after. */
const AWAKE_MS = 5;
/**
 * How long a sleep is, and after how many of them it is asked whether the device's process is alive. Patience is counted in
 * sleeps and not by the clock: a driver that was stopped itself, or had no core, has not waited.
 */
const NAP_MS = 1;
const NAPS_PER_CHECK = 5;
/** Nobody ever wakes a sleeper here. */
const BED = new Int32Array(new SharedArrayBuffer(4));

/** Registers as a driver sees them: 32 bits wide, byte offsets from the start of the BAR. */
export interface Mmio {
  /** All ones when the device is gone. Blocks while the device's process is stopped; how long at most says `giveUpMs`. */
  read32(offset: number): number;
  write32(offset: number, value: number): void;
}

/** Registers as a device implements them. */
export interface RegisterFile {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
}

export interface MmioClientOptions {
  /** Whether the device's process lives, stopped or not; asked while an access waits. */
  readonly lives: () => boolean;
  /** Called once in every access that a living device leaves unanswered for `slowMs` (2000). */
  readonly onSlow?: () => void;
  readonly slowMs?: number;
  /** A device that leaves an access unanswered for so long counts as gone from then on; default: never. */
  readonly giveUpMs?: number;
  readonly onGivenUp?: () => void;
}

/** Driver side. */
export class MmioClient implements Mmio {
  readonly #words: Uint32Array;
  readonly #atomics: Int32Array;
  readonly #base: number;
  readonly #bell: Bell;
  readonly #options: Required<MmioClientOptions>;
  #tail: number;
  #sequence: number;
  #givenUp = false;

  /** `offset`: where the channel lies in `memory`; `bell` wakes the device's process. */
  constructor(memory: Memory, offset: number, bell: Bell, options: MmioClientOptions) {
    this.#words = memory.u32;
    this.#atomics = memory.i32;
    this.#base = offset >>> 2;
    this.#bell = bell;
    const nothing = (): void => {};
    this.#options = { onSlow: nothing, slowMs: 2000, onGivenUp: nothing, giveUpMs: Infinity, ...options };
    if (this.#words[this.#base] !== MAGIC)
      throw new Error('Cannot open register channel as its magic is wrong');
    this.#tail = this.#words[this.#base + TAIL] as number;
    this.#sequence = this.#words[this.#base + READ_SEQ] as number;
  }

  /** True once the device has closed the channel (reset, or another driver took over), or was given up. */
  get closed(): boolean {
    return this.#givenUp || Atomics.load(this.#atomics, this.#base + CLOSED) !== 0;
  }

  /** Goes nowhere when the device is gone. */
  write32(offset: number, value: number): void {
    const base = this.#base;
    if (!this.#hasRoom() && !this.#waitForRoom()) return;
    const slot = base + RING + 2 * (this.#tail & (RING_SIZE - 1));
    this.#words[slot] = offset;
    this.#words[slot + 1] = value;
    this.#tail = (this.#tail + 1) >>> 0;
    Atomics.store(this.#atomics, base + TAIL, this.#tail | 0);
    this.#wake();
  }

  read32(offset: number): number {
    const base = this.#base;
    if (this.closed) return ALL_ONES;
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#words[base + READ_OFFSET] = offset;
    Atomics.store(this.#atomics, base + READ_SEQ, this.#sequence | 0);
    this.#wake();
    if (!this.#waitFor(this.#answered)) return ALL_ONES;
    return this.#words[base + DONE_VALUE] as number;
  }

  readonly #hasRoom = (): boolean =>
    (this.#tail - Atomics.load(this.#atomics, this.#base + HEAD)) >>> 0 < RING_SIZE;

  readonly #answered = (): boolean =>
    Atomics.load(this.#atomics, this.#base + DONE_SEQ) === (this.#sequence | 0);

  #waitForRoom(): boolean {
    this.#bell.ring();
    return this.#waitFor(this.#hasRoom);
  }

  #wake(): void {
    if (Atomics.load(this.#atomics, this.#base + ASLEEP) !== 0) this.#bell.ring();
  }

  /** False when the device is gone. Blocks the thread. */
  #waitFor(done: () => boolean): boolean {
    for (let n = 0; n < SPINS_BEFORE_YIELD; n++) if (done()) return true;
    const start = performance.now();
    while (performance.now() - start < AWAKE_MS) {
      if (done()) return true;
      if (this.closed) return false;
      schedYield();
    }
    return this.#sleepUntil(done);
  }

  #sleepUntil(done: () => boolean): boolean {
    const { lives, slowMs, onSlow, giveUpMs, onGivenUp } = this.#options;
    let slow = false;
    for (let naps = 1; !done(); naps++) {
      const waited = naps * NAP_MS;
      if (this.closed) return false;
      if (naps % NAPS_PER_CHECK === 0 && !lives()) return done();
      if (!slow && waited > slowMs) {
        slow = true;
        onSlow();
      }
      if (waited > giveUpMs) {
        this.#givenUp = true;
        onGivenUp();
        return false;
      }
      Atomics.wait(BED, 0, 0, NAP_MS);
    }
    return true;
  }
}

/** Device side; several channels may share one doorbell. */
export class MmioServer {
  readonly #words: Uint32Array;
  readonly #atomics: Int32Array;
  readonly #base: number;
  #head = 0;
  #done = 0;

  /** Initialises the channel at `offset` of zeroed `memory`. */
  constructor(memory: Memory, offset: number) {
    this.#words = memory.u32;
    this.#atomics = memory.i32;
    this.#base = offset >>> 2;
    Atomics.store(this.#atomics, this.#base, MAGIC);
  }

  /** Performs what the driver asked for, in order, at most `RING_SIZE` writes. True when there was anything. */
  poll(registers: RegisterFile): boolean {
    const base = this.#base;
    // The read request is looked at first: every write posted before it is then in the ring as well.
    const asked = Atomics.load(this.#atomics, base + READ_SEQ);
    const tail = Atomics.load(this.#atomics, base + TAIL) >>> 0;
    // A driver that claims more than the ring holds is out of its mind: it gets one ring's worth.
    const pending = Math.min((tail - this.#head) >>> 0, RING_SIZE);
    for (let n = 0; n < pending; n++) {
      const slot = base + RING + 2 * (this.#head & (RING_SIZE - 1));
      this.#head = (this.#head + 1) >>> 0;
      registers.write32(this.#words[slot] as number, this.#words[slot + 1] as number);
    }
    if (pending > 0) Atomics.store(this.#atomics, base + HEAD, this.#head | 0);
    if (asked === this.#done) return pending > 0;
    this.#done = asked;
    this.#words[base + DONE_VALUE] = registers.read32(this.#words[base + READ_OFFSET] as number);
    Atomics.store(this.#atomics, base + DONE_SEQ, asked);
    return true;
  }

  /** From now on the driver rings the doorbell. True when there is work already. */
  arm(): boolean {
    const base = this.#base;
    Atomics.store(this.#atomics, base + ASLEEP, 1);
    return (
      Atomics.load(this.#atomics, base + READ_SEQ) !== this.#done ||
      Atomics.load(this.#atomics, base + TAIL) >>> 0 !== this.#head
    );
  }

  /** The device polls again: no ringing needed. */
  disarm(): void {
    Atomics.store(this.#atomics, this.#base + ASLEEP, 0);
  }

  /** Ends the channel: reads give all ones, writes go nowhere. */
  close(): void {
    Atomics.store(this.#atomics, this.#base + CLOSED, 1);
  }
}
