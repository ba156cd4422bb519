/**
 * A port with a virtio-net driver behind it: the data plane (F3.8, F3.9).
 *
 * Queue 0 takes frames to the driver, queue 1 brings frames from it. A driver that breaks the ring protocol stops
 * its own port and nothing else. `nic` marks the port of an `ixl` task, which is a virtio driver too: its frames
 * come without offloads (header ignored) and what does not fit a NIC's packet buffer is dropped.
 */

import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import type { Chain } from '#common/virtio/chain';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { RingError } from '#common/virtio/errors';
import { type Features, hasFeature, NET_F_MRG_RXBUF } from '#common/virtio/features';
import {
  csumStart,
  flags,
  NET_HDR,
  NET_HDR_F_NEEDS_CSUM,
  NET_HDR_SIZE,
  writePlainHeader,
} from '#common/virtio/net_header';
import type { Endpoint } from './endpoint.ts';
import type { Fabric } from './fabric.ts';
import { FRAME_CSUM, FRAME_VERBATIM, guestAbilities, hostAbilities } from './offload.ts';
import { badOffloadText, CHECK_SCRATCH, OffloadCheck } from './offload_check.ts';
import { OffloadWriter, WRITER_SCRATCH } from './offload_writer.ts';
import { RxWriter } from './rx_writer.ts';
import { SourceFrame } from './source_frame.ts';
import { growth, isTagged, TAG_INSERT, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from './tag.ts';

/** Largest frame that fits a NIC's packet buffer: 2048 bytes less 64 of bookkeeping. */
export const NIC_ROOM = 1984;
const TAG_SCRATCH = 16;
const CHECK_AT = 32;
const WRITER_AT = CHECK_AT + CHECK_SCRATCH;
/** Bytes of scratch memory of one port, 8-byte aligned: 16 for parsing, 16 for a tag, the rest for offloads. */
export const SCRATCH_BYTES = (WRITER_AT + WRITER_SCRATCH + 63) & ~63;
/** A length that no frame exceeds. */
const NO_LIMIT = 0x7fff_ffff;
/** Ethernet header: what MTU does not count, nor a tag. */
const LINK_BYTES = 14;
/** Bytes, as a power of two, that cost about as much as the handling of a frame. */
const COST_SHIFT = 12;
/** Descriptors of a chain, likewise: a frame can be spread over as many as the queue has. */
const PIECES_SHIFT = 3;

/** What the data plane wants of the device behind the port. */
export interface PortDevice {
  /** The driver broke a rule: reset, DEVICE_NEEDS_RESET, config interrupt. */
  fail(error: RingError): void;
  interrupt(): void;
  /** A frame from the driver was no frame, or what `why` says: said once in a while, never per frame. */
  invalidRequest(why?: string): void;
}

export interface VirtioPortOptions {
  readonly number: number;
  readonly nic: boolean;
  /** Frames from the driver are taken and dropped: a port that only listens. */
  readonly mute?: boolean;
  readonly memory: Memory;
  /** Offset of SCRATCH_BYTES bytes of private memory. */
  readonly scratch: number;
  readonly fabric: Fabric;
  readonly device: PortDevice;
}

export class VirtioPort implements Endpoint {
  readonly #number: number;
  readonly #nic: boolean;
  readonly #memory: Memory;
  readonly #scratch: number;
  readonly #tag: number;
  readonly #fabric: Fabric;
  readonly #device: PortDevice;
  readonly #frame: SourceFrame;
  readonly #mute: boolean;
  #rx: DeviceQueue | undefined;
  #tx: DeviceQueue | undefined;
  /** While the driver is ready. */
  #writer: RxWriter | undefined;
  #offloads: OffloadWriter | undefined;
  #chain: Chain | undefined;
  /** Of frames from a driver that has negotiated CSUM. */
  #check: OffloadCheck | undefined;
  /** The driver acts on headers: 1 when it must not see one that we have not checked. */
  #clean = 0;
  /** Longest frame that is delivered, in bytes; see `#tooLong`. */
  #limit = NO_LIMIT;
  /** The next frame is held: nothing is to be looked at before somebody activates the port again. */
  #held = false;

  constructor(options: VirtioPortOptions) {
    this.#number = options.number;
    this.#nic = options.nic;
    this.#memory = options.memory;
    this.#scratch = options.scratch;
    this.#tag = options.scratch + TAG_SCRATCH;
    this.#fabric = options.fabric;
    this.#device = options.device;
    this.#frame = new SourceFrame(options.memory, options.scratch);
    this.#mute = options.mute ?? false;
  }

  /** The driver is ready: uses these queues from now on. `mtu` is what it was told, if it asked (bytes behind the header). */
  start(rx: DeviceQueue, tx: DeviceQueue, features: Features, mtu?: number): void {
    const memory = this.#memory;
    const takes = guestAbilities(features);
    const may = hostAbilities(features);
    this.#rx = rx;
    this.#tx = tx;
    this.#chain = tx.newChain();
    this.#limit = this.#nic ? NIC_ROOM : mtu !== undefined ? mtu + LINK_BYTES : NO_LIMIT;
    this.#clean = takes.csum ? 1 : 0;
    this.#frame.kind = FRAME_VERBATIM;
    this.#check = may.csum ? new OffloadCheck(memory, this.#scratch + CHECK_AT, may) : undefined;
    const writer = new RxWriter(memory, rx, hasFeature(features, NET_F_MRG_RXBUF));
    this.#writer = writer;
    this.#offloads = new OffloadWriter(memory, this.#scratch + WRITER_AT, writer, {
      fabric: this.#fabric,
      number: this.#number,
      takes,
      limit: this.#limit,
      tagRoom: this.#nic ? 0 : TAG_SIZE,
      // What goes to a NIC is counted as on the wire.
      uncounted: this.#nic ? NET_HDR_SIZE : 0,
    });
    // A receive buffer is looked for when a frame comes; nobody waits for one.
    rx.disableNotifications();
  }

  /** The device was reset, or is going: the queues' memory is not touched any more. */
  stop(): void {
    this.#rx = undefined;
    this.#tx = undefined;
    this.#writer = undefined;
    this.#offloads = undefined;
    this.#check = undefined;
    this.#chain = undefined;
    this.#held = false;
  }

  get ready(): boolean {
    return this.#tx !== undefined;
  }

  handle(budget: number): number {
    const queue = this.#tx;
    const chain = this.#chain;
    if (queue === undefined || chain === undefined) return 0;
    let taken = 0;
    let cost = 0;
    this.#held = false;
    try {
      while (cost < budget && queue.pop(chain)) {
        const price = this.#mute ? 1 : this.#take(chain);
        if (this.#fabric.takeHeld()) {
          queue.rewind(1);
          this.#held = true;
          break;
        }
        taken += 1;
        cost += price + (chain.count >>> PIECES_SHIFT);
        queue.push(chain.head, 0);
      }
    } catch (err) {
      this.#fail(err);
    }
    if (taken > 0) this.#fabric.touch(this.#number);
    return taken;
  }

  deliver(frame: SourceFrame, tag: number, tci: number): number {
    const writer = this.#writer;
    if (writer === undefined) return ~DROP.NOT_READY;
    try {
      if (frame.kind >= FRAME_CSUM) return (this.#offloads as OffloadWriter).deliver(frame, tag, tci);
      if (frame.length + growth(tag) > this.#limit && this.#tooLong(frame, tag)) return ~DROP.TOO_LONG;
      if (!writer.begin()) return ~DROP.NO_DESCRIPTOR;
      if (tag === TAG_KEEP ? this.#writePlain(writer, frame) : this.#writeTagged(writer, frame, tag, tci)) {
        return this.#finish(writer, frame);
      }
      writer.abandon();
      return writer.mergeable ? ~DROP.NO_DESCRIPTOR : ~DROP.TOO_LONG;
    } catch (err) {
      this.#fail(err);
      return ~DROP.BROKEN;
    }
  }

  hasRoom(frames: number): boolean {
    const rx = this.#rx;
    // Without a driver there is nothing to wait for.
    if (rx === undefined) return true;
    try {
      return rx.holds(Math.min(frames, rx.size >>> 1 || 1));
    } catch (err) {
      this.#fail(err);
      return true;
    }
  }

  publish(): boolean {
    // Both rings are shown whatever the first one wants.
    const rx = this.#rx?.flush() ?? false;
    const tx = this.#tx?.flush() ?? false;
    return rx || tx;
  }

  interrupt(): void {
    this.#device.interrupt();
  }

  enableNotifications(): boolean {
    if (this.#held) return false;
    return this.#tx?.enableNotifications() ?? false;
  }

  disableNotifications(): void {
    this.#tx?.disableNotifications();
  }

  /** True when the driver has offered receive buffers. */
  get hasBuffers(): boolean {
    return this.#rx?.hasAvailable ?? false;
  }

  /** Asks to be told of new receive buffers, too. True when there are some already. */
  awaitBuffers(): boolean {
    return this.#rx?.enableNotifications() ?? false;
  }

  /** Nobody waits for receive buffers any more. */
  ignoreBuffers(): void {
    this.#rx?.disableNotifications();
  }

  /** For a frame beyond `#limit`: an MTU leaves room for a tag, the buffer of a NIC does not. */
  #tooLong(frame: SourceFrame, tag: number): boolean {
    const room = !this.#nic && isTagged(frame.tagged, tag) ? TAG_SIZE : 0;
    return frame.length + growth(tag) > this.#limit + room;
  }

  /** Hands the frame on. Returns what it cost, in frames: a large one counts for several. */
  #take(chain: Chain): number {
    const frame = this.#frame;
    if (!frame.load(chain, this.#nic)) {
      this.#fabric.malformed(this.#number);
      this.#device.invalidRequest();
      return 1;
    }
    if (this.#check !== undefined) return this.#takeChecked(frame, this.#check);
    this.#fabric.forward(this.#number, frame);
    return 1;
  }

  #takeChecked(frame: SourceFrame, check: OffloadCheck): number {
    const bad = check.check(frame);
    if (bad !== 0) {
      this.#fabric.refuse(this.#number, frame, DROP.OFFLOAD);
      this.#device.invalidRequest(badOffloadText(bad));
      return 1;
    }
    const fabric = this.#fabric;
    fabric.work = 0;
    fabric.forward(this.#number, frame);
    return 1 + (frame.length >>> COST_SHIFT) + fabric.work;
  }

  /** Header and frame, unchanged. Often both are one run of bytes on both sides: one copy. */
  #writePlain(writer: RxWriter, frame: SourceFrame): boolean {
    if (frame.header < 0) {
      // Room for the header is certain; it is written over with a plain one.
      writer.append(this.#tag, NET_HDR_SIZE);
      writePlainHeader(this.#memory, writer.header, NET_HDR_SIZE, 1);
    } else if (frame.contiguous === frame.header + NET_HDR_SIZE) {
      return writer.append(frame.header, NET_HDR_SIZE + frame.length);
    } else {
      writer.append(frame.header, NET_HDR_SIZE);
    }
    return writer.appendFrame(frame, 0, frame.length);
  }

  #writeTagged(writer: RxWriter, frame: SourceFrame, tag: number, tci: number): boolean {
    this.#writeHeader(writer, frame, growth(tag));
    const before = Math.min(TAG_OFFSET, frame.length);
    if (!writer.appendFrame(frame, 0, before)) return false;
    if (tag !== TAG_REMOVE) {
      writeTag(this.#memory, this.#tag, tci);
      if (!writer.append(this.#tag, TAG_SIZE)) return false;
    }
    const after = tag === TAG_INSERT ? before : TAG_OFFSET + TAG_SIZE;
    return after >= frame.length || writer.appendFrame(frame, after, frame.length);
  }

  #writeHeader(writer: RxWriter, frame: SourceFrame, shift: number): void {
    writer.append(frame.header < 0 ? this.#tag : frame.header, NET_HDR_SIZE);
    const at = writer.header;
    if (frame.header < 0) writePlainHeader(this.#memory, at, NET_HDR_SIZE, 1);
    if ((flags(this.#memory, at) & NET_HDR_F_NEEDS_CSUM) === 0) return;
    const start = csumStart(this.#memory, at) + shift;
    this.#memory.u8[at + NET_HDR.CSUM_START] = start & 0xff;
    this.#memory.u8[at + NET_HDR.CSUM_START + 1] = (start >>> 8) & 0xff;
  }

  #finish(writer: RxWriter, frame: SourceFrame): number {
    const bytes = writer.finish();
    // Flags and type of a frame without offloads, whatever its sender has written there meanwhile.
    if ((this.#clean | frame.kind) !== 0) this.#memory.view.setUint16(writer.header, 0, true);
    // What goes to a NIC is counted as on the wire.
    return this.#nic ? bytes - NET_HDR_SIZE : bytes;
  }

  #fail(err: unknown): void {
    if (!(err instanceof RingError)) throw err;
    this.stop();
    this.#device.fail(err);
  }
}
