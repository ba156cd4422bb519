/**
 * Writes pcapng: blocks are built in a part of a `Memory` that holds the frames too, so that a packet is one `copyWithin`.
 *
 * Little-endian, nanosecond timestamps. Whenever the buffer is nearly full, and on `flush`, the bytes go to the sink. The
 * packet path does not allocate.
 */

import type { Memory } from '../memory.ts';
import {
  BLOCK,
  BLOCK_HEADER,
  BYTE_ORDER_MAGIC,
  EPB,
  IDB,
  ISB,
  LINKTYPE_ETHERNET,
  OPTION,
  padded,
  SHB,
} from './pcapng.ts';

/** Takes finished bytes: `length` from `offset` in the memory; they are overwritten after the call. */
export type CaptureSink = (offset: number, length: number) => void;

const ENCODER = new TextEncoder();
const OPTION_HEADER = 4;
/** Bytes of an enhanced packet block besides packet and comment: header, flags option, end of options, trailer. */
const EPB_OVERHEAD = EPB.DATA + 8 + 4 + 4;
const NANOSECONDS = 9;

export class PcapngWriter {
  readonly #memory: Memory;
  readonly #start: number;
  readonly #end: number;
  readonly #sink: CaptureSink;
  #at: number;
  #interfaces = 0;

  /** The buffer is `size` bytes from `offset` (a multiple of 4); packets longer than it are cut short. */
  constructor(memory: Memory, offset: number, size: number, sink: CaptureSink) {
    if (size < 4096)
      throw new RangeError(
        `Cannot write capture as its buffer must have at least 4096 bytes: current value is ${size}`,
      );
    this.#memory = memory;
    this.#start = offset;
    this.#end = offset + size;
    this.#sink = sink;
    this.#at = offset;
  }

  /** The section header; call it first. `application` is who captured. */
  section(application: string): void {
    const { view } = this.#memory;
    const start = this.#begin(BLOCK.SHB);
    view.setUint32(start + SHB.MAGIC, BYTE_ORDER_MAGIC, true);
    view.setUint16(start + SHB.MAJOR, 1, true);
    view.setUint16(start + SHB.MINOR, 0, true);
    view.setUint32(start + SHB.SECTION_LENGTH, 0xffffffff, true);
    view.setUint32(start + SHB.SECTION_LENGTH + 4, 0xffffffff, true);
    this.#at = start + SHB.OPTIONS;
    this.#option(OPTION.SHB_USERAPPL, ENCODER.encode(application.slice(0, 255)));
    this.#finish(start);
    this.#interfaces = 0;
  }

  /** Describes an Ethernet interface; frames are cut to `snapLength` bytes, 0: they are not. Returns its number for `packet`. */
  interface(name: string, description = '', snapLength = 0): number {
    const { view } = this.#memory;
    const start = this.#begin(BLOCK.IDB);
    view.setUint16(start + IDB.LINKTYPE, LINKTYPE_ETHERNET, true);
    view.setUint16(start + IDB.LINKTYPE + 2, 0, true);
    view.setUint32(start + IDB.SNAPLEN, snapLength, true);
    this.#at = start + IDB.OPTIONS;
    this.#option(OPTION.IF_NAME, ENCODER.encode(name.slice(0, 255)));
    if (description !== '') this.#option(OPTION.IF_DESCRIPTION, ENCODER.encode(description.slice(0, 255)));
    this.#option(OPTION.IF_TSRESOL, Uint8Array.of(NANOSECONDS));
    this.#finish(start);
    return this.#interfaces++;
  }

  /**
   * One frame of `length` bytes at `frame` in the memory. `milliseconds` since the epoch, with fraction; `direction`
   * is `INBOUND` or `OUTBOUND`; `comment` is UTF-8 (e.g. `dropComment(reason)`).
   */
  packet(
    interfaceId: number,
    milliseconds: number,
    direction: number,
    frame: number,
    length: number,
    comment?: Uint8Array,
  ): void {
    const seconds = Math.floor(milliseconds / 1000);
    const nanoseconds = Math.floor((milliseconds - seconds * 1000) * 1e6);
    this.packetAt(interfaceId, seconds, nanoseconds, direction, frame, length, length, comment);
  }

  /**
   * The same with the exact time since the epoch, and for a frame of `original` bytes of which `kept` are there.
   */
  packetAt(
    interfaceId: number,
    seconds: number,
    nanoseconds: number,
    direction: number,
    frame: number,
    kept: number,
    original: number,
    comment?: Uint8Array,
  ): void {
    const { u8, view } = this.#memory;
    const extra = EPB_OVERHEAD + (comment === undefined ? 0 : OPTION_HEADER + padded(comment.length));
    const captured = Math.min(kept, this.#end - this.#start - extra - 4);
    if (this.#at + extra + padded(captured) > this.#end) this.flush();
    const start = this.#begin(BLOCK.EPB);
    view.setUint32(start + EPB.INTERFACE, interfaceId, true);
    this.#time(start + EPB.TIME_HIGH, seconds, nanoseconds);
    view.setUint32(start + EPB.CAPTURED, captured, true);
    view.setUint32(start + EPB.ORIGINAL, original, true);
    u8.copyWithin(start + EPB.DATA, frame, frame + captured);
    this.#at = start + EPB.DATA + captured;
    this.#pad();
    if (comment !== undefined) this.#option(OPTION.COMMENT, comment);
    view.setUint16(this.#at, OPTION.EPB_FLAGS, true);
    view.setUint16(this.#at + 2, 4, true);
    view.setUint32(this.#at + OPTION_HEADER, direction, true);
    this.#at += OPTION_HEADER + 4;
    this.#finish(start);
  }

  /** What became of an interface's frames until now: `received` in all, `dropped` of them by the capture. */
  statistics(interfaceId: number, milliseconds: number, received: number, dropped: number): void {
    const { view } = this.#memory;
    const start = this.#begin(BLOCK.ISB);
    const seconds = Math.floor(milliseconds / 1000);
    view.setUint32(start + ISB.INTERFACE, interfaceId, true);
    this.#time(start + ISB.TIME_HIGH, seconds, Math.floor((milliseconds - seconds * 1000) * 1e6));
    this.#at = start + ISB.OPTIONS;
    this.#option(OPTION.ISB_IFRECV, little64(received));
    this.#option(OPTION.ISB_IFDROP, little64(dropped));
    this.#finish(start);
  }

  /** Hands everything written so far to the sink. */
  flush(): void {
    if (this.#at > this.#start) this.#sink(this.#start, this.#at - this.#start);
    this.#at = this.#start;
  }

  /** Nanoseconds since the epoch are above 2^53: 16 bits are kept apart while multiplying. High word first, then low. */
  #time(at: number, seconds: number, nanoseconds: number): void {
    const upper = Math.floor(seconds / 0x10000) * 1e9;
    const lower = (upper % 0x10000) * 0x10000 + (seconds % 0x10000) * 1e9 + nanoseconds;
    const { view } = this.#memory;
    view.setUint32(at, Math.floor(upper / 0x10000) + Math.floor(lower / 2 ** 32), true);
    view.setUint32(at + 4, lower % 2 ** 32, true);
  }

  #begin(type: number): number {
    // Section and interface blocks are below 1 KiB: their texts are cut.
    if (this.#at + 2048 > this.#end && type !== BLOCK.EPB) this.flush();
    this.#memory.view.setUint32(this.#at, type, true);
    return this.#at;
  }

  #option(code: number, value: Uint8Array): void {
    const { u8, view } = this.#memory;
    view.setUint16(this.#at, code, true);
    view.setUint16(this.#at + 2, value.length, true);
    u8.set(value, this.#at + OPTION_HEADER);
    this.#at += OPTION_HEADER + value.length;
    this.#pad();
  }

  #pad(): void {
    while ((this.#at - this.#start) & 3) this.#memory.u8[this.#at++] = 0;
  }

  #finish(start: number): void {
    const { view } = this.#memory;
    view.setUint32(this.#at, OPTION.END, true);
    const total = this.#at + 4 + BLOCK_HEADER.TRAILER - start;
    view.setUint32(start + BLOCK_HEADER.LENGTH, total, true);
    view.setUint32(start + total - BLOCK_HEADER.TRAILER, total, true);
    this.#at = start + total;
  }
}

/** A count as 8 bytes, little-endian. */
function little64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
