/**
 * The wire `replay:FILE`: the frames of a pcapng file arrive at the NIC, as fast as it takes them or in their original
 * rhythm.
 *
 * It starts with the first frame that the NIC sends, because a NIC whose driver is not up yet takes frames and forgets them.
 * Frames that the file marks as outbound were sent by the NIC that was recorded and are left out. The file is read
 * in pieces, so its size does not matter; what turns out to be broken ends the replay with an error in the log.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { LINKTYPE_ETHERNET, OUTBOUND } from '#common/capture/pcapng';
import { type CapturedPacket, PcapngReader } from '#common/capture/reader';
import { ETH } from '#common/wire/ethernet';
import type { Wire, WireEnd } from '../wire.ts';
import { FrameRing, MAX_SLOT_FRAME } from './frame_ring.ts';
import type { WireHost } from './host.ts';

const PIECE = 256 * 1024;
const SLOTS = 64;
const PATIENCE_MS = 10_000;

export interface ReplayOptions {
  readonly path: string;
  /** True: frames keep their distances in time. */
  readonly originalTiming: boolean;
  /** True: begins at once instead of with the NIC's first frame. */
  readonly startNow: boolean;
  /** How often the file is played; Infinity: for ever. */
  readonly loops: number;
}

export class ReplayWire implements Wire {
  readonly kind = 'replay';
  readonly linkUp = true;
  readonly #options: ReplayOptions;
  readonly #host: WireHost;
  readonly #ring: FrameRing;
  readonly #piece = new Uint8Array(PIECE);
  #fd = -1;
  #reader = new PcapngReader();
  #packets: CapturedPacket[] = [];
  #next = 0;
  #loop = 1;
  /** Frames of this loop that were offered, and of all that were left out. */
  #played = 0;
  #skipped = 0;
  /** `performance.now()` and file time of this loop's first frame. */
  #startedAt = 0;
  #firstNs = -1n;
  #end: WireEnd | undefined;
  #wake: () => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #started: boolean;
  #patience: NodeJS.Timeout | undefined;

  /** Opens the file and reads its beginning. Throws when that is no pcapng capture. */
  constructor(options: ReplayOptions, host: WireHost) {
    this.#options = options;
    this.#host = host;
    this.#started = options.startNow;
    this.#open();
    try {
      this.#read();
    } catch (err) {
      closeSync(this.#fd);
      throw new Error(`Cannot replay ${options.path}: ${messageOf(err)}`, { cause: err });
    }
    this.#ring = new FrameRing(host.arena, SLOTS);
  }

  connect(end: WireEnd, wake: () => void): void {
    this.#end = end;
    this.#wake = wake;
    if (!this.#started) this.#patience = setTimeout(() => this.#complain(), PATIENCE_MS);
  }

  transmit(): void {
    if (this.#started) return;
    this.#started = true;
    clearTimeout(this.#patience);
    this.#wake();
  }

  poll(): boolean {
    if (this.#end === undefined || !this.#started) return false;
    clearTimeout(this.#timer);
    try {
      while (this.#ring.free > 0 && this.#more()) {
        const packet = this.#packets[this.#next] as CapturedPacket;
        if (this.#dueIn(packet) > 0) break;
        this.#next += 1;
        this.#stage(packet);
      }
    } catch (err) {
      this.#host.log('error', `Stopped replay of ${this.#options.path}: ${messageOf(err)}`);
      this.#finish();
    }
    return this.#ring.deliver(this.#end);
  }

  arm(): boolean {
    if (!this.#started || this.#ring.count > 0 || this.#fd < 0) return false;
    const packet = this.#packets[this.#next];
    if (packet === undefined) return true;
    const ms = this.#dueIn(packet);
    if (ms <= 0) return true;
    this.#timer = setTimeout(() => this.#wake(), Math.min(ms, 60_000));
    return false;
  }

  close(): void {
    this.#finish();
    this.#ring.close();
  }

  /** True when there is a next packet; reads on and starts over as needed. */
  #more(): boolean {
    while (this.#fd >= 0 && this.#next >= this.#packets.length) {
      if (this.#read()) continue;
      if (this.#loop >= this.#options.loops || this.#played === 0) {
        this.#log();
        this.#finish();
      } else {
        this.#loop += 1;
        this.#close();
        this.#open();
      }
    }
    return this.#fd >= 0;
  }

  #open(): void {
    const { path } = this.#options;
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw new Error(`Cannot replay ${path} as it must be a readable file: ${messageOf(cause)}`, { cause });
    }
    this.#reader = new PcapngReader();
    this.#packets = [];
    this.#next = 0;
    this.#played = 0;
    this.#firstNs = -1n;
  }

  /** Reads the next piece of the file. False at its end. */
  #read(): boolean {
    const count = readSync(this.#fd, this.#piece, 0, PIECE, null);
    if (count === 0) {
      this.#reader.end();
      return false;
    }
    this.#packets = this.#reader.push(this.#piece.subarray(0, count));
    this.#next = 0;
    return true;
  }

  /** Milliseconds until the packet is to arrive; 0 or less: now. */
  #dueIn(packet: CapturedPacket): number {
    if (!this.#options.originalTiming) return 0;
    if (this.#firstNs < 0n) {
      this.#firstNs = packet.timeNs;
      this.#startedAt = performance.now();
    }
    return this.#startedAt + Number(packet.timeNs - this.#firstNs) / 1e6 - performance.now();
  }

  #stage(packet: CapturedPacket): void {
    const { bytes, direction, originalLength } = packet;
    if (packet.interface.linkType !== LINKTYPE_ETHERNET) {
      throw new Error(`link type must be Ethernet (1): current value is ${packet.interface.linkType}`);
    }
    if (direction === OUTBOUND) return;
    if (bytes.length < originalLength || bytes.length < ETH.HEADER || bytes.length > MAX_SLOT_FRAME) {
      this.#skipped += 1;
      return;
    }
    this.#host.arena.u8.set(bytes, this.#ring.slot());
    this.#ring.commit(bytes.length);
    this.#played += 1;
  }

  #complain(): void {
    const { path } = this.#options;
    this.#host.log(
      'warn',
      `Replay of ${path} waits for the NIC to send its first frame: wire=replay:${path},start=now does not`,
    );
  }

  #log(): void {
    const skipped = this.#skipped > 0 ? `, ${this.#skipped} left out as they were cut short or too long` : '';
    this.#host.log(
      'info',
      `Replayed ${this.#options.path}: ${this.#played} frames, ${this.#loop} times${skipped}`,
    );
  }

  #finish(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#patience);
    this.#close();
    this.#packets = [];
    this.#next = 0;
  }

  /** Once: by the next time the number may be another file's. */
  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
