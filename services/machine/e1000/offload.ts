/**
 * Transmit offload contexts and what they do to a frame: checksums, and the headers of each segment of
 * a TCP segmentation. [8254x §3.3.6, §3.5.9]
 *
 * A context is what a context descriptor said; the NIC keeps two, one for segmentation and one for
 * plain checksums. Offsets count from the frame's first byte.
 */
import type { Memory } from '#common/memory';
import { TX_TUCMD_IP, TX_TUCMD_TCP } from '#common/nic/e1000';
import { get16, put16 } from '#common/wire/bytes';
import { finish, sumOfMemory } from '#common/wire/checksum';

const TCP_FIN = 0x01;
const TCP_PSH = 0x08;

export class OffloadContext {
  ipStart = 0;
  ipAt = 0;
  ipEnd = 0;
  start = 0;
  at = 0;
  end = 0;
  tcp = false;
  ipv4 = false;
  headerLength = 0;
  mss = 0;

  /** Takes over the four words of a context descriptor. Its payload length is not needed: EOP says where a frame ends. */
  load(ip: number, transport: number, lower: number, upper: number): void {
    this.ipStart = ip & 0xff;
    this.ipAt = (ip >>> 8) & 0xff;
    this.ipEnd = ip >>> 16;
    this.start = transport & 0xff;
    this.at = (transport >>> 8) & 0xff;
    this.end = transport >>> 16;
    this.tcp = (lower & TX_TUCMD_TCP) !== 0;
    this.ipv4 = (lower & TX_TUCMD_IP) !== 0;
    this.headerLength = (upper >>> 8) & 0xff;
    this.mss = upper >>> 16;
  }

  reset(): void {
    this.load(0, 0, 0, 0);
  }

  /** Becomes as `other` is now. */
  copy(other: OffloadContext): void {
    this.ipStart = other.ipStart;
    this.ipAt = other.ipAt;
    this.ipEnd = other.ipEnd;
    this.start = other.start;
    this.at = other.at;
    this.end = other.end;
    this.tcp = other.tcp;
    this.ipv4 = other.ipv4;
    this.headerLength = other.headerLength;
    this.mss = other.mss;
  }

  insertIp(memory: Memory, frame: number, length: number): void {
    insertChecksum(memory, frame, length, this.ipStart, this.ipAt, this.ipEnd, 0, false);
  }

  /** `extra` is added to the sum: with segmentation the length that the pseudo header lacks. */
  insertTransport(memory: Memory, frame: number, length: number, extra: number): void {
    insertChecksum(memory, frame, length, this.start, this.at, this.end, extra, !this.tcp);
  }
}

/**
 * Puts the checksum of bytes start..end (inclusive; 0: to the end of the frame) at `at`. What stands
 * there goes into the sum: the driver leaves zero or the pseudo header's sum. Offsets outside of the
 * frame: nothing is inserted. `udp`: a result of 0 is sent as 0xffff.
 */
export function insertChecksum(
  memory: Memory,
  frame: number,
  length: number,
  start: number,
  at: number,
  end: number,
  extra: number,
  udp: boolean,
): void {
  if (start >= length || at + 1 >= length) return;
  const stop = end === 0 || end >= length ? length : end + 1;
  if (stop <= start) return;
  const sum = finish(sumOfMemory(memory, frame + start, stop - start) + extra);
  const value = udp && sum === 0 ? 0xffff : sum;
  memory.u8[frame + at] = value >>> 8;
  memory.u8[frame + at + 1] = value & 0xff;
}

/** The header that all segments of one send share, and what changes from one to the next. */
export class SegmentHeader {
  #context = new OffloadContext();
  #ipSeed = 0;
  #transportSeed = 0;
  #flags = 0;
  #id = 0;
  #sequence = 0;

  /** Remembers what the driver put into the fields that each segment gets its own value in. */
  begin(memory: Memory, header: number, context: OffloadContext): void {
    const { u8 } = memory;
    this.#context = context;
    this.#ipSeed = get16(u8, header + context.ipAt);
    this.#transportSeed = get16(u8, header + context.at);
    this.#id = get16(u8, header + context.ipStart + 4);
    this.#flags = u8[header + context.start + 13] as number;
    this.#sequence = get16(u8, header + context.start + 4) * 0x10000 + get16(u8, header + context.start + 6);
  }

  /**
   * Makes the header at `header`, followed by `payload` bytes, that of the next segment; `last` keeps
   * FIN and PSH. `popts`: insert IP / transport checksum.
   */
  next(
    memory: Memory,
    header: number,
    payload: number,
    last: boolean,
    ip: boolean,
    transport: boolean,
  ): void {
    const { u8 } = memory;
    const context = this.#context;
    const length = context.headerLength + payload;
    const atIp = header + context.ipStart;
    const atTransport = header + context.start;
    if (context.ipv4) {
      put16(u8, atIp + 2, length - context.ipStart);
      put16(u8, atIp + 4, this.#id);
      this.#id = (this.#id + 1) & 0xffff;
    } else {
      // The manual's formula counts the fixed IPv6 header in; the protocol does not. [RFC 8200 §3]
      put16(u8, atIp + 4, length - context.ipStart - 40);
    }
    if (context.tcp) {
      put16(u8, atTransport + 4, Math.floor(this.#sequence / 0x10000));
      put16(u8, atTransport + 6, this.#sequence & 0xffff);
      this.#sequence = (this.#sequence + payload) >>> 0;
      u8[atTransport + 13] = last ? this.#flags : this.#flags & ~(TCP_FIN | TCP_PSH);
    } else {
      put16(u8, atTransport + 4, length - context.start);
    }
    if (transport) {
      put16(u8, header + context.at, this.#transportSeed);
      context.insertTransport(memory, header, length, length - context.start);
    }
    if (ip) {
      put16(u8, header + context.ipAt, this.#ipSeed);
      context.insertIp(memory, header, length);
    }
  }
}

/** True when every field that segmentation changes lies inside the header. */
export function canSegment(context: OffloadContext, room: number): boolean {
  const { headerLength, mss, ipStart, start, tcp, at, ipAt } = context;
  const inside = ipStart + 20 <= headerLength && start + (tcp ? 20 : 8) <= headerLength;
  return (
    inside && mss > 0 && headerLength + mss <= room && at + 2 <= headerLength && ipAt + 2 <= headerLength
  );
}
