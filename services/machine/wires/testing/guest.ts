/**
 * A tiny guest for tests: the other end of a wire, with just enough ARP, DHCP, DNS, ICMP and TCP to talk to it.
 *
 * Obvious rather than fast. It checks every checksum it receives, and answers ARP like any host.
 */

import { Arena } from '#common/shm/arena';
import { Pump } from '#common/shm/pump';
import {
  ARP,
  ARP_REPLY,
  ARP_REQUEST,
  arpSenderIp,
  arpTargetIp,
  checkArp,
  emitArpFrame,
} from '#common/wire/arp';
import { put16 } from '#common/wire/bytes';
import { finish, pseudoSum, sumOf } from '#common/wire/checksum';
import { DHCP_OPTION, DHCP_TYPE, type DhcpMessage, decodeDhcp, encodeDhcp } from '#common/wire/dhcp';
import { dhcpType, u8Option, u32Option } from '#common/wire/dhcp_options';
import { type DnsMessage, decodeDns, encodeDns } from '#common/wire/dns';
import { ETH, ETHERTYPE, emitEthernet, etherType } from '#common/wire/ethernet';
import { checkIcmp, emitEcho, ICMP, ICMP_TYPE } from '#common/wire/icmp';
import {
  checkIpv4,
  emitIpv4,
  IP_PROTOCOL,
  IPV4,
  IPV4_MF,
  ipv4ChecksumOk,
  ipv4Destination,
  ipv4Source,
  ipv4TotalLength,
} from '#common/wire/ipv4';
import { checkTcp, tcpChecksumOk } from '#common/wire/tcp';
import { checkUdp, emitUdp, UDP, udpChecksumOk, udpDestination, udpSource } from '#common/wire/udp';
import type { Wire, WireEnd } from '../../wire.ts';
import type { LogLevel, WireHost } from '../host.ts';

const BROADCAST = new Uint8Array(6).fill(0xff);
const TIMEOUT_MS = 120_000;

/** An IPv4 packet that arrived, with its checksums checked. */
export interface Packet {
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly payload: Uint8Array;
}

/** A host for wires: an arena and the log as a list. */
export function testHost(): WireHost & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    arena: new Arena(64 * 2 ** 20),
    lines,
    log: (level: LogLevel, text: string) => lines.push(`${level}: ${text}`),
  };
}

export class TestGuest implements WireEnd {
  readonly mac: Uint8Array;
  ip = 0x0a00020f;
  /** Where all its IPv4 frames go: libslirp's, unless a test has asked by ARP. */
  gateway = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);
  /** Further addresses that it answers ARP for. */
  readonly aliases = new Set<number>();
  /** While true the NIC has no descriptor. */
  full = false;
  received = 0;
  readonly frames: Uint8Array[] = [];
  readonly #arena: Arena;
  readonly #wire: Wire;
  readonly #out: number;
  readonly #pump: Pump;
  readonly #listeners = new Set<(frame: Uint8Array) => void>();
  #id = 1;
  #closed = false;

  constructor(host: WireHost, wire: Wire, mac = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)) {
    this.mac = mac;
    this.#arena = host.arena;
    this.#wire = wire;
    this.#out = host.arena.mapPrivate(4096);
    this.#pump = new Pump({ poll: () => wire.poll(), arm: () => wire.arm(), disarm: () => undefined });
    wire.connect(this, () => this.#pump.kick());
    this.#pump.start();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pump.stop();
    this.#wire.close();
  }

  /** Makes the pump look again, as a driver does with new descriptors. */
  kick(): void {
    this.#pump.kick();
  }

  receive(offset: number, length: number): boolean {
    if (this.full) return false;
    this.received += 1;
    const frame = this.#arena.u8.slice(offset, offset + length);
    this.frames.push(frame);
    this.#answerArp(frame);
    for (const listener of [...this.#listeners]) listener(frame);
    return true;
  }

  linkChanged(): void {}

  /** After `close` nothing: answers to what came before may still be on their way here. */
  send(frame: Uint8Array): void {
    if (this.#closed) return;
    this.#arena.u8.set(frame, this.#out);
    this.#wire.transmit(this.#out, frame.length);
    this.#pump.kick();
  }

  /** Calls `listener` for every frame until the returned function is called. */
  listen(listener: (frame: Uint8Array) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Sends and waits for the first frame that `pick` makes something of. */
  exchange<T>(what: string, send: () => void, pick: (frame: Uint8Array) => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        stop();
        reject(new Error(`${what}: no answer within ${TIMEOUT_MS} ms`));
      }, TIMEOUT_MS);
      const stop = this.listen((frame) => {
        const picked = pick(frame);
        if (picked === undefined) return;
        clearTimeout(timer);
        stop();
        resolve(picked);
      });
      send();
    });
  }

  /** Sends `payload` in an IPv4 packet through the gateway. */
  sendIpv4(destination: number, protocol: number, payload: Uint8Array, source = this.ip): void {
    const frame = new Uint8Array(ETH.HEADER + IPV4.HEADER + payload.length);
    const ip = emitEthernet(
      frame,
      0,
      destination === 0xffffffff ? BROADCAST : this.gateway,
      this.mac,
      ETHERTYPE.IPV4,
    );
    frame.set(payload, emitIpv4(frame, ip, payload.length, protocol, source, destination, 64, this.#id++));
    this.send(frame);
  }

  /** A datagram as fragments of `size` bytes of its payload each, a multiple of 8; the last one first. */
  sendInPieces(destination: number, from: number, to: number, payload: Uint8Array, size: number): void {
    const datagram = new Uint8Array(UDP.HEADER + payload.length);
    datagram.set(payload, UDP.HEADER);
    const pseudo = pseudoSum(this.ip, destination, IP_PROTOCOL.UDP, datagram.length);
    emitUdp(datagram, 0, from, to, payload.length, pseudo);
    const id = this.#id++;
    for (let at = Math.floor((datagram.length - 1) / size) * size; at >= 0; at -= size) {
      const piece = datagram.subarray(at, at + size);
      const frame = new Uint8Array(ETH.HEADER + IPV4.HEADER + piece.length);
      const ip = emitEthernet(frame, 0, this.gateway, this.mac, ETHERTYPE.IPV4);
      frame.set(piece, emitIpv4(frame, ip, piece.length, IP_PROTOCOL.UDP, this.ip, destination, 64, id));
      put16(frame, ip + IPV4.FRAGMENT, at / 8 + (at + size < datagram.length ? IPV4_MF : 0));
      put16(frame, ip + IPV4.CHECKSUM, 0);
      put16(frame, ip + IPV4.CHECKSUM, finish(sumOf(frame, ip, IPV4.HEADER)));
      this.send(frame);
    }
  }

  sendUdp(
    destination: number,
    sourcePort: number,
    port: number,
    payload: Uint8Array,
    source = this.ip,
  ): void {
    const datagram = new Uint8Array(UDP.HEADER + payload.length);
    datagram.set(payload, UDP.HEADER);
    emitUdp(
      datagram,
      0,
      sourcePort,
      port,
      payload.length,
      pseudoSum(source, destination, IP_PROTOCOL.UDP, datagram.length),
    );
    this.sendIpv4(destination, IP_PROTOCOL.UDP, datagram, source);
  }

  /** MAC address of `address`. */
  arp(address: number): Promise<Uint8Array> {
    const frame = new Uint8Array(42);
    const packet = {
      operation: ARP_REQUEST,
      senderMac: this.mac,
      senderIp: this.ip,
      targetMac: new Uint8Array(6),
      targetIp: address,
    };
    emitArpFrame(frame, 0, BROADCAST, packet);
    return this.exchange(
      'ARP',
      () => this.send(frame),
      (reply) => {
        if (
          etherType(reply, 0) !== ETHERTYPE.ARP ||
          checkArp(reply, ETH.HEADER, reply.length - ETH.HEADER) !== ARP_REPLY
        )
          return undefined;
        if (arpSenderIp(reply, ETH.HEADER) !== address) return undefined;
        return reply.slice(ETH.HEADER + ARP.SENDER_MAC, ETH.HEADER + ARP.SENDER_IP);
      },
    );
  }

  /** Discovers and requests a lease; the acknowledgment. */
  async dhcp(): Promise<DhcpMessage> {
    const offer = await this.#dhcpStep(DHCP_TYPE.DISCOVER, [], DHCP_TYPE.OFFER);
    return this.#dhcpStep(
      DHCP_TYPE.REQUEST,
      [[DHCP_OPTION.REQUESTED_IP, u32Option(offer.yiaddr)]],
      DHCP_TYPE.ACK,
    );
  }

  #dhcpStep(type: number, options: [number, Uint8Array][], answer: number): Promise<DhcpMessage> {
    const xid = 0x1234 + type;
    const zero = { secs: 0, broadcast: true, ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0 };
    const all = new Map([[DHCP_OPTION.MESSAGE_TYPE as number, u8Option(type)], ...options]);
    const bytes = new Uint8Array(400);
    const length = encodeDhcp({ op: 1, xid, chaddr: this.mac, options: all, ...zero }, bytes, 0);
    const send = () => this.sendUdp(0xffffffff, 68, 67, bytes.subarray(0, length), 0);
    return this.exchange('DHCP', send, (frame) => {
      const datagram = udpOf(frame, 68);
      if (datagram === undefined) return undefined;
      const message = decodeDhcp(datagram, 0, datagram.length);
      if (message.xid !== xid || !Buffer.from(message.chaddr).equals(this.mac)) return undefined;
      return dhcpType(message) === answer ? message : undefined;
    });
  }

  /** Asks `server` for records of `type`. */
  query(server: number, name: string, type: number, port = 40_000): Promise<DnsMessage> {
    const bytes = new Uint8Array(512);
    const id = this.#id++;
    const question = { name, type, class: 1 };
    const message = {
      id,
      flags: 0x0100,
      questions: [question],
      answers: [],
      authorities: [],
      additionals: [],
    };
    const length = encodeDns(message, bytes, 0);
    return this.exchange(
      'DNS',
      () => this.sendUdp(server, port, 53, bytes.subarray(0, length)),
      (frame) => {
        const datagram = udpOf(frame, port);
        const reply = datagram === undefined ? undefined : decodeDns(datagram, 0, datagram.length);
        return reply?.id === id ? reply : undefined;
      },
    );
  }

  /** Sends an echo request; the payload of the reply from that address. */
  ping(address: number, payload: Uint8Array): Promise<Uint8Array> {
    const id = this.#id++;
    const message = new Uint8Array(ICMP.HEADER + payload.length);
    message.set(payload, ICMP.BODY);
    emitEcho(message, 0, ICMP_TYPE.ECHO, id, 1, payload.length);
    return this.exchange(
      'ping',
      () => this.sendIpv4(address, IP_PROTOCOL.ICMP, message),
      (frame) => {
        const packet = packetOf(frame);
        if (packet?.protocol !== IP_PROTOCOL.ICMP || packet.source !== address) return undefined;
        if (checkIcmp(packet.payload, 0, packet.payload.length) !== ICMP_TYPE.ECHO_REPLY) return undefined;
        return packet.payload.slice(ICMP.BODY);
      },
    );
  }

  #answerArp(frame: Uint8Array): void {
    if (
      etherType(frame, 0) !== ETHERTYPE.ARP ||
      checkArp(frame, ETH.HEADER, frame.length - ETH.HEADER) !== ARP_REQUEST
    )
      return;
    const asked = arpTargetIp(frame, ETH.HEADER);
    if (asked !== this.ip && !this.aliases.has(asked)) return;
    const peer = frame.slice(ETH.SOURCE, ETH.SOURCE + 6);
    const reply = new Uint8Array(42);
    const targetIp = arpSenderIp(frame, ETH.HEADER);
    emitArpFrame(reply, 0, peer, {
      operation: ARP_REPLY,
      senderMac: this.mac,
      senderIp: asked,
      targetMac: peer,
      targetIp,
    });
    // Not from inside receive(): the wire is in its own turn.
    setImmediate(() => this.send(reply));
  }
}

/** The IPv4 packet in a frame, checksums checked; undefined when it is something else. */
export function packetOf(frame: Uint8Array): Packet | undefined {
  if (etherType(frame, 0) !== ETHERTYPE.IPV4) return undefined;
  const header = checkIpv4(frame, ETH.HEADER, frame.length - ETH.HEADER);
  if (header < 0 || !ipv4ChecksumOk(frame, ETH.HEADER, header))
    throw new Error('a frame with a bad IPv4 header arrived');
  const [source, destination] = [ipv4Source(frame, ETH.HEADER), ipv4Destination(frame, ETH.HEADER)];
  const protocol = frame[ETH.HEADER + IPV4.PROTOCOL] as number;
  const payload = frame.slice(ETH.HEADER + header, ETH.HEADER + ipv4TotalLength(frame, ETH.HEADER));
  if (
    protocol === IP_PROTOCOL.TCP &&
    (checkTcp(payload, 0, payload.length) < 0 ||
      !tcpChecksumOk(payload, 0, payload.length, source, destination))
  ) {
    throw new Error('a segment with a bad header or checksum arrived');
  }
  if (
    protocol === IP_PROTOCOL.UDP &&
    (checkUdp(payload, 0, payload.length) < 0 || !udpChecksumOk(payload, 0, source, destination))
  ) {
    throw new Error('a datagram with a bad header or checksum arrived');
  }
  return { source, destination, protocol, payload };
}

/** Payload of the UDP datagram to `port` in a frame, wherever it comes from. */
export function udpOf(frame: Uint8Array, port: number, sourcePort?: number): Uint8Array | undefined {
  const packet = packetOf(frame);
  if (packet?.protocol !== IP_PROTOCOL.UDP || udpDestination(packet.payload, 0) !== port) return undefined;
  if (sourcePort !== undefined && udpSource(packet.payload, 0) !== sourcePort) return undefined;
  return packet.payload.slice(UDP.HEADER);
}
