/**
 * The frame that is being switched: where its pieces are and what its Ethernet header says.
 *
 * One object for all frames, filled again for each. Every foreign field is read once, here; what is decided and
 * what is written into tags later comes from these copies, so a client that changes its buffer afterwards fools
 * only itself. MAC addresses are two integers, as in the MAC table: the first two bytes and the last four.
 */
import type { Memory } from '#common/memory';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { sumBytes, sumPieces } from './checksum.ts';
import { copyBytes } from './copy.ts';
import { FRAME_VERBATIM, Offload } from './offload.ts';
import { TAG_OFFSET, TAG_SIZE, TPID_LE } from './tag.ts';

/** Largest frame: 64 KiB of payload as segmentation offload makes them, Ethernet header, two tags. */
export const MAX_FRAME = 65536 + 14 + 2 * TAG_SIZE;
/** Bytes that forwarding looks at: addresses and a tag. */
const PARSED = TAG_OFFSET + TAG_SIZE;

/** Pieces of memory in order, as a device queue's Chain has them; offsets into the memory. */
export interface Pieces {
  readonly count: number;
  readonly where: ArrayLike<number>;
  readonly len: ArrayLike<number>;
}

export class SourceFrame {
  pieces: Pieces = { count: 0, where: [], len: [] };
  /** Offset of the 12-byte virtio-net header, or -1: the frame came from a NIC and has a plain one. */
  header = -1;
  /** First piece with data, and how many bytes of it are not data. */
  first = 0;
  skip = 0;
  /** Bytes of the frame. */
  length = 0;
  /** Offset of the frame when it is in one piece, else -1. */
  contiguous = -1;
  dstLo = 0;
  dstHi = 0;
  srcLo = 0;
  srcHi = 0;
  tagged = false;
  /** Tag control information as on the wire, host order; 0 when untagged. */
  tci = 0;
  /** One of FRAME_*: what the virtio-net header means. Set by the port that the frame comes from. */
  kind = FRAME_VERBATIM;
  /** For FRAME_CSUM and FRAME_TSO. */
  readonly offload = new Offload();

  readonly #memory: Memory;
  readonly #scratch: number;

  /** `scratch` is the offset of 16 bytes that only this object uses. */
  constructor(memory: Memory, scratch: number) {
    this.#memory = memory;
    this.#scratch = scratch;
  }

  /** VLAN id of the tag. */
  get vlan(): number {
    return this.tci & 0xfff;
  }

  get multicast(): boolean {
    return (this.dstHi & 1) === 1;
  }

  /** Ethernet type behind the tag, if there is one; -1 in a frame that is too short. Read from the frame at each call. */
  etherType(): number {
    const at = this.tagged ? TAG_OFFSET + TAG_SIZE : TAG_OFFSET;
    if (at + 2 > this.length) return -1;
    return (this.#byte(at) << 8) | this.#byte(at + 1);
  }

  /** Takes a driver's chain: a 12-byte header, then the frame. False when it is no such thing. */
  load(chain: Pieces, plainHeader: boolean): boolean {
    const firstLength = chain.len[0] as number;
    if (chain.count === 0 || firstLength < NET_HDR_SIZE) return false;
    const first = firstLength === NET_HDR_SIZE ? 1 : 0;
    return this.#locate(
      chain,
      plainHeader ? -1 : (chain.where[0] as number),
      first,
      first === 0 ? NET_HDR_SIZE : 0,
    );
  }

  /** Takes a bare frame: what an in-process NIC received. */
  loadBare(pieces: Pieces): boolean {
    return this.#locate(pieces, -1, 0, 0);
  }

  /** Copies bytes [start, end) of the frame to offset `to`. */
  copyTo(to: number, start: number, end: number): void {
    const { pieces } = this;
    let target = to;
    let skip = this.skip + start;
    for (let n = this.first; target < to + end - start && n < pieces.count; n++) {
      const size = Math.min((pieces.len[n] as number) - skip, to + end - start - target);
      if (size > 0) copyBytes(this.#memory, target, (pieces.where[n] as number) + skip, size);
      target += Math.max(size, 0);
      skip = Math.max(skip - (pieces.len[n] as number), 0);
    }
  }

  /** Byte `index` of the frame, which must be inside of it. */
  #byte(index: number): number {
    const { pieces } = this;
    let at = this.skip + index;
    let n = this.first;
    while (at >= (pieces.len[n] as number)) at -= pieces.len[n++] as number;
    return this.#memory.u8[(pieces.where[n] as number) + at] as number;
  }

  /** Sum of bytes [start, end) of the frame, for checksums: see `checksum.ts`. */
  sum(start: number, end: number): number {
    if (this.contiguous >= 0) return sumBytes(this.#memory, this.contiguous + start, end - start);
    return sumPieces(this.#memory, this.pieces, this.first, this.skip, start, end);
  }

  #locate(pieces: Pieces, header: number, first: number, skip: number): boolean {
    let length = 0 - skip;
    for (let n = first; n < pieces.count; n++) length += pieces.len[n] as number;
    if (length <= 0 || length > MAX_FRAME) return false;
    this.pieces = pieces;
    this.header = header;
    this.first = first;
    this.skip = skip;
    this.length = length;
    const start = (pieces.where[first] as number) + skip;
    const room = (pieces.len[first] as number) - skip;
    this.contiguous = room === length ? start : -1;
    this.#parse(room >= PARSED ? start : this.#gather());
    return true;
  }

  /** A short first piece: collects the bytes to parse, zeros behind the end of a runt. */
  #gather(): number {
    const { pieces } = this;
    const scratch = this.#scratch;
    this.#memory.u8.fill(0, scratch, scratch + PARSED);
    let done = 0;
    let skip = this.skip;
    for (let n = this.first; n < pieces.count && done < PARSED; n++) {
      const size = Math.min((pieces.len[n] as number) - skip, PARSED - done);
      copyBytes(this.#memory, scratch + done, (pieces.where[n] as number) + skip, size);
      done += size;
      skip = 0;
    }
    return scratch;
  }

  #parse(at: number): void {
    const { view } = this.#memory;
    this.dstHi = view.getUint16(at, true);
    this.dstLo = view.getInt32(at + 2, true);
    this.srcHi = view.getUint16(at + 6, true);
    this.srcLo = view.getInt32(at + 8, true);
    // Half a tag is none: what is behind the end would be the VLAN.
    this.tagged = view.getUint16(at + TAG_OFFSET, true) === TPID_LE && this.length >= PARSED;
    this.tci = this.tagged ? view.getUint16(at + TAG_OFFSET + 2, false) : 0;
  }
}
