/**
 * Receive checksum offload: what the descriptor says about IP, TCP and UDP checksums, and the raw
 * packet checksum. Ethernet II with at most one VLAN tag; IPv4 with options, IPv6 without extension
 * headers, no fragments. [8254x §3.2.9, §13.4 RXCSUM]
 */
import type { Memory } from '#common/memory';
import {
  RX_ERROR_IPE,
  RX_ERROR_TCPE,
  RX_STATUS_IPCS,
  RX_STATUS_IXSM,
  RX_STATUS_TCPCS,
  RXCSUM_IPOFL,
  RXCSUM_PCSS,
  RXCSUM_TUOFL,
} from '#common/nic/e1000';
import { get16 } from '#common/wire/bytes';
import { finish, fold, sumOfMemory } from '#common/wire/checksum';

const TYPE_IPV4 = 0x0800;
const TYPE_IPV6 = 0x86dd;
const TCP = 6;
const UDP = 17;

export class RxChecksum {
  /** Status bits of the last frame: IXSM, IPCS, TCPCS. */
  status = 0;
  /** Error bits of the last frame: IPE, TCPE. */
  errors = 0;
  /** Packet checksum of the last frame, as the number that the descriptor holds. */
  checksum = 0;
  readonly #memory: Memory;
  // Where TCP or UDP lies and what it adds up to; start 0: not summed.
  #start = 0;
  #end = 0;
  #sum = 0;
  #sound = false;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /**
   * Examines `length` bytes (without FCS) at `offset`. `etherType` and `l3` (from the frame's start)
   * are those behind a VLAN tag; `stripped`: bytes at 12 that the host will not see (0 or 4). `sound`: TCP and UDP
   * checksums are known to be right, so that what the segment adds up to follows from its pseudo header.
   */
  examine(
    offset: number,
    length: number,
    etherType: number,
    l3: number,
    stripped: number,
    rxcsum: number,
    sound: boolean,
  ): void {
    this.#sound = sound;
    this.status = 0;
    this.errors = 0;
    this.#start = 0;
    if (rxcsum & (RXCSUM_IPOFL | RXCSUM_TUOFL)) {
      if (etherType === TYPE_IPV4) this.#ipv4(offset + l3, length - l3, rxcsum);
      else if (etherType === TYPE_IPV6) this.#ipv6(offset + l3, length - l3, rxcsum);
    }
    if (this.status === 0) this.status = RX_STATUS_IXSM;
    this.checksum = this.#packet(offset, length, stripped, rxcsum & RXCSUM_PCSS);
  }

  #ipv4(at: number, room: number, rxcsum: number): void {
    const { u8 } = this.#memory;
    const header = ((u8[at] as number) & 0xf) * 4;
    if (room < 20 || (u8[at] as number) >>> 4 !== 4 || header < 20 || header > room) return;
    if (rxcsum & RXCSUM_IPOFL) {
      this.status |= RX_STATUS_IPCS;
      if (fold(sumOfMemory(this.#memory, at, header)) !== 0xffff) this.errors |= RX_ERROR_IPE;
    }
    const total = get16(u8, at + 2);
    const fragment = get16(u8, at + 6) & 0x3fff;
    if ((rxcsum & RXCSUM_TUOFL) === 0 || fragment !== 0 || total < header || total > room) return;
    this.#transport(at + header, total - header, u8[at + 9] as number, at + 12, 8);
  }

  #ipv6(at: number, room: number, rxcsum: number): void {
    const { u8 } = this.#memory;
    if ((rxcsum & RXCSUM_TUOFL) === 0 || room < 40 || (u8[at] as number) >>> 4 !== 6) return;
    const payload = get16(u8, at + 4);
    if (payload <= room - 40) this.#transport(at + 40, payload, u8[at + 6] as number, at + 8, 32);
  }

  #transport(at: number, length: number, protocol: number, addresses: number, addressBytes: number): void {
    if (protocol === UDP) {
      // A UDP checksum of 0 means that there is none.
      if (length < 8 || get16(this.#memory.u8, at + 6) === 0) return;
    } else if (protocol !== TCP || length < 20) return;
    this.#start = at;
    this.#end = at + length;
    const pseudo = sumOfMemory(this.#memory, addresses, addressBytes) + protocol + length;
    this.status |= RX_STATUS_TCPCS;
    this.#sum = this.#sound ? 0xffff - fold(pseudo) : sumOfMemory(this.#memory, at, length);
    if (fold(this.#sum + pseudo) !== 0xffff) this.errors |= RX_ERROR_TCPE;
  }

  /** Complemented sum from byte `first` of what the host sees; padding and FCS are zeros and add nothing. */
  #packet(offset: number, length: number, stripped: number, first: number): number {
    const end = offset + length;
    let from = offset + first + (first >= 12 ? stripped : 0);
    if (from >= end) return 0xffff;
    let sum = 0;
    if (stripped > 0 && first < 12) {
      sum = sumOfMemory(this.#memory, from, 12 - first);
      from = offset + 12 + stripped;
      if (first & 1) return finish(sum + swap(fold(sumOfMemory(this.#memory, from, end - from))));
    }
    return finish(sum + this.#sumWithTransport(from, end));
  }

  /** The sum of from..end, using the transport's sum when it was taken already. */
  #sumWithTransport(from: number, end: number): number {
    const known = this.#start !== 0 && from <= this.#start && ((this.#start - from) & 1) === 0;
    if (!known || (this.#end !== end && ((this.#end - from) & 1) !== 0))
      return sumOfMemory(this.#memory, from, end - from);
    const before = sumOfMemory(this.#memory, from, this.#start - from);
    return before + this.#sum + sumOfMemory(this.#memory, this.#end, end - this.#end);
  }
}

function swap(sum: number): number {
  return ((sum & 0xff) << 8) | (sum >>> 8);
}
