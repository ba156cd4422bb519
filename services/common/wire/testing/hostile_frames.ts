/**
 * Frames that break every rule they can: right on the outside, so that a stack looks at them, and wrong somewhere inside. ARP;
 * IPv4 with options, fragments, ICMP, IGMP, UDP and UDP-Lite; IPv6 with chains of extension headers, neighbour discovery,
 * MLD, UDP and TCP. All that follows from the numbers drawn.
 */
import type { Random } from '#common/testing/random';
import { ARP } from '../arp.ts';
import { put16, put32 } from '../bytes.ts';
import { finish, pseudoSum6, sumOf } from '../checksum.ts';
import { ETH, ETHERTYPE, emitEthernet } from '../ethernet.ts';
import { emitIpv4, IP_PROTOCOL, IPV4 } from '../ipv4.ts';
import { IPV6 } from '../ipv6.ts';

/** The interface that they are for. */
export interface Target {
  readonly mac: Uint8Array;
  readonly ip: number;
  /** Its link-local address: 16 bytes. */
  ip6(): Uint8Array;
}

/** A server listens there, and UDP on 53. */
export const SERVER_PORT = 80;
const DNS_PORT = 53;
const NEAR = 0x0a000202;
const BROADCAST = new Uint8Array(6).fill(0xff);
const ALL_NODES = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const [ROUTING, FRAGMENT, DESTINATION] = [43, 44, 60];
const EXTENSIONS = [0, ROUTING, FRAGMENT, DESTINATION, 59, 50, 51] as const;
const UDP_LITE = 136;
const IGMP = 2;
const [SOLICITATION, ADVERTISEMENT, ROUTER, REDIRECT] = [135, 136, 134, 137];
const ICMP6_TYPES = [
  ...([1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 143] as const),
  ...([SOLICITATION, SOLICITATION, ADVERTISEMENT, ADVERTISEMENT, ROUTER, ROUTER, REDIRECT] as const),
] as const;
/** Bytes in front of the options of neighbour discovery [RFC 4861 §4]. */
const OPTIONS_AT: Readonly<Record<number, number>> = {
  [SOLICITATION]: 24,
  [ADVERTISEMENT]: 24,
  [ROUTER]: 16,
  [REDIRECT]: 40,
};

export class HostileFrames {
  readonly #u8: Uint8Array;
  readonly #target: Target;
  readonly #random: Random;

  constructor(u8: Uint8Array, target: Target, random: Random) {
    this.#u8 = u8;
    this.#target = target;
    this.#random = random;
  }

  /** Writes a frame of up to 1514 bytes. Returns its length, now and then one that cuts it off. */
  write(at: number): number {
    const random = this.#random;
    const kind = random.below(12);
    const length = kind === 0 ? this.#arp(at) : kind < 5 ? this.#ipv4(at) : this.#ipv6(at);
    return random.oneIn(12) ? random.below(length) : length;
  }

  #noise(at: number, length: number): void {
    for (let i = 0; i < length; i++) this.#u8[at + i] = this.#random.u32();
  }

  #ethernet(at: number, type: number, to: Uint8Array = this.#target.mac): number {
    return emitEthernet(this.#u8, at, to, Uint8Array.of(2, 0, 0, 0, 0, 1 + this.#random.below(20)), type);
  }

  #arp(at: number): number {
    const random = this.#random;
    const arp = this.#ethernet(at, ETHERTYPE.ARP, random.oneIn(2) ? BROADCAST : undefined);
    this.#noise(arp, 46);
    const mostly = (value: number, bits: number): number => (random.oneIn(20) ? random.below(bits) : value);
    put16(this.#u8, arp + ARP.HARDWARE_TYPE, mostly(1, 65536));
    put16(this.#u8, arp + ARP.PROTOCOL_TYPE, mostly(ETHERTYPE.IPV4, 65536));
    this.#u8[arp + ARP.HARDWARE_LENGTH] = mostly(6, 256);
    this.#u8[arp + ARP.PROTOCOL_LENGTH] = mostly(4, 256);
    put16(this.#u8, arp + ARP.OPERATION, 1 + random.below(3));
    put32(this.#u8, arp + ARP.SENDER_IP, random.oneIn(10) ? this.#target.ip : NEAR + random.below(20));
    put32(this.#u8, arp + ARP.TARGET_IP, random.oneIn(3) ? NEAR + random.below(20) : this.#target.ip);
    return ETH.HEADER + 46;
  }

  // ---- IPv4 ----

  #ipv4(at: number): number {
    const [u8, random] = [this.#u8, this.#random];
    const ip = this.#ethernet(at, ETHERTYPE.IPV4, random.oneIn(6) ? BROADCAST : undefined);
    const protocol = random.pick([
      ...([IP_PROTOCOL.ICMP, IP_PROTOCOL.UDP, IP_PROTOCOL.UDP, IP_PROTOCOL.TCP, IGMP, UDP_LITE, 41] as const),
      random.below(256),
    ]);
    const length = 8 + random.below(random.oneIn(3) ? 1400 : 100);
    this.#noise(ip + IPV4.HEADER, length);
    emitIpv4(u8, ip, length, protocol, this.#source4(), this.#destination4());
    if (random.oneIn(5)) u8[ip] = 0x40 | (5 + random.below(11));
    put16(u8, ip + IPV4.ID, random.below(3));
    if (random.oneIn(2)) {
      const offset = random.oneIn(3) ? random.below(8192) : random.below(20);
      put16(u8, ip + IPV4.FRAGMENT, offset | (random.below(2) << 13));
    }
    if (random.oneIn(20)) put16(u8, ip + IPV4.TOTAL_LENGTH, random.below(1600));
    const header = ((u8[ip] as number) & 15) * 4;
    this.#sum(ip + IPV4.CHECKSUM, ip, header);
    this.#body4(protocol, ip + header, IPV4.HEADER + length - header);
    return ETH.HEADER + IPV4.HEADER + length;
  }

  #source4(): number {
    const random = this.#random;
    if (!random.oneIn(10)) return NEAR + random.below(10);
    return random.pick([0, 0xffffffff, 0xe0000001, 0x7f000001, this.#target.ip, NEAR | 0xff]);
  }

  #destination4(): number {
    const random = this.#random;
    if (!random.oneIn(8)) return this.#target.ip;
    return random.pick([0xe0000001, 0xffffffff, NEAR | 0xff, NEAR + 100]);
  }

  #body4(protocol: number, at: number, length: number): void {
    const [u8, random] = [this.#u8, this.#random];
    if (length < 8) return;
    if (protocol === IP_PROTOCOL.UDP || protocol === UDP_LITE) this.#udp(at, length);
    else if (protocol === IP_PROTOCOL.ICMP || protocol === IGMP) {
      const types =
        protocol === IGMP ? ([0x11, 0x12, 0x16, 0x17] as const) : ([8, 0, 3, 5, 11, 13, 17] as const);
      u8[at] = random.pick(types as readonly [number, ...number[]]);
      u8[at + 1] = random.below(6);
      this.#sum(at + 2, at, length);
    }
  }

  // ---- IPv6 ----

  #ipv6(at: number): number {
    const [u8, random] = [this.#u8, this.#random];
    const ip = this.#ethernet(at, ETHERTYPE.IPV6, random.oneIn(3) ? ALL_NODES : undefined);
    const total = IPV6.HEADER + random.below(random.oneIn(4) ? 1400 : 160);
    this.#noise(ip, total);
    put32(u8, ip, 0x6000_0000);
    put16(u8, ip + IPV6.PAYLOAD_LENGTH, total - IPV6.HEADER);
    u8[ip + IPV6.HOP_LIMIT] = random.oneIn(3) ? random.below(256) : 255;
    this.#source6(ip + IPV6.SOURCE);
    this.#destination6(ip + IPV6.DESTINATION);
    const [next, body] = this.#extensions(ip, ip + total);
    this.#body6(ip, next, body, ip + total);
    if (random.oneIn(10)) put16(u8, ip + IPV6.PAYLOAD_LENGTH, random.below(total + 20));
    return ETH.HEADER + total;
  }

  #source6(at: number): void {
    const random = this.#random;
    const kind = random.below(5);
    if (kind < 3) this.#neighbour(at);
    else if (kind === 3) this.#u8.fill(0, at, at + 16);
    else if (random.oneIn(4)) this.#u8.set(this.#target.ip6(), at);
  }

  #destination6(at: number): void {
    const [u8, random] = [this.#u8, this.#random];
    const own = this.#target.ip6();
    if (!random.oneIn(4)) {
      u8.set(own, at);
      return;
    }
    u8.fill(0, at, at + 16);
    u8.set([0xff, random.oneIn(4) ? random.below(256) : 2], at);
    u8[at + 15] = 1 + random.below(3);
    if (!random.oneIn(3)) return;
    u8.set([1, 0xff], at + 11);
    u8.set(own.subarray(13), at + 13);
  }

  /** One of a dozen link-local addresses. */
  #neighbour(at: number): void {
    this.#u8.fill(0, at, at + 16);
    this.#u8.set([0xfe, 0x80], at);
    this.#u8[at + 15] = 1 + this.#random.below(12);
  }

  /** Up to three extension headers. Returns where the next protocol is to be named, and where it begins. */
  #extensions(ip: number, end: number): [next: number, body: number] {
    const [u8, random] = [this.#u8, this.#random];
    let next = ip + IPV6.NEXT_HEADER;
    let at = ip + IPV6.HEADER;
    for (let n = random.below(4); n > 0 && random.oneIn(3) && at + 8 <= end; n--) {
      const kind = random.pick(EXTENSIONS);
      const more = kind === FRAGMENT ? 0 : random.oneIn(4) ? random.below(256) : random.below(3);
      u8[next] = kind;
      next = at;
      u8[at + 1] = more;
      if (kind === FRAGMENT) {
        put16(u8, at + 2, (random.oneIn(4) ? random.below(65536) : random.below(6) * 8) | random.below(2));
        put32(u8, at + 4, random.below(3));
      } else this.#extensionOptions(at + 2);
      at = Math.min(at + 8 * (1 + more), end);
    }
    return [next, at];
  }

  #extensionOptions(at: number): void {
    const random = this.#random;
    for (let o = at; o < at + 6; o += 2) {
      this.#u8[o] = random.pick([0, 1, 4, 5, 0xc2, 0x3e, 0x80 | random.below(128)]);
      this.#u8[o + 1] = random.oneIn(5) ? random.below(256) : random.below(5);
    }
  }

  #body6(ip: number, next: number, at: number, end: number): void {
    const [u8, random] = [this.#u8, this.#random];
    const length = end - at;
    const kind = random.below(12);
    const protocol =
      kind < 8
        ? IP_PROTOCOL.ICMPV6
        : kind < 10
          ? IP_PROTOCOL.UDP
          : kind === 10
            ? IP_PROTOCOL.TCP
            : random.pick([UDP_LITE, IP_PROTOCOL.ICMP, random.below(256)]);
    u8[next] = protocol;
    if (length < 8) return;
    let checksum = at + 6;
    if (protocol === IP_PROTOCOL.ICMPV6) {
      this.#icmp6(at, end);
      checksum = at + 2;
    } else if (protocol === IP_PROTOCOL.TCP) {
      if (length < 20) return;
      put16(u8, at, random.below(100));
      put16(u8, at + 2, SERVER_PORT);
      u8[at + 12] = (random.oneIn(4) ? random.below(16) : 5) << 4;
      u8[at + 13] = random.pick([2, 16, 24, 17, 4, 0x29, 0x12]);
      checksum = at + 16;
    } else this.#udp(at, length);
    put16(u8, checksum, 0);
    put16(u8, checksum, finish(pseudoSum6(u8, ip, protocol, length) + sumOf(u8, at, length)));
  }

  #icmp6(at: number, end: number): void {
    const [u8, random] = [this.#u8, this.#random];
    const type = random.pick(ICMP6_TYPES);
    u8[at] = type;
    u8[at + 1] = random.oneIn(5) ? random.below(256) : 0;
    if ((type === SOLICITATION || type === ADVERTISEMENT) && at + 24 <= end) {
      if (random.oneIn(2)) u8.set(this.#target.ip6(), at + 8);
      else this.#neighbour(at + 8);
    }
    for (let o = at + (OPTIONS_AT[type] ?? 8); o + 8 <= end; ) {
      const units = random.oneIn(8) ? random.below(256) : 1 + random.below(4);
      u8[o] = random.pick([1, 2, 3, 4, 5, 24, 25, 31]);
      u8[o + 1] = units;
      // A prefix that hosts may make addresses of.
      if (u8[o] === 3) u8.set([random.oneIn(2) ? random.below(256) : 64, 0xc0], o + 2);
      o += 8 * Math.max(1, units);
    }
  }

  #udp(at: number, length: number): void {
    const [u8, random] = [this.#u8, this.#random];
    put16(u8, at + 2, random.oneIn(2) ? random.below(65536) : DNS_PORT);
    put16(u8, at + 4, random.oneIn(4) ? random.below(65536) : length);
    put16(u8, at + 6, 0);
  }

  #sum(checksum: number, at: number, length: number): void {
    put16(this.#u8, checksum, 0);
    put16(this.#u8, checksum, finish(sumOf(this.#u8, at, length)));
  }
}
