/**
 * What a hostile client does to the memory that it shares with the switch, one operation for each call: between the switch's
 * turns, and while it reads. `a`, `b`, `c` are any 32-bit numbers; each operation makes of them what it needs.
 */
import type { Memory } from '#common/memory';
import {
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  DESC_SIZE,
  layoutQueue,
  type QueueLayout,
} from '#common/virtio/layout';
import { tcpFrame, tsoHeader } from '#common/vnet/testing/tcp_frame';
import type { Plot } from './plot.ts';
import { BUFFER_BYTES, BUFFERS, RINGS, RO_BASE, RO_BYTES, RW_BASE, RW_BYTES } from './plot.ts';
import { MAX_SIZE } from './port.ts';

const HEADER = 12;
const RX = 0;
const TX = 1;
/** Frames that a TCP stack with offloads could have sent, with their headers: material for lies. */
const SEGMENTS = [false, true].map((ipv6) => {
  const frame = tcpFrame({ payload: 3000, ipv6 });
  return Buffer.concat([tsoHeader(frame, 1000), frame]);
}) as [Buffer, Buffer];

/** Number of kinds of operations; the first HONEST_KINDS of them keep the rules of the ring, or nearly. */
export const KINDS = 18;
export const HONEST_KINDS = 8;

export class Hostile {
  readonly #memory: Memory;
  readonly #plot: Plot;
  #layouts: QueueLayout[] = [];
  #size = MAX_SIZE;
  /** Next descriptor of honest work. */
  readonly #next = [0, 0];
  readonly #station: number;
  readonly #operations: readonly ((a: number, b: number, c: number) => void)[];

  constructor(memory: Memory, plot: Plot, station: number) {
    this.#memory = memory;
    this.#plot = plot;
    this.#station = station;
    this.setSize(MAX_SIZE);
    // Honest work more often than its share: lies are only read when there is something to read.
    this.#operations = [
      (a, b, c) => this.#send(a, b, c),
      (a, b, c) => this.#send(a, b, c),
      (a, b, c) => this.#send(a, b, c),
      (a, b) => this.#give(a, b),
      (a, b) => this.#give(a, b),
      (a, b) => this.#give(a, b),
      (a, b) => this.#give(a, b),
      (a, b) => this.#segment(a, b),
      (a, b, c) => this.#descriptor(a, b, c),
      (a, b) => this.#chain(a, b),
      (a, b, c) => this.#table(a, b, c),
      (a, b) => this.#loop(a, b),
      (a, b) => this.#index(a, b),
      (a, b) => this.#entry(a, b),
      (a, b) => this.#events(a, b),
      (a, b) => this.#used(a, b),
      (a, b) => this.#scribble(a, b),
      (a, b) => this.#header(a, b),
    ];
  }

  /** The queues were set up anew with this many entries. */
  setSize(size: number): void {
    this.#size = size;
    this.#layouts = RINGS.map((at) => layoutQueue(size, this.#plot.rw + at));
    this.#next.fill(0);
  }

  /** One operation: `kind` of `KINDS`. */
  act(kind: number, a: number, b: number, c: number): void {
    this.#operations[kind % KINDS]?.(a, b, c);
  }

  #layout(a: number): QueueLayout {
    return this.#layouts[a & 1] as QueueLayout;
  }

  /** A device address: mostly one in a buffer. */
  #address(a: number, b: number): number {
    const kind = a % 16;
    if (kind < 9) return RW_BASE + BUFFERS + (b % BUFFER_BYTES);
    if (kind === 9) return RO_BASE + (b % RO_BYTES);
    if (kind === 10) return RW_BASE + RW_BYTES - (b % 64);
    if (kind === 11) return RW_BASE - (b % 64);
    if (kind === 12) return RO_BASE + RO_BYTES - (b % 64);
    if (kind === 13) return this.#plot.rw + (b % 8192); // an offset of ours is no device address
    if (kind === 14) return RW_BASE + (b % BUFFERS); // the rings themselves
    return b * 2 ** (b % 33);
  }

  #length(a: number, b: number): number {
    const kind = a % 8;
    if (kind < 4) return b % 2048;
    if (kind === 4) return b % 16;
    if (kind === 5) return b % 70_000;
    if (kind === 6) return 0xffff_ffff - (b % 16);
    return b;
  }

  #desc(at: number, address: number, len: number, flags: number, next: number): void {
    const word = at >>> 2;
    const { u32 } = this.#memory;
    u32[word] = address % 2 ** 32;
    u32[word + 1] = Math.floor(address / 2 ** 32);
    u32[word + 2] = len;
    u32[word + 3] = flags | (next << 16);
  }

  #offer(queue: number, head: number): void {
    const { avail, used } = this.#layout(queue);
    const { u16 } = this.#memory;
    const idx = u16[avail / 2 + 1] as number;
    // As many as there can be: who offers more is stopped at once. `#index` does that.
    if (((idx - (u16[used / 2 + 1] as number)) & 0xffff) >= this.#size) return;
    u16[avail / 2 + 2 + (idx % this.#size)] = head;
    u16[avail / 2 + 1] = idx + 1;
  }

  /** The next `count` descriptors of a queue, chained, each with what `fill` says. */
  #honest(
    queue: number,
    count: number,
    fill: (n: number) => [address: number, len: number],
    write: number = queue === RX ? DESC_F_WRITE : 0,
  ): void {
    const { desc } = this.#layout(queue);
    const head = (this.#next[queue] as number) % this.#size;
    for (let n = 0; n < count; n++) {
      const i = (head + n) % this.#size;
      const [address, len] = fill(n);
      const flags = write | (n + 1 < count ? DESC_F_NEXT : 0);
      this.#desc(desc + i * DESC_SIZE, address, len, flags, (i + 1) % this.#size);
    }
    this.#next[queue] = (head + count) % this.#size;
    this.#offer(queue, head);
  }

  /** A frame to another station, to all, or to nobody known; sometimes with a tag, in one piece or several. */
  #send(a: number, b: number, c: number): void {
    const length = 14 + (b % 1500);
    const at = BUFFERS + (c % (BUFFER_BYTES - 2048));
    const { u8 } = this.#memory;
    const start = this.#plot.rw + at;
    u8.fill(0, start, start + HEADER);
    const to = a % 8 === 7 ? 0xff : a % 8;
    for (let n = 0; n < 6; n++) u8[start + HEADER + n] = to === 0xff ? 0xff : n === 0 ? 2 : n === 5 ? to : 0;
    for (let n = 0; n < 6; n++) u8[start + HEADER + 6 + n] = n === 0 ? 2 : n === 5 ? this.#station : 0;
    if ((a & 0xf0) === 0xf0) {
      u8[start + HEADER + 12] = 0x81;
      u8[start + HEADER + 13] = 0;
      u8[start + HEADER + 14] = a >>> 24;
      u8[start + HEADER + 15] = [7, 8, 9, 0][(a >>> 8) & 3] as number;
    }
    const pieces = 1 + ((a >>> 12) & 3);
    const total = HEADER + length;
    const cut = Math.floor(total / pieces);
    this.#honest(TX, pieces, (n) => [RW_BASE + at + n * cut, n + 1 < pieces ? cut : total - n * cut]);
  }

  /** Receive buffers of any size that a header fits into, or hardly. */
  #give(a: number, b: number): void {
    const len = [12, 64, 1526, 1526, 2048, 2048, 9000, b % 4096][a % 8] as number;
    const pieces = 1 + ((a >>> 4) & 1);
    const odd = (a & 0x700) === 0 ? this.#address(a >>> 12, b) : undefined;
    // Now and then one that the switch may not write, in memory that it cannot.
    const write = (a & 0x7000) === 0 ? 0 : DESC_F_WRITE;
    const readOnly = write === 0 ? RO_BASE : undefined;
    const at = (n: number): number =>
      readOnly ?? odd ?? RW_BASE + BUFFERS + ((b + n * 5000) % (BUFFER_BYTES - 9000));
    this.#honest(RX, pieces, (n) => [at(n), len], write);
  }

  /** A frame with segmentation offload, right or with one byte of it changed. */
  #segment(a: number, b: number): void {
    const bytes = SEGMENTS[a & 1] as Buffer;
    const at = BUFFERS + (b % (BUFFER_BYTES - 4096));
    this.#memory.u8.set(bytes, this.#plot.rw + at);
    if ((a & 2) !== 0) this.#memory.u8[this.#plot.rw + at + ((a >>> 8) % 96)] = b >>> 24;
    this.#honest(TX, 1, () => [RW_BASE + at, bytes.length]);
  }

  #descriptor(a: number, b: number, c: number): void {
    const at = this.#layout(a).desc + ((a >>> 1) % this.#size) * DESC_SIZE;
    this.#desc(
      at,
      this.#address(a >>> 8, b),
      this.#length(a >>> 12, c),
      (a >>> 16) & 7,
      (c >>> 8) % (this.#size + 2),
    );
  }

  /** A chain with pieces of length 0 among others, of any number. */
  #chain(a: number, b: number): void {
    const count = 1 + ((a >>> 4) % (this.#size + 3));
    const len = [0, 1, 12, 1000][(a >>> 1) & 3] as number;
    this.#honest(a & 1, count, (n) => [
      RW_BASE + BUFFERS + ((b + n * 1000) % (BUFFER_BYTES - 1000)),
      n % 3 === 0 ? 12 : len,
    ]);
  }

  /** An indirect table of any length, at any place; its entries may name tables in turn, itself included. */
  #table(a: number, b: number, c: number): void {
    const entries = 1 + ((a >>> 4) % 70);
    const at = BUFFERS + ((b % (BUFFER_BYTES - 4096)) & ~3);
    const address = RW_BASE + at;
    const nested = (c & 3) === 0;
    for (let n = 0; n < entries; n++) {
      const flags =
        (n + 1 < entries || (c & 12) === 0 ? DESC_F_NEXT : 0) | ((a & 1) === RX ? DESC_F_WRITE : 0);
      const to = nested ? address : RW_BASE + BUFFERS + ((b + n * 64) % (BUFFER_BYTES - 64));
      const next = (c & 0x30) === 0 ? (c >>> 8) % (entries + 1) : n + 1;
      const length = nested ? entries * DESC_SIZE : 40;
      this.#desc(
        this.#plot.rw + at + n * DESC_SIZE,
        to,
        length,
        flags | (nested ? DESC_F_INDIRECT : 0),
        next,
      );
    }
    const odd = (c & 0xc0) === 0 ? (c >>> 16) % 17 : 0;
    const i = (a >>> 12) % this.#size;
    const flags = DESC_F_INDIRECT | ((c & 0x300) === 0 ? DESC_F_NEXT : 0);
    this.#desc(this.#layout(a).desc + i * DESC_SIZE, address, entries * DESC_SIZE + odd, flags, i);
    this.#offer(a, i);
  }

  #loop(a: number, b: number): void {
    const { desc } = this.#layout(a);
    const i = (a >>> 1) % this.#size;
    const j = b % this.#size;
    const flags = DESC_F_NEXT | (b & DESC_F_WRITE);
    this.#desc(desc + i * DESC_SIZE, RW_BASE + BUFFERS, 64, flags, j);
    this.#desc(desc + j * DESC_SIZE, RW_BASE + BUFFERS, 64, flags, i);
    this.#offer(a, i);
  }

  #index(a: number, b: number): void {
    const word = this.#layout(a).avail / 2 + 1;
    const { u16 } = this.#memory;
    u16[word] = (a & 0x3e) === 0 ? b : (u16[word] as number) + (b % 3);
  }

  #entry(a: number, b: number): void {
    const value = (a & 2) === 0 ? b : b % this.#size;
    this.#memory.u16[this.#layout(a).avail / 2 + 2 + ((a >>> 2) % this.#size)] = value;
  }

  /** Flags, used_event; and avail_event and flags, which are the switch's. */
  #events(a: number, b: number): void {
    const { avail, used } = this.#layout(a);
    const words = [avail / 2, avail / 2 + 2 + this.#size, used / 2, used / 2 + 2 + 4 * this.#size];
    this.#memory.u16[words[(a >>> 1) & 3] as number] = b;
  }

  /** The used ring is the switch's, and it does not read it back. */
  #used(a: number, b: number): void {
    this.#memory.u32[this.#layout(a).used / 4 + ((a >>> 1) % (2 * this.#size))] = b;
  }

  #scribble(a: number, b: number): void {
    this.#memory.u8[this.#plot.rw + (a % RW_BYTES)] = b;
  }

  /** Offload header of whatever begins at a place where frames begin. */
  #header(a: number, b: number): void {
    const { desc } = this.#layout(TX);
    const lo = this.#memory.u32[(desc + (a % this.#size) * DESC_SIZE) / 4] as number;
    const at = (lo - RW_BASE) | 0;
    if (at < BUFFERS || at + HEADER > RW_BYTES) return;
    this.#memory.u8[this.#plot.rw + at + ((a >>> 8) % HEADER)] = b;
  }
}
