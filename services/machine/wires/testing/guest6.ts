/** The IPv6 half of the tests' guest: neighbour discovery [RFC 4861], ping [RFC 4443] and UDP, over a `TestGuest`. */
import { finish, fold, pseudoSum6, sumOf } from '#common/wire/checksum';
import { ETH, ETHERTYPE, emitEthernet, etherType } from '#common/wire/ethernet';
import { IP_PROTOCOL } from '#common/wire/ipv4';
import { checkIpv6, emitIpv6, IPV6, parseIpv6 } from '#common/wire/ipv6';
import { emitUdp, UDP, udpDestination } from '#common/wire/udp';
import type { TestGuest } from './guest.ts';

const ICMP6 = 58;
export const ICMP6_TYPE = {
  ECHO: 128,
  ECHO_REPLY: 129,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
} as const;

const ALL_ROUTERS = address('ff02::2');
const TARGET_LINK_LAYER = 2;
/** Solicited and override. */
const NA_FLAGS = 0x60;

/** Sixteen bytes. Throws when it is no IPv6 address. */
export function address(text: string): Uint8Array {
  const bytes = parseIpv6(text);
  if (bytes === undefined) throw new Error(`no IPv6 address: ${text}`);
  return bytes;
}

/** An IPv6 packet that arrived, its ICMPv6 or UDP checksum checked. */
export interface Packet6 {
  readonly source: Uint8Array;
  readonly nextHeader: number;
  readonly payload: Uint8Array;
}

/** Answers for `ip` on the guest's cable. */
export class Guest6 {
  readonly ip: Uint8Array;
  /** Where all its frames go. */
  router = new Uint8Array(6);
  readonly #guest: TestGuest;

  constructor(guest: TestGuest, ip: string) {
    this.#guest = guest;
    this.ip = address(ip);
    guest.listen((frame) => this.#answerSolicitation(frame));
  }

  /** Asks for a router; the prefix that it advertises. Its frames go to that router from now on. */
  async solicitRouter(): Promise<{ prefix: Uint8Array; length: number }> {
    const message = Uint8Array.of(ICMP6_TYPE.ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0);
    return this.#guest.exchange(
      'router solicitation',
      () => this.#send(ALL_ROUTERS, ICMP6, message, address('::')),
      (frame) => {
        const packet = packet6Of(frame);
        if (packet?.payload[0] !== ICMP6_TYPE.ROUTER_ADVERTISEMENT) return undefined;
        this.router = frame.slice(ETH.SOURCE, ETH.SOURCE + 6);
        return prefixOf(packet.payload);
      },
    );
  }

  /** Sends an echo request; the payload of the reply. */
  ping(to: Uint8Array, payload: Uint8Array): Promise<Uint8Array> {
    const message = new Uint8Array(8 + payload.length);
    message.set([ICMP6_TYPE.ECHO, 0, 0, 0, 0x12, 0x34, 0, 1]);
    message.set(payload, 8);
    return this.#guest.exchange(
      'ping',
      () => this.#send(to, ICMP6, message),
      (frame) => {
        const packet = packet6Of(frame);
        return packet?.payload[0] === ICMP6_TYPE.ECHO_REPLY ? packet.payload.slice(8) : undefined;
      },
    );
  }

  /** Sends a datagram; the payload of the one that comes back to its port. */
  udp(to: Uint8Array, port: number, payload: Uint8Array): Promise<Uint8Array> {
    const ownPort = 40_001;
    const datagram = new Uint8Array(UDP.HEADER + payload.length);
    datagram.set(payload, UDP.HEADER);
    emitUdp(datagram, 0, ownPort, port, payload.length, this.#pseudo(to, IP_PROTOCOL.UDP, datagram.length));
    return this.#guest.exchange(
      'UDP',
      () => this.#send(to, IP_PROTOCOL.UDP, datagram),
      (frame) => {
        const packet = packet6Of(frame);
        if (packet?.nextHeader !== IP_PROTOCOL.UDP || udpDestination(packet.payload, 0) !== ownPort)
          return undefined;
        return packet.payload.slice(UDP.HEADER);
      },
    );
  }

  #pseudo(to: Uint8Array, nextHeader: number, length: number): number {
    const header = new Uint8Array(IPV6.HEADER);
    emitIpv6(header, 0, length, nextHeader, this.ip, to);
    return pseudoSum6(header, 0, nextHeader, length);
  }

  #send(to: Uint8Array, nextHeader: number, payload: Uint8Array, from = this.ip): void {
    const frame = new Uint8Array(ETH.HEADER + IPV6.HEADER + payload.length);
    const multicast = to[0] === 0xff;
    const mac = multicast ? Uint8Array.of(0x33, 0x33, ...to.subarray(12)) : this.router;
    const ip = emitEthernet(frame, 0, mac, this.#guest.mac, ETHERTYPE.IPV6);
    const at = emitIpv6(frame, ip, payload.length, nextHeader, from, to);
    frame.set(payload, at);
    if (nextHeader === ICMP6) {
      // Neighbour discovery is believed only from the same link [RFC 4861 §7.1].
      frame[ip + IPV6.HOP_LIMIT] = 255;
      const sum = finish(pseudoSum6(frame, ip, ICMP6, payload.length) + sumOf(frame, at, payload.length));
      frame.set([sum >>> 8, sum & 0xff], at + 2);
    }
    this.#guest.send(frame);
  }

  #answerSolicitation(frame: Uint8Array): void {
    const packet = packet6Of(frame);
    if (packet?.payload[0] !== ICMP6_TYPE.NEIGHBOUR_SOLICITATION) return;
    const target = packet.payload.subarray(8, 24);
    if (Buffer.compare(target, this.ip) !== 0) return;
    const own = [TARGET_LINK_LAYER, 1, ...this.#guest.mac];
    const flags = [ICMP6_TYPE.NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, NA_FLAGS, 0, 0, 0];
    const answer = Uint8Array.of(...flags, ...target, ...own);
    // Not from inside receive(): the wire is in its own turn.
    setImmediate(() => this.#send(packet.source, ICMP6, answer));
  }
}

/** Hop by hop through the options of a router advertisement to the prefix. [RFC 4861 §4.6.2] */
function prefixOf(message: Uint8Array): { prefix: Uint8Array; length: number } {
  const PREFIX = 3;
  for (let at = 16; at + 8 <= message.length; at += 8 * (message[at + 1] as number)) {
    if (message[at] === PREFIX)
      return { prefix: message.slice(at + 16, at + 32), length: message[at + 2] as number };
    if (message[at + 1] === 0) break;
  }
  throw new Error('a router advertisement without prefix arrived');
}

/** The IPv6 packet in a frame; undefined when it is something else. Throws for a wrong checksum. */
export function packet6Of(frame: Uint8Array): Packet6 | undefined {
  if (etherType(frame, 0) !== ETHERTYPE.IPV6) return undefined;
  const length = checkIpv6(frame, ETH.HEADER, frame.length - ETH.HEADER);
  if (length < 0) throw new Error('a frame with a bad IPv6 header arrived');
  const at = ETH.HEADER + IPV6.HEADER;
  const nextHeader = frame[ETH.HEADER + IPV6.NEXT_HEADER] as number;
  if (nextHeader === ICMP6 || nextHeader === IP_PROTOCOL.UDP) {
    const sum = pseudoSum6(frame, ETH.HEADER, nextHeader, length) + sumOf(frame, at, length);
    if (fold(sum) !== 0xffff) throw new Error('an IPv6 packet with a bad checksum arrived');
  }
  const source = frame.slice(ETH.HEADER + IPV6.SOURCE, ETH.HEADER + IPV6.DESTINATION);
  return { source, nextHeader, payload: frame.slice(at, at + length) };
}
