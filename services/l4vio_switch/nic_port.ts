/**
 * A port with a NIC behind it that this very process drives: `--ixl=in-process` (F3.10).
 *
 * One copy and one wake-up less than with an `ixl` task. Received frames are switched straight out of the driver's
 * packet buffers, in batches of 32; frames to the NIC are copied into its transmit buffers and queued once for all
 * that one port sent.
 */

import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import type { Endpoint } from '#common/vnet/endpoint';
import { FRAME_TSO } from '#common/vnet/offload';
import { copyPlain, copySegment } from '#common/vnet/plain_frame';
import { Segmenter } from '#common/vnet/segmenter';
import { SourceFrame } from '#common/vnet/source_frame';
import { growth } from '#common/vnet/tag';
import { BUFFER, type IxlDevice, lengthOf, setLength } from '#ixl/ixl';
import type { Forwarder } from './forward.ts';

/** Frames of one call to the driver. */
const BATCH = 32;
/** Where the segmenter's scratch begins, behind that of the source frame. */
const SEGMENTER_AT = 16;
/** Transmit buffers of the NIC. */
export const TX_BUFFERS = 1024;

/** What this port uses of a NIC. */
export type NicDevice = Pick<
  IxlDevice,
  | 'rxBatch'
  | 'rxPending'
  | 'txBatch'
  | 'txRoom'
  | 'freeBuffer'
  | 'checkRecvIrq'
  | 'ackRecvIrq'
  | 'disableRecvIrq'
> & { readonly txPool: Pick<IxlDevice['txPool'], 'alloc'> };

export interface NicPortOptions {
  readonly number: number;
  readonly memory: Memory;
  /** Offset of SCRATCH_BYTES bytes of private memory, 8-byte aligned. */
  readonly scratch: number;
  readonly forwarder: Forwarder;
  readonly nic: NicDevice;
}

export class NicPort implements Endpoint {
  readonly #number: number;
  readonly #memory: Memory;
  readonly #forwarder: Forwarder;
  readonly #nic: NicDevice;
  readonly #frame: SourceFrame;
  readonly #received = new Int32Array(BATCH);
  readonly #piece = { count: 1, where: new Int32Array(1), len: new Int32Array(1) };
  readonly #sending = new Int32Array(TX_BUFFERS);
  #sendingCount = 0;
  /** Descriptors that were free when we looked last. */
  #room = 0;
  readonly #segmenter: Segmenter;

  constructor(options: NicPortOptions) {
    this.#number = options.number;
    this.#memory = options.memory;
    this.#forwarder = options.forwarder;
    this.#nic = options.nic;
    this.#frame = new SourceFrame(options.memory, options.scratch);
    this.#segmenter = new Segmenter(options.memory, options.scratch + SEGMENTER_AT);
  }

  /** The receive interrupt has come. True when there is something to receive: the port is to be activated. */
  onInterrupt(): boolean {
    if (this.#nic.checkRecvIrq(0)) return true;
    this.#nic.ackRecvIrq(0);
    return false;
  }

  handle(budget: number): number {
    let taken = 0;
    while (taken < budget) {
      const count = this.#nic.rxBatch(0, this.#received, Math.min(BATCH, budget - taken));
      for (let n = 0; n < count; n++) this.#take(this.#received[n] as number);
      taken += count;
      if (count < BATCH) break;
    }
    return taken;
  }

  deliver(frame: SourceFrame, tag: number, tci: number): number {
    if (frame.kind === FRAME_TSO) return this.#deliverSegments(frame, tag, tci);
    const length = frame.length + growth(tag);
    if (length > BUFFER.ROOM) return ~DROP.TOO_LONG;
    const buffer = this.#alloc();
    if (buffer < 0) return ~DROP.NO_DESCRIPTOR;
    copyPlain(this.#memory, frame, buffer + BUFFER.DATA, tag, tci);
    return this.#queue(buffer, length);
  }

  hasRoom(frames: number): boolean {
    const wanted = this.#sendingCount + Math.min(frames, BATCH);
    if (wanted > this.#room) this.#room = Math.min(this.#nic.txRoom(0), TX_BUFFERS);
    return wanted <= this.#room;
  }

  publish(): boolean {
    const sent = this.#nic.txBatch(0, this.#sending, this.#sendingCount);
    // Room was checked; a NIC that has vanished meanwhile takes nothing.
    for (let n = sent; n < this.#sendingCount; n++) this.#nic.freeBuffer(this.#sending[n] as number);
    this.#sendingCount = 0;
    this.#room = 0;
    return false;
  }

  interrupt(): void {
    // `publish` never asks for one.
  }

  enableNotifications(): boolean {
    this.#nic.ackRecvIrq(0);
    return this.#nic.rxPending(0);
  }

  disableNotifications(): void {
    this.#nic.disableRecvIrq(0);
  }

  /** The length lies in memory that the device shares: it may be another one than the driver has checked. */
  #take(buffer: number): void {
    const length = lengthOf(this.#memory, buffer);
    this.#piece.where[0] = buffer + BUFFER.DATA;
    this.#piece.len[0] = length;
    if (length <= BUFFER.ROOM && this.#frame.loadBare(this.#piece))
      this.#forwarder.forward(this.#number, this.#frame);
    else this.#forwarder.malformed(this.#number);
    this.#nic.freeBuffer(buffer);
  }

  /** A buffer for one frame, or -1. */
  #alloc(): number {
    if (this.#sendingCount >= this.#room) {
      this.#room = Math.min(this.#nic.txRoom(0), TX_BUFFERS);
      if (this.#sendingCount >= this.#room) return -1;
    }
    return this.#nic.txPool.alloc();
  }

  #queue(buffer: number, length: number): number {
    setLength(this.#memory, buffer, length);
    this.#sending[this.#sendingCount++] = buffer;
    return length;
  }

  /** As for any receiver that does not segment: segments without a buffer are lost. */
  #deliverSegments(frame: SourceFrame, tag: number, tci: number): number {
    const segmenter = this.#segmenter;
    segmenter.begin(frame, tag, tci, false);
    if (segmenter.headerBytes + frame.offload.gsoSize > BUFFER.ROOM) return ~DROP.TOO_LONG;
    let bytes = 0;
    while (segmenter.next()) {
      this.#forwarder.work += 1;
      const buffer = this.#alloc();
      if (buffer < 0) {
        if (bytes === 0) return ~DROP.NO_DESCRIPTOR;
        this.#forwarder.lost(this.#number, DROP.NO_DESCRIPTOR);
        return bytes;
      }
      bytes += this.#queue(buffer, copySegment(this.#memory, frame, segmenter, buffer + BUFFER.DATA));
    }
    return bytes;
  }
}
