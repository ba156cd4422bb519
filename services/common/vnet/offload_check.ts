/**
 * Checks the offload header of a frame whose sender has negotiated CSUM, before anybody relies on it.
 *
 * The header and, for segmentation, the frame's own headers are read once, into private memory: what was checked is
 * what is used and what is passed on. Everything that does not fit the frame is refused, the frame is dropped.
 *
 *   csum_start  at or behind the IP header; csum_start + csum_offset + 2 inside the frame (CVE-2024-11614)
 *   gso_type    negotiated, and NEEDS_CSUM with it
 *   gso_size    MIN_GSO_SIZE up to the frame's length
 *   hdr_len     a hint that nobody needs: not more than the frame; what is passed on is the real number
 *   headers     Ethernet, at most two tags, IPv4 or IPv6 (hop-by-hop and destination options at most), TCP; lengths that
 *               are those of the frame; no fragment; neither SYN nor RST; csum_start is the TCP header
 */
import type { Memory } from '#common/memory';
import {
  NET_HDR,
  NET_HDR_F_NEEDS_CSUM,
  NET_HDR_GSO_ECN,
  NET_HDR_GSO_NONE,
  NET_HDR_GSO_TCPV4,
  NET_HDR_GSO_TCPV6,
} from '#common/virtio/net_header';
import { type Abilities, FRAME_CSUM, FRAME_PLAIN, FRAME_TSO, MAX_HEADERS } from './offload.ts';
import type { SourceFrame } from './source_frame.ts';
import { TAG_OFFSET, TAG_SIZE } from './tag.ts';

/** Bytes of private memory of a check. */
export const CHECK_SCRATCH = MAX_HEADERS;
/** Least payload of a segment: Linux makes none below it, and each segment costs us work. */
export const MIN_GSO_SIZE = 8;

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const ETHERTYPE_IPV6 = 0x86dd;
const IPV4_BYTES = 20;
const IPV4_FRAGMENT = 0x3fff; // more fragments, offset
const IPV6_BYTES = 40;
const HOP_BY_HOP = 0;
const TCP = 6;
const DESTINATION_OPTIONS = 60;
const TCP_BYTES = 20;
const TCP_CHECKSUM = 16;
const TCP_SYN_RST = 0x06;

/** Why an offload header was refused; 0 is none. */
export const BAD = {
  CSUM_START: 1,
  CSUM_OFFSET: 2,
  GSO_TYPE: 3,
  GSO_SIZE: 4,
  HDR_LEN: 5,
  NO_CSUM: 6,
  NOT_TCP: 7,
  HEADERS: 8,
} as const;

const TEXT: readonly string[] = [
  '',
  'csum_start must lie behind the Ethernet header, for TCP segmentation at the TCP header',
  'csum_start + csum_offset + 2 must lie inside the frame, for TCP segmentation csum_offset must be 16',
  'gso_type must be one that was negotiated',
  `gso_size must be ${MIN_GSO_SIZE} up to the length of the frame`,
  'hdr_len must not exceed the frame',
  'a frame to be segmented must have NEEDS_CSUM',
  'a frame to be segmented must be TCP over IPv4 or IPv6, unfragmented, without SYN and RST',
  'the lengths in the IP and TCP headers must be those of the frame',
];

/** The rule that was broken. */
export function badOffloadText(bad: number): string {
  return TEXT[bad] ?? 'unknown';
}

export class OffloadCheck {
  readonly #memory: Memory;
  /** Offset of the private copy of the frame's headers. */
  readonly #headers: number;
  readonly #may: Abilities;
  /** Bytes of headers in the copy. */
  #copied = 0;

  /** `scratch` is the offset of CHECK_SCRATCH private bytes; `may` what the sender has negotiated. */
  constructor(memory: Memory, scratch: number, may: Abilities) {
    this.#memory = memory;
    this.#headers = scratch;
    this.#may = may;
  }

  /** Sets the frame's `kind` and `offload`. Returns 0, or one of BAD: the frame is to be dropped. */
  check(frame: SourceFrame): number {
    const word = this.#memory.view.getUint32(frame.header, true);
    const gso = (word >>> 8) & 0xff;
    // What is refused is never anything else, whoever may still look at it.
    frame.kind = FRAME_PLAIN;
    if ((word & NET_HDR_F_NEEDS_CSUM) === 0 && gso === NET_HDR_GSO_NONE) return 0;
    const { offload } = frame;
    const sizes = this.#memory.view.getUint32(frame.header + NET_HDR.GSO_SIZE, true);
    offload.csumStart = sizes >>> 16;
    offload.csumOffset = this.#memory.view.getUint16(frame.header + NET_HDR.CSUM_OFFSET, true);
    const l2 = frame.tagged ? TAG_OFFSET + TAG_SIZE + 2 : TAG_OFFSET + 2;
    if ((word & NET_HDR_F_NEEDS_CSUM) === 0) return BAD.NO_CSUM;
    if (offload.csumStart < l2) return BAD.CSUM_START;
    if (offload.csumStart + offload.csumOffset + 2 > frame.length) return BAD.CSUM_OFFSET;
    if (gso !== NET_HDR_GSO_NONE) return this.#segmentation(frame, gso, word >>> 16, sizes & 0xffff);
    frame.kind = FRAME_CSUM;
    return 0;
  }

  #segmentation(frame: SourceFrame, gso: number, hdrLen: number, gsoSize: number): number {
    const { offload } = frame;
    const type = gso & ~NET_HDR_GSO_ECN;
    offload.ecn = (gso & NET_HDR_GSO_ECN) !== 0;
    offload.gsoType = type;
    offload.gsoSize = gsoSize;
    const may = this.#may;
    const negotiated = (type === NET_HDR_GSO_TCPV4 && may.tso4) || (type === NET_HDR_GSO_TCPV6 && may.tso6);
    if (!negotiated || (offload.ecn && !may.ecn)) return BAD.GSO_TYPE;
    if (gsoSize < MIN_GSO_SIZE || gsoSize > frame.length) return BAD.GSO_SIZE;
    if (hdrLen > frame.length) return BAD.HDR_LEN;
    this.#copied = Math.min(frame.length, MAX_HEADERS);
    frame.copyTo(this.#headers, 0, this.#copied);
    offload.headers = this.#headers;
    const bad = this.#ethernet(frame, type);
    if (bad !== 0) return bad;
    if (offload.csumStart !== offload.tcp) return BAD.CSUM_START;
    if (offload.csumOffset !== TCP_CHECKSUM) return BAD.CSUM_OFFSET;
    // What fits one segment is no work for segmentation: the checksum is all there is to do.
    frame.kind = frame.length - offload.payload > gsoSize ? FRAME_TSO : FRAME_CSUM;
    return 0;
  }

  #ethernet(frame: SourceFrame, type: number): number {
    let at = TAG_OFFSET;
    let ethertype = this.#be16(at);
    // The tag that forwarding has seen is still there, or still is not.
    if ((ethertype === ETHERTYPE_VLAN) !== frame.tagged) return BAD.HEADERS;
    for (let n = 0; n < 2 && (ethertype === ETHERTYPE_VLAN || ethertype === ETHERTYPE_QINQ); n++) {
      at += TAG_SIZE;
      ethertype = this.#be16(at);
    }
    frame.offload.ip = at + 2;
    if (type === NET_HDR_GSO_TCPV4) return ethertype === ETHERTYPE_IPV4 ? this.#ipv4(frame) : BAD.NOT_TCP;
    return ethertype === ETHERTYPE_IPV6 ? this.#ipv6(frame) : BAD.NOT_TCP;
  }

  #ipv4(frame: SourceFrame): number {
    const { ip } = frame.offload;
    if (ip + IPV4_BYTES > this.#copied) return BAD.HEADERS;
    const first = this.#u8(ip);
    const bytes = (first & 0xf) * 4;
    if (first >>> 4 !== 4 || bytes < IPV4_BYTES || this.#be16(ip + 2) !== frame.length - ip)
      return BAD.HEADERS;
    if (this.#u8(ip + 9) !== TCP || (this.#be16(ip + 6) & IPV4_FRAGMENT) !== 0) return BAD.NOT_TCP;
    return this.#tcp(frame, ip + bytes);
  }

  #ipv6(frame: SourceFrame): number {
    const { ip } = frame.offload;
    if (ip + IPV6_BYTES > this.#copied) return BAD.HEADERS;
    if (this.#u8(ip) >>> 4 !== 6 || this.#be16(ip + 4) !== frame.length - ip - IPV6_BYTES) return BAD.HEADERS;
    let next = this.#u8(ip + 6);
    let at = ip + IPV6_BYTES;
    // Each header takes 8 bytes or more of the copy, which bounds the walk.
    while (next === HOP_BY_HOP || next === DESTINATION_OPTIONS) {
      if (at + 8 > this.#copied) return BAD.HEADERS;
      next = this.#u8(at);
      at += (this.#u8(at + 1) + 1) * 8;
    }
    // Routing headers change the address that the checksum is about.
    return next === TCP ? this.#tcp(frame, at) : BAD.NOT_TCP;
  }

  #tcp(frame: SourceFrame, at: number): number {
    const { offload } = frame;
    if (at + TCP_BYTES > this.#copied) return BAD.HEADERS;
    const bytes = (this.#u8(at + 12) >>> 4) * 4;
    if (bytes < TCP_BYTES || at + bytes > this.#copied || at + bytes >= frame.length) return BAD.HEADERS;
    if ((this.#u8(at + 13) & TCP_SYN_RST) !== 0) return BAD.NOT_TCP;
    offload.tcp = at;
    offload.payload = at + bytes;
    return 0;
  }

  /** Of the private copy; beyond it 0 would be found, so the callers look at `#copied` first. */
  #u8(at: number): number {
    return this.#memory.u8[this.#headers + at] as number;
  }

  #be16(at: number): number {
    return (this.#u8(at) << 8) | this.#u8(at + 1);
  }
}
