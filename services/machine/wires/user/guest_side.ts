/**
 * What happens to a frame of the guest before libslirp sees it, and to a frame of libslirp before the guest sees it.
 *
 * DHCP and fixed names are answered here, forwarded addresses answer ARP and ping here and are translated; DNS
 * queries that the host cannot carry are answered SERVFAIL instead of being left to time out. All on integers
 * over the machine's memory; only DHCP and DNS messages become objects.
 */

import type { Memory } from '#common/memory';
import { ARP_REPLY, ARP_REQUEST, arpTargetIp, checkArp } from '#common/wire/arp';
import { DHCP_SERVER_PORT } from '#common/wire/dhcp';
import { DNS_PORT } from '#common/wire/dns';
import { ETH, ETHERTYPE, etherType } from '#common/wire/ethernet';
import { checkIcmp, ICMP, ICMP_TYPE } from '#common/wire/icmp';
import {
  checkIpv4,
  IP_PROTOCOL,
  IPV4,
  ipv4ChecksumOk,
  ipv4Destination,
  ipv4Source,
  ipv4TotalLength,
  isFragment,
} from '#common/wire/ipv4';
import { checkIpv6, IPV6 } from '#common/wire/ipv6';
import { checkTcp } from '#common/wire/tcp';
import { checkUdp, UDP, udpChecksumOk, udpDestination } from '#common/wire/udp';
import type { WireLease } from '../../wire.ts';
import { MAX_SLOT_FRAME } from '../frame_ring.ts';
import type { Clock } from './dhcp_leases.ts';
import { DhcpServer } from './dhcp_server.ts';
import { type Forwards, NO_SUCH_PORT } from './forwards.ts';
import { decodeQuery, encodeServfail, type FixedNames } from './names.ts';
import type { UserNetwork } from './network.ts';
import {
  arpReply,
  dhcpReply,
  echoReply,
  tcpReset,
  UDP4_PAYLOAD,
  UDP6_PAYLOAD,
  udpReply,
  udpReply6,
  udpReplyToQuoted,
} from './replies.ts';

/** What to do with a guest's frame: give it to slirp as it is; it is done; or (0 and up) translate for that forward. */
export const PASS = -1;
export const DONE = -2;
/** An ARP reply: give it to slirp, which may have frames waiting for it. */
export const RESOLVES = -3;

/** Types of ICMPv6 that libslirp has an answer to [RFC 4443, RFC 4861]. */
const ICMP6_ECHO = 128;
const ROUTER_SOLICITATION = 133;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
const LINK_LOCAL = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0);

/** Lines about a guest's frames before the log is spared. */
const MAX_WARNINGS = 100;

/** Where replies go: as `FrameRing`. */
export interface ReplySink {
  /** Offset for the next frame, of at most MAX_SLOT_FRAME bytes; -1: no room (the reply is dropped, as a full cable would). */
  slot(): number;
  commit(length: number): void;
}

export class GuestSide {
  readonly #memory: Memory;
  readonly #network: UserNetwork;
  readonly #dhcp: DhcpServer;
  readonly #names: FixedNames;
  /** Addresses of libslirp's own. */
  readonly #pingable: readonly Uint8Array[];
  readonly #forwards: Forwards;
  readonly #replies: ReplySink;
  readonly #warn: (text: string) => void;
  readonly #warned = new Set<string>();

  constructor(
    memory: Memory,
    network: UserNetwork,
    names: FixedNames,
    forwards: Forwards,
    replies: ReplySink,
    warn: (text: string) => void,
    now: Clock = () => performance.now(),
  ) {
    this.#memory = memory;
    this.#pingable = [network.gateway6, network.dns6].flatMap((own) => [own, linkLocal(own)]);
    this.#network = network;
    this.#dhcp = new DhcpServer(network, forwards.guestAddresses, now, (text) => this.#once(text));
    this.#names = names;
    this.#forwards = forwards;
    this.#replies = replies;
    this.#warn = warn;
  }

  /** What its DHCP server has leased. */
  leases(): WireLease[] {
    return this.#dhcp.leases();
  }

  /** Decides on a frame of the guest: `PASS`, `DONE`, `RESOLVES`, or the index of the forward that `translate` is to be called for. */
  outbound(frame: number, length: number): number {
    if (length < ETH.HEADER) return DONE;
    const type = etherType(this.#memory.u8, frame);
    if (type === ETHERTYPE.IPV4) return this.#ipv4(frame, length);
    if (type === ETHERTYPE.ARP) return this.#arp(frame, length);
    // libslirp would take NC-SI, a protocol for management controllers, too.
    return type === ETHERTYPE.IPV6 ? this.#ipv6(frame, length) : DONE;
  }

  /** Rewrites a frame that `outbound` has seen, the wire's own copy, for slirp. */
  translate(frame: number, index: number): void {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    this.#forwards.outbound(u8, ip, ((u8[ip] as number) & 0xf) * 4, index);
  }

  /** A frame of slirp in the slot where the guest will take it. Returns its length, changed when another took its place. */
  inbound(frame: number, length: number): number {
    const { u8 } = this.#memory;
    if (length < ETH.HEADER + IPV4.HEADER || etherType(u8, frame) !== ETHERTYPE.IPV4) return length;
    if (u8[frame + ETH.HEADER + IPV4.PROTOCOL] === IP_PROTOCOL.ICMP) {
      const servfail = this.#servfail(frame, length);
      if (servfail > 0) return servfail;
    }
    if (this.#forwards.size > 0) this.#forwards.inbound(u8, frame, length);
    return length;
  }

  #arp(frame: number, length: number): number {
    const { u8 } = this.#memory;
    const arp = frame + ETH.HEADER;
    const operation = checkArp(u8, arp, length - ETH.HEADER);
    if (operation === ARP_REPLY) return RESOLVES;
    if (operation !== ARP_REQUEST || !this.#isOurs(arpTargetIp(u8, arp))) return PASS;
    return this.#reply((out) => arpReply(u8, frame, out));
  }

  /** Addresses of the network that only forwards give a meaning; outside of it the gateway takes the frames. */
  #isOurs(address: number): boolean {
    const { network, mask, gateway, dns } = this.#network;
    if ((address & mask) !== (network | 0) || address === gateway || address === dns) return false;
    return this.#forwards.has(address);
  }

  #ipv4(frame: number, length: number): number {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    const header = checkIpv4(u8, ip, length - ETH.HEADER);
    // Fragments do not come here (`Reassembly`), and must not go to libslirp.
    if (header < 0 || isFragment(u8, ip)) return DONE;
    const payload = ipv4TotalLength(u8, ip) - header;
    const protocol = u8[ip + IPV4.PROTOCOL];
    const address = ipv4Destination(u8, ip);
    if (protocol === IP_PROTOCOL.UDP && this.#isDhcp(ip + header, payload, address))
      return this.#answerDhcp(ip, header, payload);
    if (protocol === IP_PROTOCOL.UDP && address === this.#network.dns) {
      const udp = ip + header;
      if (this.#dns(frame, udp, checkUdp(u8, udp, payload), UDP4_PAYLOAD, udpReply)) return DONE;
    }
    if (this.#forwards.size === 0) return PASS;
    if (protocol === IP_PROTOCOL.ICMP) return this.#ping(frame, ip + header, payload, address);
    const match = this.#forwards.match(u8, ip, header);
    if (match === NO_SUCH_PORT) return this.#noSuchPort(frame, ip + header, payload, address);
    return match >= 0 ? match : PASS;
  }

  /** Everything that libslirp's DHCP server would listen to: there must be one server only. */
  #isDhcp(udp: number, length: number, address: number): boolean {
    const { u8 } = this.#memory;
    const { network, mask, gateway } = this.#network;
    if (address !== gateway && address !== 0xffffffff && address !== (network | ~mask) >>> 0) return false;
    return length >= UDP.HEADER && udpDestination(u8, udp) === DHCP_SERVER_PORT;
  }

  /** Damaged datagrams are dropped: clients repeat themselves. */
  #answerDhcp(ip: number, header: number, length: number): number {
    const { u8 } = this.#memory;
    const udp = ip + header;
    const size = checkUdp(u8, udp, length);
    if (size < 0 || !ipv4ChecksumOk(u8, ip, header)) return DONE;
    if (!udpChecksumOk(u8, udp, ipv4Source(u8, ip), ipv4Destination(u8, ip))) return DONE;
    return this.#reply((out) =>
      dhcpReply(u8, udp + UDP.HEADER, size, this.#dhcp, this.#network.gateway, out),
    );
  }

  #ipv6(frame: number, length: number): number {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    const payload = checkIpv6(u8, ip, length - ETH.HEADER);
    if (payload < 0) return DONE;
    const next = u8[ip + IPV6.NEXT_HEADER];
    if (next === IP_PROTOCOL.ICMPV6) return this.#icmpv6(ip, payload);
    if (next !== IP_PROTOCOL.UDP) return next === IP_PROTOCOL.TCP ? PASS : DONE;
    if (!sameBytes(u8, ip + IPV6.DESTINATION, this.#network.dns6)) return PASS;
    const udp = ip + IPV6.HEADER;
    return this.#dns(frame, udp, checkUdp(u8, udp, payload), UDP6_PAYLOAD, udpReply6) ? DONE : PASS;
  }

  /** libslirp answers solicitations and pings of itself. About the rest it complains, in part past our log. */
  #icmpv6(ip: number, length: number): number {
    const { u8 } = this.#memory;
    const to = ip + IPV6.DESTINATION;
    if (length < ICMP.BODY) return DONE;
    switch (u8[ip + IPV6.HEADER]) {
      case ICMP6_ECHO:
        return this.#pingable.some((own) => sameBytes(u8, to, own)) ? PASS : DONE;
      case ROUTER_SOLICITATION:
      case NEIGHBOUR_SOLICITATION:
      case NEIGHBOUR_ADVERTISEMENT:
        return PASS;
      default:
        return DONE;
    }
  }

  /** True when the datagram at `udp` is done with: a query that fixed names answer. */
  #dns(frame: number, udp: number, size: number, payloadAt: number, reply: typeof udpReply): boolean {
    const { u8 } = this.#memory;
    if (size < 0 || udpDestination(u8, udp) !== DNS_PORT) return false;
    const out = this.#replies.slot();
    // No room for an answer: the guest asks again. A fixed name must not reach the host's resolver.
    if (out < 0) return true;
    const answered = this.#names.answer(u8, udp + UDP.HEADER, size, u8, out + payloadAt);
    if (answered === 0) return false;
    this.#replies.commit(reply(u8, frame, udp, out, answered));
    return true;
  }

  #ping(frame: number, icmp: number, length: number, address: number): number {
    const { u8 } = this.#memory;
    if (!this.#isOurs(address)) return PASS;
    if (checkIcmp(u8, icmp, length) !== ICMP_TYPE.ECHO) return PASS;
    // The reply is as long as the request, and a guest's NIC can send longer frames than the ring holds.
    if (ETH.HEADER + IPV4.HEADER + length > MAX_SLOT_FRAME) return DONE;
    return this.#reply((out) => echoReply(u8, frame, icmp, out));
  }

  /** slirp would look for the address in the outside world; like a host with a closed port, we say no at once. */
  #noSuchPort(frame: number, segment: number, length: number, address: number): number {
    const { u8 } = this.#memory;
    if (!this.#isOurs(address)) return PASS;
    if (u8[frame + ETH.HEADER + IPV4.PROTOCOL] !== IP_PROTOCOL.TCP || checkTcp(u8, segment, length) < 0)
      return DONE;
    return this.#reply((out) => tcpReset(u8, frame, segment, out));
  }

  #reply(write: (out: number) => number): number {
    const out = this.#replies.slot();
    const length = out < 0 ? 0 : write(out);
    if (length > 0) this.#replies.commit(length);
    return DONE;
  }

  /**
   * slirp says with an ICMP error that a DNS query went nowhere (no name server or no network on the host); resolvers
   * do not listen to that and wait. Puts SERVFAIL in its place: returns its length, 0 when it is another error.
   */
  #servfail(frame: number, length: number): number {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    const header = checkIpv4(u8, ip, length - ETH.HEADER);
    if (header < 0 || u8[ip + header + ICMP.TYPE] !== ICMP_TYPE.UNREACHABLE) return 0;
    const end = ip + ipv4TotalLength(u8, ip);
    const quoted = ip + header + ICMP.BODY;
    const quotedHeader = checkIpv4(u8, quoted, end - quoted);
    if (quotedHeader < 0 || u8[quoted + IPV4.PROTOCOL] !== IP_PROTOCOL.UDP) return 0;
    const udp = quoted + quotedHeader;
    const size = checkUdp(u8, udp, end - udp);
    if (size < 0 || ipv4Destination(u8, quoted) !== this.#network.dns || udpDestination(u8, udp) !== DNS_PORT)
      return 0;
    const query = decodeQuery(u8, udp + UDP.HEADER, size);
    if (query === undefined) return 0;
    const name = query.questions[0]?.name ?? '';
    this.#once(
      `Cannot resolve "${name}" as this host must have a reachable name server in /etc/resolv.conf: ` +
        `answered SERVFAIL; --host ${name}=IP gives the name a fixed address`,
    );
    const reply = new Uint8Array(UDP4_PAYLOAD + 1024);
    const answer = encodeServfail(query, reply, UDP4_PAYLOAD);
    return this.#replaceBy(reply, frame, quoted, udp, answer);
  }

  /** Builds the reply behind the error it reads from, then moves it to the front of the slot. */
  #replaceBy(reply: Uint8Array, frame: number, quoted: number, udp: number, answer: number): number {
    const { u8 } = this.#memory;
    const error = u8.slice(frame, udp + UDP.HEADER);
    const joined = new Uint8Array(error.length + reply.length);
    joined.set(error);
    joined.set(reply, error.length);
    const length = udpReplyToQuoted(joined, 0, quoted - frame, udp - frame, error.length, answer);
    u8.set(joined.subarray(error.length, error.length + length), frame);
    return length;
  }

  /** One line per text: a resolver repeats its question. */
  #once(text: string): void {
    if (this.#warned.has(text) || this.#warned.size > MAX_WARNINGS) return;
    this.#warned.add(text);
    this.#warn(
      this.#warned.size > MAX_WARNINGS ? `${text} (the last such line: there were ${MAX_WARNINGS})` : text,
    );
  }
}

/** The address of the same machine on the link. */
function linkLocal(address: Uint8Array): Uint8Array {
  return Uint8Array.of(...LINK_LOCAL, ...address.subarray(8));
}

function sameBytes(u8: Uint8Array, at: number, bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (u8[at + i] !== bytes[i]) return false;
  return true;
}
