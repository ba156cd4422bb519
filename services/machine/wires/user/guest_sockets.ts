/**
 * How many sockets of the host a guest may have.
 *
 * libslirp opens one for each TCP connection, each UDP port and each ping of a guest, looks at all of them in every turn,
 * and keeps them for a while (TCP 10 s behind the end, UDP 4 minutes). It has no bound of its own: one guest could
 * slow all others down, and take every descriptor that the machine has for its drivers, too. What a guest has
 * goes on at the bound; what would open another socket is dropped, as by a full link, and may be sent again.
 *
 * A guest is an address here. Guests may invent those, so there is a bound to all together. Who connects to a host-forward
 * beyond the bound waits in the kernel until others have gone.
 */

import { readFileSync } from 'node:fs';
import type { Memory } from '#common/memory';
import { Throttle } from '#common/obs/throttle';
import { ETH, ETHERTYPE, etherType } from '#common/wire/ethernet';
import { formatIpv4, IP_PROTOCOL, IPV4, ipv4Destination, ipv4Source } from '#common/wire/ipv4';
import { formatIpv6, IPV6 } from '#common/wire/ipv6';
import { TCP, TCP_FLAG } from '#common/wire/tcp';
import { udpSource } from '#common/wire/udp';
import type { UserNetwork } from './network.ts';

/** Bounds to what is open at once. */
export interface SocketBounds {
  /** TCP connections of one guest. */
  readonly connections: number;
  /** UDP ports and pings of one guest. libslirp looks at these in every turn. */
  readonly flows: number;
  /** Of all guests. */
  readonly all: number;
  /** Connections that came in at host-forwards. */
  readonly accepted: number;
}

/** A turn of libslirp takes 35 us with 64 flows, 0.23 ms with 1024 and 0.8 ms with 4096. */
const BOUNDS: SocketBounds = { connections: 2048, flows: 1024, all: 4096, accepted: 4096 };
/** Part of the process's descriptors that the guests of one wire may have, and as many who come from outside. */
const SHARE = 1 / 4;

/** libslirp opens a connection for a segment that has SYN of these, and nothing else. */
const SEGMENT_KIND = TCP_FLAG.SYN | TCP_FLAG.FIN | TCP_FLAG.RST | TCP_FLAG.URG | TCP_FLAG.ACK;
const NO_PORT = -1;

type Kind = 'connections' | 'flows';

/** An IPv4 address as a signed 32-bit number, which costs no memory, or an IPv6 address as text. */
type Guest = number | string;

/** What a guest has. */
interface Holdings {
  connections: number;
  flows: number;
  /** Its UDP ports that have a socket: libslirp knows them again by these alone. */
  readonly ports: Set<number>;
}

/** Whose a socket is. */
interface Owner {
  readonly guest: Guest;
  readonly kind: Kind;
  readonly port: number;
}

export class GuestSockets {
  readonly #memory: Memory;
  readonly #network: UserNetwork;
  readonly #bounds: SocketBounds;
  readonly #refusals: Throttle;
  /** By descriptor. */
  readonly #owners = new Map<number, Owner>();
  readonly #guests = new Map<Guest, Holdings>();
  /** Descriptors of connections that came in at host-forwards. */
  readonly #accepted = new Set<number>();
  #full = false;
  /** The packet that libslirp is looking at; -1: none. */
  #frame = -1;

  constructor(
    memory: Memory,
    network: UserNetwork,
    warn: (text: string) => void,
    bounds: SocketBounds = boundsHere(),
  ) {
    this.#memory = memory;
    this.#network = network;
    this.#bounds = bounds;
    this.#refusals = new Throttle(warn);
  }

  /** A UDP port of a guest that has a socket without ever having sent: a host-forward. Addresses as 32-bit numbers. */
  expect(guestIp: number, port: number): void {
    this.#holdings(guestIp | 0).ports.add(port);
  }

  /**
   * libslirp is about to see this frame, a whole IP packet or something else; `end` follows. False: it must not, as it
   * would open a socket beyond the bounds.
   */
  begin(frame: number): boolean {
    const { connections, flows, all } = this.#bounds;
    if (this.#owners.size >= Math.min(connections, flows, all) && this.#isOneTooMany(frame)) return false;
    this.#frame = frame;
    return true;
  }

  end(): void {
    this.#frame = -1;
  }

  /** False: libslirp must not take another connection at a host-forward now. */
  mayAccept(): boolean {
    const { accepted } = this.#bounds;
    const full = this.#accepted.size >= accepted;
    if (full && !this.#full)
      this.#refusals.say(`Who connects to a host-forward has to wait as ${accepted} connections are open`);
    this.#full = full;
    return !full;
  }

  /** libslirp has opened a socket: for the frame between `begin` and `end`, or for who has connected to a host-forward. */
  opened(fd: number): void {
    const kind = this.#frame < 0 ? undefined : this.#kind(this.#frame);
    if (kind === undefined) {
      this.#accepted.add(fd);
      return;
    }
    const guest = this.#guest(this.#frame);
    const port = this.#udpPort(this.#frame);
    this.#owners.set(fd, { guest, kind, port });
    const holdings = this.#holdings(guest);
    holdings[kind] += 1;
    if (port !== NO_PORT) holdings.ports.add(port);
  }

  /** libslirp closes a socket. */
  closed(fd: number): void {
    this.#accepted.delete(fd);
    const owner = this.#owners.get(fd);
    if (owner === undefined) return;
    this.#owners.delete(fd);
    const holdings = this.#holdings(owner.guest);
    holdings[owner.kind] -= 1;
    holdings.ports.delete(owner.port);
    if (holdings.connections + holdings.flows + holdings.ports.size === 0) this.#guests.delete(owner.guest);
  }

  #holdings(guest: Guest): Holdings {
    let holdings = this.#guests.get(guest);
    if (holdings === undefined) {
      holdings = { connections: 0, flows: 0, ports: new Set() };
      this.#guests.set(guest, holdings);
    }
    return holdings;
  }

  #isOneTooMany(frame: number): boolean {
    const kind = this.#opens(frame);
    if (kind === undefined) return false;
    const guest = this.#guest(frame);
    const holdings = this.#guests.get(guest);
    if (holdings?.ports.has(this.#udpPort(frame))) return false;
    const { [kind]: own, all } = this.#bounds;
    const has = holdings?.[kind] ?? 0;
    if (has < own && this.#owners.size < all) return false;
    const what = kind === 'connections' ? 'TCP connections' : 'UDP ports and pings';
    const rule =
      has >= own
        ? `a guest has at most ${own} ${what}`
        : `all guests together have at most ${all} connections, UDP ports and pings`;
    const name = typeof guest === 'number' ? formatIpv4(guest >>> 0) : guest;
    this.#refusals.say(`Dropped what ${name} sent to open more as ${rule}`);
    return true;
  }

  /** What libslirp would make of the packet, unless it knows the flow; undefined: no socket. */
  #opens(frame: number): Kind | undefined {
    const kind = this.#kind(frame);
    const { u8 } = this.#memory;
    if (kind === 'connections') {
      const flags = u8[this.#payload(frame) + TCP.FLAGS] as number;
      return (flags & SEGMENT_KIND) === TCP_FLAG.SYN ? kind : undefined;
    }
    // Its own addresses libslirp answers for.
    if (kind === 'flows' && this.#isPing(frame)) {
      const { network, mask } = this.#network;
      return (ipv4Destination(u8, frame + ETH.HEADER) & mask) === (network | 0) ? undefined : kind;
    }
    return kind;
  }

  #kind(frame: number): Kind | undefined {
    const protocol = this.#protocol(frame);
    if (protocol === IP_PROTOCOL.TCP) return 'connections';
    return protocol === IP_PROTOCOL.UDP || this.#isPing(frame) ? 'flows' : undefined;
  }

  #isPing(frame: number): boolean {
    return !this.#isIpv6(frame) && this.#protocol(frame) === IP_PROTOCOL.ICMP;
  }

  #isIpv6(frame: number): boolean {
    return etherType(this.#memory.u8, frame) === ETHERTYPE.IPV6;
  }

  /** Of an IP packet; -1. */
  #protocol(frame: number): number {
    const { u8 } = this.#memory;
    const type = etherType(u8, frame);
    if (type === ETHERTYPE.IPV4) return u8[frame + ETH.HEADER + IPV4.PROTOCOL] as number;
    return type === ETHERTYPE.IPV6 ? (u8[frame + ETH.HEADER + IPV6.NEXT_HEADER] as number) : -1;
  }

  #payload(frame: number): number {
    const ip = frame + ETH.HEADER;
    return ip + (this.#isIpv6(frame) ? IPV6.HEADER : ((this.#memory.u8[ip] as number) & 0xf) * 4);
  }

  #guest(frame: number): Guest {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    return this.#isIpv6(frame) ? formatIpv6(u8, ip + IPV6.SOURCE) : ipv4Source(u8, ip) | 0;
  }

  #udpPort(frame: number): number {
    if (this.#protocol(frame) !== IP_PROTOCOL.UDP) return NO_PORT;
    return udpSource(this.#memory.u8, this.#payload(frame));
  }
}

/** The bounds, less when this process may have few descriptors. */
function boundsHere(): SocketBounds {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  const share = Math.floor(line ? Number(line[1]) * SHARE : Number.POSITIVE_INFINITY);
  return { ...BOUNDS, all: Math.min(BOUNDS.all, share), accepted: Math.min(BOUNDS.accepted, share) };
}
