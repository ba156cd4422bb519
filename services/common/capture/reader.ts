/**
 * Reads pcapng as a stream: push bytes, get packets. Both byte orders, several sections and interfaces.
 *
 * For files from anywhere: each length is checked against its block and each block against `MAX_BLOCK`. What is kept is one
 * block, and a few words for each description and statistics block; what is wrong is said with its offset in the file. Unknown blocks and options are skipped.
 */

import {
  BLOCK,
  BLOCK_HEADER,
  BYTE_ORDER_MAGIC,
  CaptureError,
  EPB,
  IDB,
  ISB,
  MAX_BLOCK,
  OPTION,
  padded,
  SHB,
  SPB,
} from './pcapng.ts';

export interface CaptureInterface {
  readonly linkType: number;
  readonly name: string;
  /** Longest packet kept, 0 for all. */
  readonly snapLength: number;
  /** Timestamp units per second. */
  readonly unitsPerSecond: bigint;
}

export interface CapturedPacket {
  readonly interface: CaptureInterface;
  /** Nanoseconds since the epoch; 0 in simple packet blocks, which have no time. */
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** Length on the cable; more than `bytes` when the packet was cut. */
  readonly originalLength: number;
  /** 0 unknown, 1 inbound, 2 outbound. */
  readonly direction: number;
  readonly comment: string;
}

/** What an interface statistics block says; undefined: it does not. */
export interface InterfaceStatistics {
  readonly interface: CaptureInterface;
  /** Packets that the interface received. */
  readonly received: number | undefined;
  /** Those of them that it had no room for. */
  readonly dropped: number | undefined;
}

const CLASSIC_MAGIC = new Set([0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1]);
const TEXT = new TextDecoder();

export class PcapngReader {
  /** The beginning of a block whose end has not come; `#held` bytes of it. */
  #rest = new Uint8Array();
  #held = 0;
  #offset = 0;
  #little = true;
  #inSection = false;
  #interfaces: CaptureInterface[] = [];
  /** Of all interfaces so far, in the order of the file. */
  readonly statistics: InterfaceStatistics[] = [];

  /** Takes the next bytes of the file; the packets that are complete now. Throws `CaptureError`. */
  push(chunk: Uint8Array): CapturedPacket[] {
    const joins = this.#held > 0;
    if (joins) this.#hold(chunk);
    const bytes = joins ? this.#rest.subarray(0, this.#held) : chunk;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const packets: CapturedPacket[] = [];
    let at = 0;
    while (bytes.length - at >= BLOCK_HEADER.SMALLEST) {
      const length = this.#blockLength(view, at);
      if (at + length > bytes.length) break;
      this.#block(new DataView(bytes.buffer, bytes.byteOffset + at, length), packets);
      at += length;
      this.#offset += length;
    }
    if (!joins) this.#hold(bytes.subarray(at));
    else if (at > 0) {
      this.#rest.copyWithin(0, at, this.#held);
      this.#held -= at;
    }
    return packets;
  }

  /** The file is at its end. Throws `CaptureError` when it ends inside a block, or had none. */
  end(): void {
    if (this.#held > 0) throw this.#bad('a block must end inside the file', `${this.#held} bytes left`);
    if (!this.#inSection) throw this.#bad('it must start with a section header', 'an empty file');
  }

  /** Keeps bytes for later. The room doubles, so that a block in many chunks is not copied with each of them. */
  #hold(bytes: Uint8Array): void {
    const length = this.#held + bytes.length;
    if (length > this.#rest.length) {
      const room = new Uint8Array(Math.max(length, 2 * this.#rest.length));
      room.set(this.#rest.subarray(0, this.#held));
      this.#rest = room;
    }
    this.#rest.set(bytes, this.#held);
    this.#held = length;
  }

  /** Checks type and length of the block at `at`; a section header sets the byte order first. */
  #blockLength(view: DataView, at: number): number {
    if (view.getUint32(at, true) === BLOCK.SHB) {
      const magic = view.getUint32(at + SHB.MAGIC, true);
      if (magic !== BYTE_ORDER_MAGIC && magic !== 0x4d3c2b1a)
        throw this.#bad('byte-order magic must be 1a2b3c4d', hex(magic));
      this.#little = magic === BYTE_ORDER_MAGIC;
    } else if (!this.#inSection) {
      const magic = view.getUint32(at, true);
      const hint = CLASSIC_MAGIC.has(magic)
        ? ' (a classic pcap file: "editcap -F pcapng in.pcap out.pcapng" converts it)'
        : '';
      throw this.#bad('it must start with a section header (0a0d0d0a)', `${hex(magic)}${hint}`);
    }
    const length = view.getUint32(at + BLOCK_HEADER.LENGTH, this.#little);
    if (length < BLOCK_HEADER.SMALLEST || length > MAX_BLOCK || length % 4 !== 0) {
      throw this.#bad(
        `block length must be a multiple of 4 in ${BLOCK_HEADER.SMALLEST}..${MAX_BLOCK}`,
        length,
      );
    }
    return length;
  }

  #block(view: DataView, packets: CapturedPacket[]): void {
    const length = view.byteLength;
    const trailer = view.getUint32(length - BLOCK_HEADER.TRAILER, this.#little);
    if (trailer !== length) throw this.#bad(`both lengths of a block must be equal (${length})`, trailer);
    const type = view.getUint32(0, this.#little);
    if (type === BLOCK.SHB) this.#section(view);
    else if (type === BLOCK.IDB) this.#interface(view);
    else if (type === BLOCK.EPB) packets.push(this.#enhanced(view));
    else if (type === BLOCK.SPB) packets.push(this.#simple(view));
    else if (type === BLOCK.ISB) this.#statistics(view);
  }

  #section(view: DataView): void {
    this.#needs(view, SHB.OPTIONS, 'section header');
    const major = view.getUint16(SHB.MAJOR, this.#little);
    if (major !== 1) throw this.#bad('major version must be 1', major);
    this.#inSection = true;
    this.#interfaces = [];
  }

  #interface(view: DataView): void {
    this.#needs(view, IDB.OPTIONS, 'interface description');
    let name = '';
    let unitsPerSecond = 1_000_000n;
    this.#options(view, IDB.OPTIONS, (code, at, size) => {
      if (code === OPTION.IF_NAME) name = text(view, at, size);
      if (code === OPTION.IF_TSRESOL && size >= 1) unitsPerSecond = this.#resolution(view.getUint8(at));
    });
    const linkType = view.getUint16(IDB.LINKTYPE, this.#little);
    this.#interfaces.push({
      linkType,
      name,
      snapLength: view.getUint32(IDB.SNAPLEN, this.#little),
      unitsPerSecond,
    });
  }

  /** if_tsresol: a negative power of 10, or of 2 when the top bit is set. */
  #resolution(value: number): bigint {
    const power = value & 0x7f;
    if (power > (value & 0x80 ? 63 : 19)) throw this.#bad('timestamp resolution must fit 64 bits', value);
    return (value & 0x80 ? 2n : 10n) ** BigInt(power);
  }

  #enhanced(view: DataView): CapturedPacket {
    this.#needs(view, EPB.DATA, 'enhanced packet block');
    const about = this.#interfaceOf(view.getUint32(EPB.INTERFACE, this.#little));
    const captured = view.getUint32(EPB.CAPTURED, this.#little);
    this.#fits(view, EPB.DATA, captured);
    let direction = 0;
    let comment = '';
    this.#options(view, EPB.DATA + padded(captured), (code, at, size) => {
      if (code === OPTION.EPB_FLAGS && size === 4) direction = view.getUint32(at, this.#little) & 3;
      if (code === OPTION.COMMENT) comment = text(view, at, size);
    });
    const units =
      (BigInt(view.getUint32(EPB.TIME_HIGH, this.#little)) << 32n) |
      BigInt(view.getUint32(EPB.TIME_LOW, this.#little));
    return {
      interface: about,
      timeNs: (units * 1_000_000_000n) / about.unitsPerSecond,
      bytes: copy(view, EPB.DATA, captured),
      originalLength: view.getUint32(EPB.ORIGINAL, this.#little),
      direction,
      comment,
    };
  }

  #simple(view: DataView): CapturedPacket {
    this.#needs(view, SPB.DATA, 'simple packet block');
    const about = this.#interfaceOf(0);
    const originalLength = view.getUint32(SPB.ORIGINAL, this.#little);
    const captured = about.snapLength > 0 ? Math.min(originalLength, about.snapLength) : originalLength;
    this.#fits(view, SPB.DATA, captured);
    return {
      interface: about,
      timeNs: 0n,
      bytes: copy(view, SPB.DATA, captured),
      originalLength,
      direction: 0,
      comment: '',
    };
  }

  #statistics(view: DataView): void {
    this.#needs(view, ISB.OPTIONS, 'interface statistics block');
    const about = this.#interfaceOf(view.getUint32(ISB.INTERFACE, this.#little));
    const counts = new Map<number, number>();
    this.#options(view, ISB.OPTIONS, (code, at, size) => {
      if (size === 8) counts.set(code, Number(view.getBigUint64(at, this.#little)));
    });
    const [received, dropped] = [counts.get(OPTION.ISB_IFRECV), counts.get(OPTION.ISB_IFDROP)];
    this.statistics.push({ interface: about, received, dropped });
  }

  #options(view: DataView, from: number, each: (code: number, at: number, size: number) => void): void {
    const end = view.byteLength - BLOCK_HEADER.TRAILER;
    for (let at = from; at + 4 <= end; ) {
      const code = view.getUint16(at, this.#little);
      const size = view.getUint16(at + 2, this.#little);
      if (code === OPTION.END) return;
      if (at + 4 + size > end) throw this.#bad(`option ${code} must end inside its block`, size);
      each(code, at + 4, size);
      at += 4 + padded(size);
    }
  }

  #interfaceOf(id: number): CaptureInterface {
    const about = this.#interfaces[id];
    if (about === undefined) throw this.#bad(`interface id must be below ${this.#interfaces.length}`, id);
    return about;
  }

  #needs(view: DataView, size: number, what: string): void {
    if (view.byteLength < size + BLOCK_HEADER.TRAILER)
      throw this.#bad(`${what} must have at least ${size + 4} bytes`, view.byteLength);
  }

  #fits(view: DataView, at: number, size: number): void {
    const room = view.byteLength - BLOCK_HEADER.TRAILER - at;
    if (size > room) throw this.#bad(`captured length must fit its block (${room})`, size);
  }

  #bad(rule: string, value: number | string): CaptureError {
    return new CaptureError(
      `Cannot read capture at byte ${this.#offset} as ${rule}: current value is ${value}`,
    );
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}

function copy(view: DataView, at: number, size: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, size).slice();
}

function text(view: DataView, at: number, size: number): string {
  return TEXT.decode(new Uint8Array(view.buffer, view.byteOffset + at, size)).replace(/\0+$/, '');
}
