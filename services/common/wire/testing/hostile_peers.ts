/**
 * Far ends of TCP connections that know the numbers of theirs and keep to no rule: they open connections and are opened, send what lies
 * beside the window, acknowledge what was never sent, close their window, tell options at any time, and forget what they have begun.
 */
import type { Random } from '#common/testing/random';
import { get16, get32, put16, put32 } from '../bytes.ts';
import { finish, pseudoSum, sumOf } from '../checksum.ts';
import { ETH, ETHERTYPE, emitEthernet, etherType } from '../ethernet.ts';
import { emitIpv4, IP_PROTOCOL, IPV4 } from '../ipv4.ts';
import { TCP, TCP_FLAG } from '../tcp.ts';
import { SERVER_PORT, type Target } from './hostile_frames.ts';

const { FIN, SYN, RST, PSH, ACK, URG } = TCP_FLAG;
/** Where they listen themselves. */
export const PEER_PORT = 7;
/** Their addresses: so many from 10.0.2.3 on. */
export const PEERS = 8;
const FIRST = 0x0a000203;
const FIRST_PORT = 1024;
/** Connections that they remember. */
const MOST = 40;
const KINDS = [
  ...([ACK, ACK | PSH, ACK, ACK | PSH, ACK | FIN, SYN, RST, RST | ACK] as const),
  ...([ACK | PSH | URG, 0x3f, SYN | ACK, 0] as const),
] as const;
const OPTION_KINDS = [0, 1, 2, 3, 4, 5, 8] as const;
const OPTION_LENGTHS: Readonly<Record<number, number>> = { 2: 4, 3: 3, 4: 2, 5: 10, 8: 10 };
/** Modulo 2^32. */
const wrap = (n: number): number => n >>> 0;

interface Peer {
  readonly ip: number;
  readonly port: number;
  /** The port of the interface's host. */
  readonly to: number;
  /** Its next sequence number, and the next one that it expects. */
  sequence: number;
  expected: number;
  /** The handshake has begun: both know the other's numbers. */
  known: boolean;
}

export interface PeerOptions {
  /** Some begin right below 2^32, so that their numbers wrap. Default: true. */
  readonly wraps?: boolean;
}

export class HostilePeers {
  readonly #u8: Uint8Array;
  readonly #target: Target;
  readonly #random: Random;
  readonly #wraps: boolean;
  #peers: Peer[] = [];
  #nextPort = FIRST_PORT;

  constructor(u8: Uint8Array, target: Target, random: Random, { wraps = true }: PeerOptions = {}) {
    this.#wraps = wraps;
    this.#u8 = u8;
    this.#target = target;
    this.#random = random;
  }

  /** A frame that the interface's host sends: what it says of a connection. */
  heard(u8: Uint8Array, at: number): void {
    const ip = at + ETH.HEADER;
    if (etherType(u8, at) !== ETHERTYPE.IPV4 || u8[ip + IPV4.PROTOCOL] !== IP_PROTOCOL.TCP) return;
    const tcp = ip + IPV4.HEADER;
    const [to, port] = [get16(u8, tcp), get16(u8, tcp + TCP.DESTINATION)];
    const flags = u8[tcp + TCP.FLAGS] as number;
    const sequence = get32(u8, tcp + TCP.SEQUENCE);
    let peer = this.#peers.find((one) => one.port === port && one.to === to);
    if ((flags & (SYN | ACK)) === SYN && !peer) {
      peer = {
        ...{ ip: get32(u8, ip + IPV4.DESTINATION), port, to, known: false },
        ...{ sequence: this.#random.u32() >>> 1, expected: wrap(sequence + 1) },
      };
      this.#remember(peer);
    }
    if (!peer) return;
    const header = ((u8[tcp + TCP.DATA_OFFSET] as number) >>> 4) * 4;
    const data = get16(u8, ip + IPV4.TOTAL_LENGTH) - IPV4.HEADER - header;
    if ((flags & RST) !== 0) this.#peers.splice(this.#peers.indexOf(peer), 1);
    else if ((flags & (SYN | ACK)) === (SYN | ACK) && !peer.known) {
      peer.known = true;
      peer.sequence = wrap(peer.sequence + 1);
      peer.expected = wrap(sequence + 1);
    } else if (peer.known && ((sequence + data - peer.expected) | 0) > 0)
      peer.expected = wrap(sequence + data + (flags & FIN));
  }

  /** Writes the next segment of one of them. Returns the length of the frame. */
  write(at: number): number {
    const random = this.#random;
    if (this.#peers.length < 8 || random.oneIn(40)) {
      const port = this.#nextPort;
      this.#nextPort = port === 0xffff ? FIRST_PORT : port + 1;
      // Half of all numbers are further away than any of these connections gets.
      const sequence = !this.#wraps ? random.u32() >>> 1 : random.oneIn(4) ? 0xffff_ff00 : random.u32();
      this.#remember({
        ...{ ip: FIRST + random.below(PEERS), port, to: SERVER_PORT, known: false },
        ...{ sequence, expected: 0 },
      });
    }
    return this.#segment(at, this.#peers[random.below(this.#peers.length)] as Peer);
  }

  #remember(peer: Peer): void {
    this.#peers.push(peer);
    if (this.#peers.length > MOST) this.#peers.shift();
  }

  #segment(at: number, peer: Peer): number {
    const [u8, random] = [this.#u8, this.#random];
    const ip = emitEthernet(
      u8,
      at,
      this.#target.mac,
      Uint8Array.of(2, 0, 0, 0, 0, peer.ip & 0xff),
      ETHERTYPE.IPV4,
    );
    const options = random.oneIn(4) ? 4 * random.below(11) : 0;
    const data = random.oneIn(3) ? random.below(1400) : random.below(40);
    const length = TCP.HEADER + options + data;
    const tcp = emitIpv4(u8, ip, length, IP_PROTOCOL.TCP, peer.ip, this.#target.ip);
    for (let i = 0; i < length; i++) u8[tcp + i] = random.u32();
    put16(u8, tcp, peer.port);
    put16(u8, tcp + TCP.DESTINATION, peer.to);
    this.#numbers(tcp, peer, data);
    u8[tcp + TCP.DATA_OFFSET] = random.oneIn(60) ? random.u32() : ((TCP.HEADER + options) / 4) << 4;
    put16(u8, tcp + TCP.WINDOW, random.oneIn(5) ? random.below(65536) * random.below(2) : 0xffff);
    put16(u8, tcp + TCP.URGENT, random.oneIn(20) ? random.below(2000) : 0);
    if (random.oneIn(2)) this.#options(tcp + TCP.HEADER, tcp + TCP.HEADER + options);
    put16(u8, tcp + TCP.CHECKSUM, 0);
    const pseudo = pseudoSum(peer.ip, this.#target.ip, IP_PROTOCOL.TCP, length);
    put16(u8, tcp + TCP.CHECKSUM, finish(pseudo + sumOf(u8, tcp, length)));
    return ETH.HEADER + IPV4.HEADER + length;
  }

  /** Flags and numbers: those of the connection, or such that lie beside. */
  #numbers(tcp: number, peer: Peer, data: number): void {
    const [u8, random] = [this.#u8, this.#random];
    let { sequence, expected } = peer;
    let flags: number = random.pick(KINDS);
    if (!peer.known && !random.oneIn(8)) {
      flags = peer.to === SERVER_PORT ? SYN : SYN | ACK;
      if (flags === (SYN | ACK)) {
        peer.known = true;
        peer.sequence = wrap(sequence + 1);
      }
    } else if (peer.known) {
      // What would end it comes seldom.
      if ((flags & (RST | SYN)) !== 0 && !random.oneIn(15)) flags = ACK;
      const lie = random.below(8);
      if (lie === 0) sequence += random.below(70_000);
      else if (lie === 1) sequence -= random.below(3000);
      else if (lie === 2) sequence += random.below(3000);
      else if (lie === 3) expected += random.below(5000) - 2500;
      else if ((flags & ACK) !== 0 && (flags & (SYN | FIN | RST)) === 0)
        peer.sequence = wrap(sequence + data);
    }
    put32(u8, tcp + TCP.SEQUENCE, wrap(sequence));
    put32(u8, tcp + TCP.ACKNOWLEDGMENT, wrap(expected));
    u8[tcp + TCP.FLAGS] = flags;
  }

  #options(from: number, end: number): void {
    const [u8, random] = [this.#u8, this.#random];
    for (let at = from; at < end; ) {
      const kind = random.oneIn(8) ? random.below(256) : random.pick(OPTION_KINDS);
      u8[at] = kind;
      if (kind < 2 || at + 1 === end) at += 1;
      else {
        const length = random.oneIn(4) ? random.below(256) : (OPTION_LENGTHS[kind] ?? random.below(12));
        u8[at + 1] = length;
        at += Math.max(1, length);
      }
    }
  }
}
