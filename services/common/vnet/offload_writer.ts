/**
 * Delivers a frame with offloads to a virtio driver: as it is when the driver has negotiated that, else finished in
 * software.
 *
 *   FRAME_CSUM   GUEST_CSUM: header and frame as they are     else: the checksum is computed and put in its place
 *   FRAME_TSO    GUEST_TSO4/6 (and ECN): in one piece         else, or when the buffers are too small: in segments,
 *                                                             with NEEDS_CSUM for GUEST_CSUM, else with the checksum
 *
 * Segments are frames of their own: those that find no buffer are lost, as on a wire.
 */
import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import { NET_HDR, NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV4, NET_HDR_SIZE } from '#common/virtio/net_header';
import { checksumOf, storeSum } from './checksum.ts';
import type { Fabric } from './fabric.ts';
import { type Abilities, FRAME_CSUM } from './offload.ts';
import type { RxWriter } from './rx_writer.ts';
import { SEGMENT_SCRATCH, Segmenter } from './segmenter.ts';
import type { SourceFrame } from './source_frame.ts';
import { growth, isTagged, TAG_INSERT, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from './tag.ts';

/** Bytes of private memory of a writer. */
export const WRITER_SCRATCH = SEGMENT_SCRATCH + 24;
/** csum_start has 16 bits. */
const MAX_CSUM_START = 0xffff;

export class OffloadWriter {
  readonly #memory: Memory;
  readonly #writer: RxWriter;
  readonly #fabric: Fabric;
  readonly #port: number;
  readonly #takes: Abilities;
  /** Longest frame that the receiver takes in one piece without segmentation, in bytes. */
  readonly #limit: number;
  /** Bytes by which a frame with a tag may be longer. */
  readonly #tagRoom: number;
  /** Bytes of each frame that are not counted. */
  readonly #uncounted: number;
  readonly #segmenter: Segmenter;
  /** Private scratch: 12 bytes for a header, or 4 for a tag; 2 for a checksum behind them. */
  readonly #scratch: number;
  readonly #sum: number;

  /** `scratch` is the 8-byte aligned offset of WRITER_SCRATCH private bytes. */
  constructor(
    memory: Memory,
    scratch: number,
    writer: RxWriter,
    port: {
      fabric: Fabric;
      number: number;
      takes: Abilities;
      limit: number;
      tagRoom: number;
      uncounted: number;
    },
  ) {
    this.#memory = memory;
    this.#writer = writer;
    this.#fabric = port.fabric;
    this.#port = port.number;
    this.#takes = port.takes;
    this.#limit = port.limit;
    this.#tagRoom = port.tagRoom;
    this.#uncounted = port.uncounted;
    this.#segmenter = new Segmenter(memory, scratch);
    this.#scratch = scratch + SEGMENT_SCRATCH;
    this.#sum = this.#scratch + 16;
  }

  /** Like `Endpoint.deliver`: bytes written, headers included, or `~reason`. Throws RingError. */
  deliver(frame: SourceFrame, tag: number, tci: number): number {
    if (frame.kind === FRAME_CSUM) return this.#deliverOne(frame, tag, tci);
    if (this.#takesWhole(frame)) {
      const bytes = this.#deliverWhole(frame, tag, tci);
      if (bytes >= 0) return bytes;
    }
    return this.#deliverSegments(frame, tag, tci);
  }

  #takesWhole({ offload }: SourceFrame): boolean {
    const { tso4, tso6, ecn } = this.#takes;
    return (offload.gsoType === NET_HDR_GSO_TCPV4 ? tso4 : tso6) && (ecn || !offload.ecn);
  }

  #limitFor(frame: SourceFrame, tag: number): number {
    return this.#limit + (isTagged(frame.tagged, tag) ? this.#tagRoom : 0);
  }

  #deliverOne(frame: SourceFrame, tag: number, tci: number): number {
    const writer = this.#writer;
    const shift = growth(tag);
    if (frame.length + shift > this.#limitFor(frame, tag)) return ~DROP.TOO_LONG;
    if (!writer.begin()) return ~DROP.NO_DESCRIPTOR;
    // A tag may move the checksum out of what a header can say.
    const partial = this.#takes.csum && frame.offload.csumStart + shift <= MAX_CSUM_START;
    this.#writeHeader(frame, shift, partial);
    if (partial ? this.#body(frame, tag, tci, frame.length) : this.#finished(frame, tag, tci))
      return writer.finish() - this.#uncounted;
    return this.#abandon();
  }

  /** The frame with its checksum, computed from the sender's bytes before they are copied. */
  #finished(frame: SourceFrame, tag: number, tci: number): boolean {
    const { csumStart, csumOffset } = frame.offload;
    const at = csumStart + csumOffset;
    storeSum(this.#memory, this.#sum, checksumOf(frame.sum(csumStart, frame.length)));
    return (
      this.#body(frame, tag, tci, at) &&
      this.#writer.append(this.#sum, 2) &&
      this.#writer.appendFrame(frame, at + 2, frame.length)
    );
  }

  #deliverWhole(frame: SourceFrame, tag: number, tci: number): number {
    const segmenter = this.#segmenter;
    const writer = this.#writer;
    if (!writer.begin()) return ~DROP.NO_DESCRIPTOR;
    segmenter.begin(frame, tag, tci, true);
    segmenter.whole();
    if (
      writer.append(segmenter.header, NET_HDR_SIZE + segmenter.headerBytes) &&
      writer.appendFrame(frame, frame.offload.payload, frame.length)
    ) {
      return writer.finish() - this.#uncounted;
    }
    return this.#abandon();
  }

  #deliverSegments(frame: SourceFrame, tag: number, tci: number): number {
    const segmenter = this.#segmenter;
    const writer = this.#writer;
    let bytes = 0;
    segmenter.begin(frame, tag, tci, this.#takes.csum);
    if (segmenter.headerBytes + frame.offload.gsoSize > this.#limitFor(frame, tag)) return ~DROP.TOO_LONG;
    while (segmenter.next()) {
      this.#fabric.work += 1;
      let reason: number = ~DROP.NO_DESCRIPTOR;
      if (writer.begin()) {
        if (
          writer.append(segmenter.header, NET_HDR_SIZE + segmenter.headerBytes) &&
          writer.appendFrame(frame, segmenter.from, segmenter.to)
        ) {
          bytes += writer.finish() - this.#uncounted;
          continue;
        }
        reason = this.#abandon();
      }
      if (bytes === 0) return reason;
      // The rest would find no buffer either.
      this.#fabric.lost(this.#port, ~reason);
      break;
    }
    return bytes;
  }

  /** Bytes of the frame up to `end`, with that change of its tag. `end` lies behind the tag. */
  #body(frame: SourceFrame, tag: number, tci: number, end: number): boolean {
    const writer = this.#writer;
    if (tag === TAG_KEEP) return writer.appendFrame(frame, 0, end);
    if (!writer.appendFrame(frame, 0, TAG_OFFSET)) return false;
    if (tag !== TAG_REMOVE) {
      writeTag(this.#memory, this.#scratch, tci);
      if (!writer.append(this.#scratch, TAG_SIZE)) return false;
    }
    return writer.appendFrame(frame, tag === TAG_INSERT ? TAG_OFFSET : TAG_OFFSET + TAG_SIZE, end);
  }

  #writeHeader({ offload }: SourceFrame, shift: number, partial: boolean): void {
    const { u8, view } = this.#memory;
    const at = this.#scratch;
    u8.fill(0, at, at + NET_HDR_SIZE);
    if (partial) {
      u8[at + NET_HDR.FLAGS] = NET_HDR_F_NEEDS_CSUM;
      view.setUint16(at + NET_HDR.CSUM_START, offload.csumStart + shift, true);
      view.setUint16(at + NET_HDR.CSUM_OFFSET, offload.csumOffset, true);
    }
    // The first buffer has room for it: `begin` has looked.
    this.#writer.append(at, NET_HDR_SIZE);
  }

  #abandon(): number {
    this.#writer.abandon();
    return this.#writer.mergeable ? ~DROP.NO_DESCRIPTOR : ~DROP.TOO_LONG;
  }
}
