/**
 * Fragments of guests' IPv4 datagrams, put together before libslirp sees them: its own way of doing so writes beside its buffers
 * at the will of any guest (version 4.7 does). [RFC 791 §3.2]
 *
 * Fragments may come in any order; one that overlaps another makes the datagram void [as RFC 5722 for IPv6]. A few datagrams are
 * under way at a time; the oldest makes room.
 */
import type { Arena } from '#common/shm/arena';
import { get16, get32, put16 } from '#common/wire/bytes';
import { finish, sumOf } from '#common/wire/checksum';
import { ETH, ETHERTYPE, etherType } from '#common/wire/ethernet';
import {
  checkIpv4,
  IPV4,
  IPV4_MF,
  IPV4_OFFSET_MASK,
  ipv4ChecksumOk,
  ipv4TotalLength,
  isFragment,
} from '#common/wire/ipv4';

/** Datagrams under way. */
const PLACES = 8;
/** The longest datagram with its Ethernet header, in whole pages. */
const PLACE_BYTES = 69_632;
const BLOCK = 8;
const MAX_PAYLOAD = 0xffff - IPV4.HEADER;
/** A fragment that has waited so long for others waits in vain. */
const PATIENCE_MS = 30_000;
const UNKNOWN = -1;
const NO_FRAME = -1;

interface Place {
  /** Where the whole frame will be. */
  readonly at: number;
  /** One for each block of the payload that has come. */
  readonly came: Uint8Array;
  blocks: number;
  /** Bytes of payload; UNKNOWN before the last fragment has come. */
  total: number;
  /** Source, destination, protocol and identification. */
  key: string;
  /** When its first fragment came; 0: free. */
  since: number;
}

export class Reassembly {
  readonly #arena: Arena;
  readonly #clock: () => number;
  readonly #at: number;
  readonly #places: Place[];
  #length = 0;

  /** `clock` counts milliseconds, from above 0 on. */
  constructor(arena: Arena, clock: () => number = () => performance.now()) {
    this.#arena = arena;
    this.#clock = clock;
    this.#at = arena.mapPrivate(PLACES * PLACE_BYTES);
    this.#places = Array.from({ length: PLACES }, (_, n) => ({
      at: this.#at + n * PLACE_BYTES,
      came: new Uint8Array(Math.ceil(MAX_PAYLOAD / BLOCK)),
      ...{ blocks: 0, total: UNKNOWN, key: '', since: 0 },
    }));
  }

  /**
   * Offset of the frame to go on with: `frame` itself unless it is a fragment; that of the whole datagram, with a header without
   * options, when this was the last fragment missing; else -1. `length` then is that frame's, until the next call.
   */
  whole(frame: number, length: number): number {
    const { u8 } = this.#arena;
    this.#length = length;
    if (length < ETH.HEADER + IPV4.HEADER || etherType(u8, frame) !== ETHERTYPE.IPV4) return frame;
    const ip = frame + ETH.HEADER;
    if (!isFragment(u8, ip)) return frame;
    const header = checkIpv4(u8, ip, length - ETH.HEADER);
    if (header < 0 || !ipv4ChecksumOk(u8, ip, header)) return NO_FRAME;
    return this.#add(frame, header, ipv4TotalLength(u8, ip) - header);
  }

  get length(): number {
    return this.#length;
  }

  close(): void {
    this.#arena.unmap(this.#at, PLACES * PLACE_BYTES);
  }

  #add(frame: number, header: number, payload: number): number {
    const { u8 } = this.#arena;
    const ip = frame + ETH.HEADER;
    const word = get16(u8, ip + IPV4.FRAGMENT);
    const from = (word & IPV4_OFFSET_MASK) * BLOCK;
    const end = from + payload;
    const last = (word & IPV4_MF) === 0;
    const place = this.#placeOf(ip);
    const fits = last || payload % BLOCK === 0;
    if (!fits || payload === 0 || !this.#take(place, from, end, last)) {
      place.since = 0;
      return NO_FRAME;
    }
    const body = place.at + ETH.HEADER + IPV4.HEADER;
    u8.copyWithin(body + from, ip + header, ip + header + payload);
    if (from === 0) u8.copyWithin(place.at, frame, frame + ETH.HEADER + IPV4.HEADER);
    if (place.total === UNKNOWN || place.blocks < Math.ceil(place.total / BLOCK)) return NO_FRAME;
    place.since = 0;
    return this.#finish(place);
  }

  /** Notes what has come. False when it cannot be a part of the same datagram. */
  #take(place: Place, from: number, end: number, last: boolean): boolean {
    if (end > MAX_PAYLOAD || (place.total !== UNKNOWN && (last || end > place.total))) return false;
    const [first, behind] = [from / BLOCK, Math.ceil(end / BLOCK)];
    if (place.came.subarray(first, behind).includes(1)) return false;
    if (last && place.came.subarray(behind).includes(1)) return false;
    place.came.fill(1, first, behind);
    place.blocks += behind - first;
    if (last) place.total = end;
    return true;
  }

  /** The place of the datagram that a fragment belongs to: its own, a free one, or the oldest. */
  #placeOf(ip: number): Place {
    const { u8 } = this.#arena;
    const addresses = [IPV4.SOURCE, IPV4.DESTINATION].map((at) => get32(u8, ip + at));
    const key = [...addresses, u8[ip + IPV4.PROTOCOL], get16(u8, ip + IPV4.ID)].join();
    const now = this.#clock();
    let oldest = this.#places[0] as Place;
    for (const place of this.#places) {
      if (now - place.since > PATIENCE_MS) place.since = 0;
      if (place.since !== 0 && place.key === key) return place;
      if (place.since < oldest.since) oldest = place;
    }
    oldest.came.fill(0);
    return Object.assign(oldest, { blocks: 0, total: UNKNOWN, key, since: now });
  }

  #finish({ at, total }: Place): number {
    const { u8 } = this.#arena;
    const ip = at + ETH.HEADER;
    u8[ip] = 0x45;
    put16(u8, ip + IPV4.TOTAL_LENGTH, IPV4.HEADER + total);
    put16(u8, ip + IPV4.FRAGMENT, 0);
    put16(u8, ip + IPV4.CHECKSUM, 0);
    put16(u8, ip + IPV4.CHECKSUM, finish(sumOf(u8, ip, IPV4.HEADER)));
    this.#length = ETH.HEADER + IPV4.HEADER + total;
    return at;
  }
}
