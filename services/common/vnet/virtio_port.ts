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
import { RxWriter } from './rx_writer.ts';
import { SourceFrame } from './source_frame.ts';
import { growth, TAG_INSERT, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from './tag.ts';

/** Largest frame that fits a NIC's packet buffer: 2048 bytes less 64 of bookkeeping. */
export const NIC_ROOM = 1984;
/** Bytes of scratch memory of one port: 16 for parsing, 16 for a tag. */
export const SCRATCH_BYTES = 32;
const TAG_SCRATCH = 16;

/** What the data plane wants of the device behind the port. */
export interface PortDevice {
  /** The driver broke a rule: reset, DEVICE_NEEDS_RESET, config interrupt. */
  fail(error: RingError): void;
  interrupt(): void;
  /** A frame from the driver was no frame: said once in a while, never per frame. */
  invalidRequest(): void;
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
  readonly #tag: number;
  readonly #fabric: Fabric;
  readonly #device: PortDevice;
  readonly #frame: SourceFrame;
  readonly #mute: boolean;
  #rx: DeviceQueue | undefined;
  #tx: DeviceQueue | undefined;
  #writer: RxWriter | undefined;
  #chain: Chain | undefined;

  constructor(options: VirtioPortOptions) {
    this.#number = options.number;
    this.#nic = options.nic;
    this.#memory = options.memory;
    this.#tag = options.scratch + TAG_SCRATCH;
    this.#fabric = options.fabric;
    this.#device = options.device;
    this.#frame = new SourceFrame(options.memory, options.scratch);
    this.#mute = options.mute ?? false;
  }

  /** The driver is ready: uses these queues from now on. */
  start(rx: DeviceQueue, tx: DeviceQueue, mergeable: boolean): void {
    this.#rx = rx;
    this.#tx = tx;
    this.#writer = new RxWriter(this.#memory, rx, mergeable);
    this.#chain = tx.newChain();
    // A receive buffer is looked for when a frame comes; nobody waits for one.
    rx.disableNotifications();
  }

  /** The device was reset, or is going: the queues' memory is not touched any more. */
  stop(): void {
    this.#rx = undefined;
    this.#tx = undefined;
    this.#writer = undefined;
    this.#chain = undefined;
  }

  get ready(): boolean {
    return this.#tx !== undefined;
  }

  handle(budget: number): number {
    const queue = this.#tx;
    const chain = this.#chain;
    if (queue === undefined || chain === undefined) return 0;
    let taken = 0;
    try {
      while (taken < budget && queue.pop(chain)) {
        if (!this.#mute) this.#take(chain);
        if (this.#fabric.takeHeld()) {
          queue.rewind(1);
          break;
        }
        taken += 1;
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
    if (this.#nic && frame.length + growth(tag) > NIC_ROOM) return ~DROP.TOO_LONG;
    try {
      if (!writer.begin()) return ~DROP.NO_DESCRIPTOR;
      if (tag === TAG_KEEP ? this.#writePlain(writer, frame) : this.#writeTagged(writer, frame, tag, tci)) {
        return this.#finish(writer);
      }
      writer.abandon();
      return writer.mergeable ? ~DROP.NO_DESCRIPTOR : ~DROP.TOO_LONG;
    } catch (err) {
      this.#fail(err);
      return ~DROP.BROKEN;
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

  #take(chain: Chain): void {
    if (this.#frame.load(chain, this.#nic)) this.#fabric.forward(this.#number, this.#frame);
    else this.#device.invalidRequest();
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

  #finish(writer: RxWriter): number {
    const bytes = writer.finish();
    // What goes to a NIC is counted as on the wire.
    return this.#nic ? bytes - NET_HDR_SIZE : bytes;
  }

  #fail(err: unknown): void {
    if (!(err instanceof RingError)) throw err;
    this.stop();
    this.#device.fail(err);
  }
}
