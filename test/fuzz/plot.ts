/**
 * The memory of one client: what it has registered, and what lies around it.
 *
 *   guard 4 KiB | writable region 96 KiB | guard 4 KiB | read-only region 16 KiB | guard 8 KiB
 *
 * Guards belong to nobody and must stay as they are. Rings and buffers are in the writable region. The read-only region
 * holds a secret: one that other clients may see only if its owner sends it. Device addresses of the writable region cross
 * 2^32.
 */
import type { Memory } from '#common/memory';
import type { Regions } from '#common/virtio/regions';

export const PLOT_BYTES = 128 * 1024;
const PAGE = 4096;
export const RW_BYTES = 96 * 1024;
export const RO_BYTES = 16 * 1024;
const RW_AT = PAGE;
const RO_AT = RW_AT + RW_BYTES + PAGE;
/** Device addresses. */
export const RW_BASE = 0xffff_8000;
export const RO_BASE = 2 ** 33;

/** Offsets in the writable region. */
export const RINGS = [0, 8192] as const;
export const BUFFERS = 16 * 1024;
export const BUFFER_BYTES = RW_BYTES - BUFFERS;

/** Fills guards: bytes that nobody may see. */
export const GUARD = Buffer.from('c0ffee00baddcafe', 'hex');

/**
 * Eight bytes of one client. No two clients' are alike at any place: who sends its own secret and a byte or two behind it
 * (the switch adds some, too: `num_buffers`, a checksum) must not have made up another one's.
 */
function secretOf(number: number): Buffer {
  return Buffer.from([0x5e, 0xc7, 0xe7, 0xf1, 0x9b, 0x33, 0xd4, 0xa8].map((byte) => byte ^ (43 * number)));
}

export class Plot {
  /** Offsets in the memory. */
  readonly rw: number;
  readonly ro: number;
  readonly bytes: Buffer;
  readonly number: number;
  /** Eight bytes that fill the read-only region. */
  readonly secret: Buffer;
  readonly #guards: Buffer;
  readonly #secrets: Buffer;

  constructor(memory: Memory, number: number) {
    const at = number * PLOT_BYTES;
    this.rw = at + RW_AT;
    this.ro = at + RO_AT;
    this.bytes = Buffer.from(memory.buffer, at, PLOT_BYTES);
    this.number = number;
    this.secret = secretOf(number);
    this.#guards = Buffer.alloc(PLOT_BYTES, GUARD);
    this.#secrets = Buffer.alloc(RO_BYTES, this.secret);
    this.bytes.fill(GUARD);
    this.#secrets.copy(this.bytes, RO_AT);
    this.clear();
  }

  get writable(): Buffer {
    return this.bytes.subarray(RW_AT, RW_AT + RW_BYTES);
  }

  /** The client starts anew. */
  clear(): void {
    this.writable.fill(0);
  }

  /** What a client registers that behaves. */
  register(regions: Regions): void {
    regions.add(RW_BASE, RW_BYTES, this.rw, true);
    regions.add(RO_BASE, RO_BYTES, this.ro, false);
  }

  /** Throws when a byte was written that is not in the writable region. */
  check(): void {
    const same = (from: number, to: number, wanted: Buffer): boolean =>
      this.bytes.compare(wanted, 0, to - from, from, to) === 0;
    const intact =
      same(0, RW_AT, this.#guards) &&
      same(RW_AT + RW_BYTES, RO_AT, this.#guards) &&
      same(RO_AT, RO_AT + RO_BYTES, this.#secrets) &&
      same(RO_AT + RO_BYTES, PLOT_BYTES, this.#guards);
    if (!intact)
      throw new Error(`client ${this.number}: something was written outside of its writable memory`);
  }

  /** Throws when the client's memory holds what it never can have: bytes of nobody, or those of `words`. */
  checkUnseen(words: readonly Buffer[]): void {
    for (const word of [GUARD, ...words])
      if (this.writable.includes(word))
        throw new Error(`client ${this.number} has bytes that it must not see: ${word.toString('hex')}`);
  }
}
