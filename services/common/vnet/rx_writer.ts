/**
 * Writes one frame into a driver's receive buffers (F3.8): one chain, or with MRG_RXBUF as many as it takes.
 *
 * `begin`, then `append` for each range of bytes, then `finish` or `abandon`. Chains are given back with `abandon`
 * as if they had never been taken. Nothing is allocated per frame.
 */
import type { Memory } from '#common/memory';
import type { Chain } from '#common/virtio/chain';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { RingError } from '#common/virtio/errors';
import { NET_HDR, NET_HDR_SIZE } from '#common/virtio/net_header';
import { copyBytes } from './copy.ts';
import type { SourceFrame } from './source_frame.ts';

export class RxWriter {
  readonly #memory: Memory;
  readonly #queue: DeviceQueue;
  /** May a frame go over several chains? */
  readonly mergeable: boolean;
  readonly #chain: Chain;
  /** Chains that are full: what to push when the frame is complete. */
  readonly #heads: Uint16Array;
  readonly #lengths: Int32Array;
  #full = 0;
  /** Where the header of the frame went. */
  #header = 0;
  #piece = 0;
  #at = 0;
  #room = 0;
  /** Bytes in the present chain. */
  #written = 0;

  constructor(memory: Memory, queue: DeviceQueue, mergeable: boolean) {
    this.#memory = memory;
    this.#queue = queue;
    this.mergeable = mergeable;
    this.#chain = queue.newChain();
    this.#heads = new Uint16Array(queue.size);
    this.#lengths = new Int32Array(queue.size);
  }

  /** Offset of the frame's 12-byte header. */
  get header(): number {
    return this.#header;
  }

  /** Takes the first chain. False when there is none. Throws RingError for one without room for the header. */
  begin(): boolean {
    this.#full = 0;
    if (!this.#queue.pop(this.#chain)) return false;
    this.#enter(0);
    this.#written = 0;
    this.#header = this.#at;
    if (this.#room < NET_HDR_SIZE) {
      throw new RingError(
        'VIRTIO_LENGTH',
        `Target buffer too small for header: the first receive buffer must have ${NET_HDR_SIZE} bytes, it has ${this.#room}`,
      );
    }
    return true;
  }

  /** Appends bytes of our memory. False when the driver's buffers are used up: `abandon`. Throws RingError. */
  append(from: number, length: number): boolean {
    let done = 0;
    while (done < length) {
      if (this.#room === 0 && !this.#next()) return false;
      const size = Math.min(this.#room, length - done);
      copyBytes(this.#memory, this.#at, from + done, size);
      this.#at += size;
      this.#room -= size;
      this.#written += size;
      done += size;
    }
    return true;
  }

  /** Appends bytes [start, end) of a frame. */
  appendFrame(frame: SourceFrame, start: number, end: number): boolean {
    if (frame.contiguous >= 0) return this.append(frame.contiguous + start, end - start);
    const { pieces } = frame;
    let skip = frame.skip + start;
    let left = end - start;
    for (let n = frame.first; left > 0 && n < pieces.count; n++) {
      const size = Math.min((pieces.len[n] as number) - skip, left);
      if (size <= 0) {
        skip -= pieces.len[n] as number;
        continue;
      }
      if (!this.append((pieces.where[n] as number) + skip, size)) return false;
      left -= size;
      skip = 0;
    }
    return true;
  }

  /** The frame is complete: returns its chains, not visible before the queue's `flush`. Returns the bytes written. */
  finish(): number {
    const { u8 } = this.#memory;
    const chains = this.#full + 1;
    u8[this.#header + NET_HDR.NUM_BUFFERS] = chains & 0xff;
    u8[this.#header + NET_HDR.NUM_BUFFERS + 1] = chains >>> 8;
    let bytes = this.#written;
    for (let n = 0; n < this.#full; n++) {
      this.#queue.push(this.#heads[n] as number, this.#lengths[n] as number);
      bytes += this.#lengths[n] as number;
    }
    this.#queue.push(this.#chain.head, this.#written);
    return bytes;
  }

  /** Gives all chains of this frame back. */
  abandon(): void {
    this.#queue.rewind(this.#full + 1);
  }

  /** The next piece with room: of this chain, or of a further one if buffers are mergeable. */
  #next(): boolean {
    // A chain may be full of empty pieces and the driver may offer for ever: both loops are bounded.
    while (this.#room === 0) {
      if (this.#piece + 1 < this.#chain.count) this.#enter(this.#piece + 1);
      else if (!this.mergeable || !this.#nextChain()) return false;
    }
    return true;
  }

  #nextChain(): boolean {
    if (this.#full + 1 === this.#queue.size) return false;
    const { head } = this.#chain;
    if (!this.#queue.pop(this.#chain)) return false;
    this.#heads[this.#full] = head;
    this.#lengths[this.#full] = this.#written;
    this.#full += 1;
    this.#written = 0;
    this.#enter(0);
    return true;
  }

  #enter(piece: number): void {
    if (this.#chain.writable[piece] !== 1) {
      throw new RingError(
        'VIRTIO_RIGHTS',
        `Cannot write receive chain ${this.#chain.head} as buffer ${piece} is not writable`,
      );
    }
    this.#piece = piece;
    this.#at = this.#chain.where[piece] as number;
    this.#room = this.#chain.len[piece] as number;
  }
}
