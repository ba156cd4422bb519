/**
 * Cuts a large TCP segment into small ones, one header at a time, for receivers that do not do it themselves
 * [VIRTIO 1.2 §5.1.6.2, RFC 9293 §3.1].
 *
 *   header   our private copy of the frame's, its tag changed, then for each segment: IPv4 total length, identification
 *            and checksum, IPv6 payload length; TCP sequence number, flags (FIN and PSH with the last, CWR with the first),
 *            checksum
 *   payload  a range of the source frame: the caller copies it
 *
 * 12 bytes of virtio-net header come before the Ethernet header, so that both are one copy. Nothing is allocated.
 */
import type { Memory } from '#common/memory';
import {
  NET_HDR,
  NET_HDR_F_NEEDS_CSUM,
  NET_HDR_GSO_ECN,
  NET_HDR_GSO_TCPV4,
  NET_HDR_SIZE,
} from '#common/virtio/net_header';
import { addSums, checksumOf, storeSum, sumBytes, wireWord } from './checksum.ts';
import { copyBytes } from './copy.ts';
import { MAX_HEADERS } from './offload.ts';
import type { SourceFrame } from './source_frame.ts';
import { growth, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from './tag.ts';

/** Bytes of private memory of a segmenter. */
export const SEGMENT_SCRATCH = 16 + MAX_HEADERS + TAG_SIZE + 4;

const TCP = 6;
const TCP_CHECKSUM = 16;
const FIN_PSH = 0x09;
const CWR = 0x80;

export class Segmenter {
  /** Offset of the virtio-net header; the Ethernet header is right behind it. */
  readonly header: number;
  /** Bytes of Ethernet, IP and TCP headers. */
  headerBytes = 0;
  /** Payload of the present segment: bytes [from, to) of the frame. */
  from = 0;
  to = 0;
  readonly #memory: Memory;
  readonly #frameAt: number;
  #frame: SourceFrame | undefined;
  #partial = false;
  /** Offsets in our memory. */
  #ip = 0;
  #tcp = 0;
  #ipv4 = false;
  /** Sum of the addresses and the protocol. */
  #pseudo = 0;
  #sequence = 0;
  #id = 0;
  #flags = 0;

  /** `scratch` is the 8-byte aligned offset of SEGMENT_SCRATCH private bytes. */
  constructor(memory: Memory, scratch: number) {
    this.#memory = memory;
    // The Ethernet header lies 16-aligned behind 12 bytes.
    this.header = scratch + 16 - NET_HDR_SIZE;
    this.#frameAt = scratch + 16;
  }

  /**
   * Takes a checked frame of kind FRAME_TSO, with that change of its tag. `partial`: the receiver completes the
   * checksums itself.
   */
  begin(frame: SourceFrame, tag: number, tci: number, partial: boolean): void {
    const { offload } = frame;
    const { u8, view } = this.#memory;
    this.#copyHeaders(frame, tag, tci);
    const shift = growth(tag);
    this.#frame = frame;
    this.#partial = partial;
    this.headerBytes = offload.payload + shift;
    this.#ip = this.#frameAt + offload.ip + shift;
    this.#tcp = this.#frameAt + offload.tcp + shift;
    this.#ipv4 = offload.gsoType === NET_HDR_GSO_TCPV4;
    const addresses = this.#ipv4
      ? sumBytes(this.#memory, this.#ip + 12, 8)
      : sumBytes(this.#memory, this.#ip + 8, 32);
    this.#pseudo = addSums(addresses, wireWord(TCP));
    this.#sequence = view.getUint32(this.#tcp + 4, false);
    this.#id = view.getUint16(this.#ip + 4, false);
    this.#flags = u8[this.#tcp + 13] as number;
    this.from = offload.payload;
    this.to = offload.payload;
    this.#writeNetHeader(partial ? NET_HDR_F_NEEDS_CSUM : 0, 0, 0);
  }

  /** Instead of `next`: the header of the frame as a whole, for a receiver that segments, or does not need to. */
  whole(): void {
    const { offload } = this.#frame as SourceFrame;
    const type = offload.gsoType | (offload.ecn ? NET_HDR_GSO_ECN : 0);
    this.#writeNetHeader(NET_HDR_F_NEEDS_CSUM, type, offload.gsoSize);
  }

  /** Prepares the header of the next segment, `from` and `to`. False when all have been. */
  next(): boolean {
    const frame = this.#frame as SourceFrame;
    const { offload, length } = frame;
    if (this.to >= length) return false;
    this.from = this.to;
    this.to = Math.min(this.from + offload.gsoSize, length);
    const first = this.from === offload.payload;
    let flags = this.#flags;
    if (this.to < length) flags &= ~FIN_PSH;
    if (!first) flags &= ~CWR;
    this.#memory.u8[this.#tcp + 13] = flags;
    this.#memory.view.setUint32(this.#tcp + 4, (this.#sequence + this.from - offload.payload) >>> 0, false);
    this.#writeIp(this.to - this.from);
    this.#writeChecksum(frame);
    return true;
  }

  #copyHeaders(frame: SourceFrame, tag: number, tci: number): void {
    const { headers, payload } = frame.offload;
    const to = this.#frameAt;
    if (tag === TAG_KEEP) {
      copyBytes(this.#memory, to, headers, payload);
      return;
    }
    copyBytes(this.#memory, to, headers, TAG_OFFSET);
    const written = tag === TAG_REMOVE ? TAG_OFFSET : TAG_OFFSET + TAG_SIZE;
    if (tag !== TAG_REMOVE) writeTag(this.#memory, to + TAG_OFFSET, tci);
    const after = written - growth(tag);
    copyBytes(this.#memory, to + written, headers + after, payload - after);
  }

  #writeNetHeader(flags: number, gsoType: number, gsoSize: number): void {
    const { view } = this.#memory;
    const at = this.header;
    view.setUint32(at, flags | (gsoType << 8) | (this.headerBytes << 16), true);
    const start = flags === 0 ? 0 : this.#tcp - this.#frameAt;
    view.setUint32(at + NET_HDR.GSO_SIZE, (gsoSize | (start << 16)) >>> 0, true);
    view.setUint32(at + NET_HDR.CSUM_OFFSET, flags === 0 ? 0 : TCP_CHECKSUM, true);
  }

  /** Lengths, and for IPv4 identification and checksum. */
  #writeIp(payload: number): void {
    const { view } = this.#memory;
    const ip = this.#ip;
    const bytes = this.headerBytes - (ip - this.#frameAt) + payload;
    if (!this.#ipv4) {
      view.setUint16(ip + 4, bytes - 40, false);
      return;
    }
    view.setUint16(ip + 2, bytes, false);
    view.setUint16(ip + 4, this.#id, false);
    this.#id = (this.#id + 1) & 0xffff;
    storeSum(this.#memory, ip + 10, 0);
    storeSum(this.#memory, ip + 10, ~sumBytes(this.#memory, ip, ((this.#memory.u8[ip] as number) & 0xf) * 4));
  }

  #writeChecksum(frame: SourceFrame): void {
    const memory = this.#memory;
    const headerBytes = this.headerBytes - (this.#tcp - this.#frameAt);
    const pseudo = addSums(this.#pseudo, wireWord(headerBytes + this.to - this.from));
    if (this.#partial) {
      storeSum(memory, this.#tcp + TCP_CHECKSUM, pseudo);
      return;
    }
    storeSum(memory, this.#tcp + TCP_CHECKSUM, 0);
    const header = addSums(pseudo, sumBytes(memory, this.#tcp, headerBytes));
    storeSum(memory, this.#tcp + TCP_CHECKSUM, checksumOf(addSums(header, frame.sum(this.from, this.to))));
  }
}
