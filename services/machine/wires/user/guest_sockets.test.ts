/** How many sockets guests get: the books alone, and a real libslirp with small bounds. The outside is this machine's loopback only. */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket as NetSocket, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { pseudoSum } from '#common/wire/checksum';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { ICMP_TYPE } from '#common/wire/icmp';
import { emitIpv4, IP_PROTOCOL, parseIpv4 } from '#common/wire/ipv4';
import { emitIpv6, parseIpv6 } from '#common/wire/ipv6';
import { emitTcp, TCP, TCP_FLAG } from '#common/wire/tcp';
import { parseHostForward } from '../options.ts';
import { packetOf, TestGuest, testHost, udpOf } from '../testing/guest.ts';
import { tcpRequest } from '../testing/guest_tcp.ts';
import { FREE_PORT, ownLoopback } from '../testing/loopback.ts';
import { GuestSockets } from './guest_sockets.ts';
import { DEFAULT_NETWORK } from './network.ts';
import { UserWire } from './user_wire.ts';

const ip = (text: string) => parseIpv4(text) as number;
const GATEWAY = ip('10.0.2.2');
const OUTSIDE = ip('203.0.113.7');
const MAC = new Uint8Array(6);

describe('GuestSockets', () => {
  const u8 = new Uint8Array(256);
  const memory = new Memory(u8.buffer);
  let lines: string[] = [];
  let fd = 100;

  const make = (connections: number, flows: number, all: number) => {
    lines = [];
    const warn = (text: string) => void lines.push(text);
    return new GuestSockets(memory, DEFAULT_NETWORK, warn, { connections, flows, all, accepted: 9 });
  };

  /** libslirp sees the packet in `u8`, and opens a socket if it is told to. Returns its descriptor, 0: none; undefined: it does not see it. */
  function input(sockets: GuestSockets, opens = true): number | undefined {
    if (!sockets.begin(0)) return undefined;
    if (opens) sockets.opened(++fd);
    sockets.end();
    return opens ? fd : 0;
  }

  function packet(guest: string, protocol: number, payload: number[], to = OUTSIDE): void {
    u8.fill(0);
    const from6 = parseIpv6(guest);
    const at = emitEthernet(u8, 0, MAC, MAC, from6 ? ETHERTYPE.IPV6 : ETHERTYPE.IPV4);
    const body = from6
      ? emitIpv6(u8, at, payload.length, protocol, from6, from6)
      : emitIpv4(u8, at, payload.length, protocol, ip(guest), to, 64, 1);
    u8.set(payload, body);
  }
  const udp = (guest: string, port: number) =>
    packet(guest, IP_PROTOCOL.UDP, [port >>> 8, port & 0xff, 0, 9, 0, 8, 0, 0]);
  const tcp = (guest: string, flags: number) =>
    packet(guest, IP_PROTOCOL.TCP, [1, 1, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
  const ping = (guest: string, to?: number) =>
    packet(guest, IP_PROTOCOL.ICMP, [ICMP_TYPE.ECHO, 0, 0, 0, 0, 0, 0, 0], to);

  it('counts UDP ports of a guest, knows them again, and gives room when one is closed', () => {
    const sockets = make(9, 2, 9);
    const first = [1000, 1001].map((port) => {
      udp('10.0.2.15', port);
      return input(sockets) as number;
    });
    udp('10.0.2.15', 1002);
    expect(input(sockets)).toBeUndefined();
    udp('10.0.2.15', 1001);
    expect(input(sockets, false)).toBe(0);
    udp('10.0.2.16', 1002);
    expect(input(sockets)).toBeGreaterThan(0);
    sockets.closed(first[0] as number);
    udp('10.0.2.15', 1000);
    expect(input(sockets)).toBeGreaterThan(0);
    udp('10.0.2.15', 1003);
    expect(input(sockets)).toBeUndefined();
    expect(lines).toEqual([
      'Dropped what 10.0.2.15 sent to open more as a guest has at most 2 UDP ports and pings',
    ]);
  });

  it('bounds what opens a connection, not what belongs to one', () => {
    const sockets = make(1, 9, 9);
    tcp('10.0.2.15', TCP_FLAG.SYN);
    expect(input(sockets)).toBeGreaterThan(0);
    // ECN's bits do not make it anything else [RFC 3168 §6.1.1].
    for (const flags of [
      TCP_FLAG.SYN,
      TCP_FLAG.SYN | TCP_FLAG.ECE | TCP_FLAG.CWR,
      TCP_FLAG.SYN | TCP_FLAG.PSH,
    ]) {
      tcp('10.0.2.15', flags);
      expect([flags, input(sockets)]).toEqual([flags, undefined]);
    }
    for (const flags of [
      TCP_FLAG.ACK,
      TCP_FLAG.FIN | TCP_FLAG.ACK,
      TCP_FLAG.RST,
      TCP_FLAG.SYN | TCP_FLAG.ACK,
    ]) {
      tcp('10.0.2.15', flags);
      expect([flags, input(sockets, false)]).toEqual([flags, 0]);
    }
    expect(lines[0]).toContain('10.0.2.15 sent to open more as a guest has at most 1 TCP connections');
  });

  it('counts pings to the outside, not those that libslirp answers', () => {
    const sockets = make(9, 1, 9);
    ping('10.0.2.15');
    expect(input(sockets)).toBeGreaterThan(0);
    expect(input(sockets)).toBeUndefined();
    ping('10.0.2.15', GATEWAY);
    expect(input(sockets, false)).toBe(0);
  });

  it('has a bound to all guests together, whatever addresses they invent', () => {
    const sockets = make(2, 2, 4);
    const guests = ['10.0.2.15', '10.0.2.16', 'fec0::1', 'fec0::2', 'fec0::3', '10.0.2.17'];
    const opened = guests.map((guest) => {
      udp(guest, 1000);
      return input(sockets);
    });
    expect(opened.map((socket) => socket !== undefined)).toEqual([true, true, true, true, false, false]);
    expect(lines).toEqual([
      'Dropped what fec0::3 sent to open more as all guests together have at most 4 connections, UDP ports and pings',
    ]);
    tcp('fec0::1', TCP_FLAG.ACK);
    expect(input(sockets, false)).toBe(0);
    for (const socket of opened) if (socket !== undefined) sockets.closed(socket);
    for (const guest of guests.slice(2)) {
      udp(guest, 1000);
      expect([guest, input(sockets)]).toEqual([guest, expect.any(Number)]);
    }
  });

  it('counts who has come in at a host-forward by itself', () => {
    const sockets = make(1, 1, 1);
    for (let n = 0; n < 9; n++) {
      expect([n, sockets.mayAccept()]).toEqual([n, true]);
      sockets.opened(7 + n);
    }
    expect([sockets.mayAccept(), sockets.mayAccept()]).toEqual([false, false]);
    expect(lines).toEqual(['Who connects to a host-forward has to wait as 9 connections are open']);
    udp('10.0.2.15', 1000);
    expect(input(sockets)).toBeGreaterThan(0);
    sockets.closed(7);
    expect(sockets.mayAccept()).toBe(true);
    udp('10.0.2.15', 1001);
    expect(input(sockets)).toBeUndefined();
  });
});

describe('UserWire with a guest that opens more than it may', () => {
  let guest: TestGuest;
  let host: ReturnType<typeof testHost>;
  let outside: Socket | undefined;
  let server: Server | undefined;

  function start(connections: number, flows: number, all: number, hostForwards: string[] = []): void {
    host = testHost();
    const options = { hosts: new Map(), forwards: [], hostForwards: hostForwards.map(parseHostForward) };
    const bounds = { connections, flows, all, accepted: 9 };
    guest = new TestGuest(host, new UserWire(options, host, DEFAULT_NETWORK, bounds));
  }

  afterEach(() => {
    guest.close();
    outside?.close();
    server?.close();
    outside = server = undefined;
  });

  /** Echoes datagrams; the ports that they came from. */
  async function echo(): Promise<{ port: number; seen: Set<number> }> {
    const socket = createSocket('udp4');
    outside = socket;
    const seen = new Set<number>();
    socket.on('message', (message, peer) => {
      seen.add(peer.port);
      socket.send(message, peer.port, peer.address);
    });
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    return { port: socket.address().port, seen };
  }

  const roundTrip = (own: number, port: number, from = guest.ip) =>
    guest.exchange(
      `UDP from ${own}`,
      () => guest.sendUdp(GATEWAY, own, port, Buffer.from('x'), from),
      (frame) => udpOf(frame, own, port),
    );

  it('it keeps the UDP ports that it has, and others get theirs', async () => {
    start(9, 3, 9);
    const { port, seen } = await echo();
    for (let own = 53_000; own < 53_003; own++) await roundTrip(own, port);
    for (let own = 53_003; own < 53_050; own++) guest.sendUdp(GATEWAY, own, port, Buffer.from('x'));
    for (let own = 53_000; own < 53_003; own++) await roundTrip(own, port);
    expect(seen.size).toBe(3);
    const other = ip('10.0.2.16');
    guest.aliases.add(other);
    await roundTrip(53_003, port, other);
    expect(seen.size).toBe(4);
    expect(await guest.ping(GATEWAY, Buffer.from('hello'))).toEqual(new Uint8Array(Buffer.from('hello')));
    expect(host.lines).toEqual([expect.stringMatching(/^warn: Dropped what 10\.0\.2\.15 sent to open more/)]);
  });

  it('its connections go on, and others get theirs', async () => {
    start(3, 9, 9);
    const held: [NetSocket, Buffer][] = [];
    const listener = createServer((socket) => {
      socket.on('error', () => {}).once('data', (data) => held.push([socket, data]));
    });
    server = listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const ask = async (own: number, from = guest.ip) =>
      `${(await tcpRequest(guest, own, GATEWAY, port, Buffer.from(`from ${own}`), from)).bytes}`;
    const answers = [50_000, 50_001, 50_002].map((own) => ask(own));
    await expect.poll(() => held.length).toBe(3);
    const syn = { source: 50_003, destination: port, sequence: 1, acknowledgment: 0, flags: TCP_FLAG.SYN };
    const segment = new Uint8Array(TCP.HEADER);
    const pseudo = pseudoSum(guest.ip, GATEWAY, IP_PROTOCOL.TCP, segment.length);
    emitTcp(segment, 0, { ...syn, window: 1000 }, 0, pseudo);
    guest.sendIpv4(GATEWAY, IP_PROTOCOL.TCP, segment);
    const other = ip('10.0.2.16');
    guest.aliases.add(other);
    answers.push(ask(50_004, other));
    await expect.poll(() => held.length).toBe(4);
    for (const [socket, data] of held) socket.end(data);
    expect(await Promise.all(answers)).toEqual(['from 50000', 'from 50001', 'from 50002', 'from 50004']);
    expect(host.lines).toEqual([expect.stringMatching(/at most 3 TCP connections$/)]);
  });

  it('it answers at a host-forward all the same', async () => {
    const own = ownLoopback();
    start(9, 1, 9, [`udp:${own}:${FREE_PORT}=10.0.2.15:7`]);
    const { port } = await echo();
    await roundTrip(53_000, port);
    guest.sendUdp(GATEWAY, 53_001, port, Buffer.from('x'));
    expect(host.lines).toHaveLength(1);
    const client = createSocket('udp4');
    const answer = once(client, 'message');
    const asked = await guest.exchange(
      'UDP',
      () => client.send('hello', FREE_PORT, own),
      (frame) => (udpOf(frame, 7) ? packetOf(frame) : undefined),
    );
    guest.sendUdp(
      GATEWAY,
      7,
      ((asked.payload[0] as number) << 8) | (asked.payload[1] as number),
      Buffer.from('welcome'),
    );
    expect(`${(await answer)[0]}`).toBe('welcome');
    client.close();
  });
});
