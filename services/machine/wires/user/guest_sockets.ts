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

const OPENING = TCP_FLAG.SYN;
const TCP_KIND = TCP_FLAG.SYN | TCP_FLAG.FIN | TCP_FLAG.RST | TCP_FLAG.URG | TCP_FLAG.ACK;

interface Tally {
  connections: number;
  flows: number;
}

/** Whose a socket is. */
interface Owner {
  readonly guest: string;
  readonly kind: keyof Tally;
  /** Of a UDP port. */
  readonly flow: string | undefined;
}

export class GuestSockets {
  readonly #memory: Memory;
  readonly #network: UserNetwork;
  readonly #bounds: SocketBounds;
  readonly #refusals: Throttle;
  /** By descriptor. */
  readonly #owners = new Map<number, Owner>();
  readonly #tallies = new Map<string, Tally>();
  readonly #accepted = new Set<number>();
  #full = false;
  /** UDP ports of guests that have a socket. */
  readonly #flows = new Set<string>();
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
    this.#flows.add(flowOf(formatIpv4(guestIp), port));
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
    const flow = kind === 'flows' ? this.#flow(this.#frame, guest) : undefined;
    this.#owners.set(fd, { guest, kind, flow });
    if (flow !== undefined) this.#flows.add(flow);
    const tally = this.#tallies.get(guest) ?? { connections: 0, flows: 0 };
    tally[kind] += 1;
    this.#tallies.set(guest, tally);
  }

  /** libslirp closes a socket. */
  closed(fd: number): void {
    this.#accepted.delete(fd);
    const owner = this.#owners.get(fd);
    if (owner === undefined) return;
    this.#owners.delete(fd);
    if (owner.flow !== undefined) this.#flows.delete(owner.flow);
    const tally = this.#tallies.get(owner.guest) as Tally;
    tally[owner.kind] -= 1;
    if (tally.connections === 0 && tally.flows === 0) this.#tallies.delete(owner.guest);
  }

  #isOneTooMany(frame: number): boolean {
    const kind = this.#opens(frame);
    if (kind === undefined) return false;
    const guest = this.#guest(frame);
    if (kind === 'flows' && this.#flows.has(this.#flow(frame, guest) ?? '')) return false;
    const bound = this.#bounds[kind];
    const what = kind === 'connections' ? 'TCP connections' : 'UDP ports and pings';
    if ((this.#tallies.get(guest)?.[kind] ?? 0) >= bound)
      this.#refusals.say(`Dropped what ${guest} sent to open more as a guest has at most ${bound} ${what}`);
    else if (this.#owners.size >= this.#bounds.all)
      this.#refusals.say(
        `Dropped what ${guest} sent to open more as all guests together have at most ${this.#bounds.all} connections, UDP ports and pings`,
      );
    else return false;
    return true;
  }

  /** What libslirp would make of the packet, unless it knows the flow; undefined: no socket. */
  #opens(frame: number): keyof Tally | undefined {
    const kind = this.#kind(frame);
    const { u8 } = this.#memory;
    if (kind === 'connections') {
      const flags = u8[this.#payload(frame) + TCP.FLAGS] as number;
      return (flags & TCP_KIND) === OPENING ? kind : undefined;
    }
    // Its own addresses libslirp answers for.
    if (kind === 'flows' && this.#isPing(frame)) {
      const { network, mask } = this.#network;
      return (ipv4Destination(u8, frame + ETH.HEADER) & mask) === (network | 0) ? undefined : kind;
    }
    return kind;
  }

  #kind(frame: number): keyof Tally | undefined {
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

  #guest(frame: number): string {
    const { u8 } = this.#memory;
    const ip = frame + ETH.HEADER;
    return this.#isIpv6(frame) ? formatIpv6(u8, ip + IPV6.SOURCE) : formatIpv4(ipv4Source(u8, ip));
  }

  /** libslirp knows UDP by the guest's address and port alone; pings it does not know again. */
  #flow(frame: number, guest: string): string | undefined {
    return this.#isPing(frame) ? undefined : flowOf(guest, udpSource(this.#memory.u8, this.#payload(frame)));
  }
}

function flowOf(guest: string, port: number): string {
  return `${guest} ${port}`;
}

/** The bounds, less when this process may have few descriptors. */
function boundsHere(): SocketBounds {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  const share = Math.floor(line ? Number(line[1]) * SHARE : Number.POSITIVE_INFINITY);
  return { ...BOUNDS, all: Math.min(BOUNDS.all, share), accepted: Math.min(BOUNDS.accepted, share) };
}
