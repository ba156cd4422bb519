/** The user wire with a real libslirp in this process; the outside is this machine's loopback only. */

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFiles } from '#common/testing/open_files';
import { DHCP_OPTION } from '#common/wire/dhcp';
import { optionAddresses } from '#common/wire/dhcp_options';
import { DNS_TYPE, rcodeOf } from '#common/wire/dns';
import { formatIpv4, IP_PROTOCOL, parseIpv4 } from '#common/wire/ipv4';
import { udpSource } from '#common/wire/udp';
import { type GuestForward, parseGuestForward, parseHostForward } from '../options.ts';
import { packetOf, TestGuest, testHost, udpOf } from '../testing/guest.ts';
import { tcpRequest } from '../testing/guest_tcp.ts';
import { FREE_PORT, ownLoopback } from '../testing/loopback.ts';
import { UserWire } from './user_wire.ts';

const ip = (text: string) => parseIpv4(text) as number;
const GATEWAY = ip('10.0.2.2');
const DNS_SERVER = ip('10.0.2.3');
const MIRROR = ip('10.0.2.100');
const OUTSIDE = ip('203.0.113.7');
const PAGE = Buffer.from('0123456789abcdef'.repeat(20_000));

let server: Server;
let port: number;
let guest: TestGuest;
let host: ReturnType<typeof testHost>;
let wire: UserWire;

function start(
  forwards: readonly string[],
  hosts: [string, string[]][] = [],
  hostForwards: readonly string[] = [],
): void {
  host = testHost();
  wire = new UserWire(
    {
      hosts: new Map(hosts),
      forwards: forwards.map((text): GuestForward => parseGuestForward(text)),
      hostForwards: hostForwards.map(parseHostForward),
    },
    host,
  );
  guest = new TestGuest(host, wire);
}

const get = (path: string, address: number, fromPort: number, toPort = 80, from?: number) =>
  tcpRequest(
    guest,
    fromPort,
    address,
    toPort,
    Buffer.from(`GET ${path} HTTP/1.0\r\nHost: test\r\n\r\n`),
    from,
  );

beforeEach(async () => {
  server = createServer((request, response) => {
    response.end(request.url === '/big' ? PAGE : `you asked for ${request.url}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  guest?.close();
  await new Promise((resolve) => server.close(resolve));
});

describe('UserWire', () => {
  it('answers ARP, gives the documented lease and pings', async () => {
    start([]);
    expect(Buffer.from(await guest.arp(GATEWAY)).toString('hex')).toBe('52550a000202');
    const lease = await guest.dhcp();
    expect(formatIpv4(lease.yiaddr)).toBe('10.0.2.15');
    expect(optionAddresses(lease, DHCP_OPTION.ROUTER).map(formatIpv4)).toEqual(['10.0.2.2']);
    expect(optionAddresses(lease, DHCP_OPTION.DNS_SERVER).map(formatIpv4)).toEqual(['10.0.2.3']);
    expect(wire.leases()).toEqual([{ client: 0x52_54_00_12_34_56, address: guest.ip }]);
    expect(await guest.ping(GATEWAY, Buffer.from('hello'))).toEqual(new Uint8Array(Buffer.from('hello')));
    expect(host.lines).toEqual([]);
  });

  it('answers fixed names whatever their case, and says that a fixed name has nothing else', async () => {
    start([], [['FTP.de.debian.org', ['10.0.2.100', 'fec0::100']]]);
    const a = await guest.query(DNS_SERVER, 'ftp.DE.debian.org', DNS_TYPE.A);
    expect(a.answers).toMatchObject([
      { name: 'ftp.DE.debian.org', type: DNS_TYPE.A, data: Uint8Array.of(10, 0, 2, 100) },
    ]);
    const aaaa = await guest.query(DNS_SERVER, 'ftp.de.debian.org', DNS_TYPE.AAAA);
    expect(aaaa.answers[0]?.data).toHaveLength(16);
    const mx = await guest.query(DNS_SERVER, 'ftp.de.debian.org', DNS_TYPE.HTTPS);
    expect([rcodeOf(mx.flags), mx.answers]).toEqual([0, []]);
    expect((await guest.query(DNS_SERVER, 'ftp.de.debian.org', DNS_TYPE.ANY)).answers).toHaveLength(2);
  });

  it('leads a connection to a forwarded address to the host, ARP and ping included', async () => {
    start([`10.0.2.100:80=localhost:${port}`]);
    expect(Buffer.from(await guest.arp(MIRROR)).toString('hex')).toBe('52550a000264');
    expect(await guest.ping(MIRROR, new Uint8Array(1400).fill(7))).toHaveLength(1400);
    const { bytes, reset } = await get('/debian/', MIRROR, 50_000);
    expect([bytes.toString().split('\r\n\r\n')[1], reset]).toEqual(['you asked for /debian/', false]);
  });

  it('moves 20 connections at once, also to an address outside of the network and from two guests', async () => {
    start([`10.0.2.100:80=127.0.0.1:${port}`, `203.0.113.7:8080=127.0.0.1:${port}`]);
    const other = ip('10.0.2.16');
    guest.aliases.add(other);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => {
        const from = i < 10 ? guest.ip : other;
        const port = 51_000 + (i % 10);
        return i % 2 ? get('/big', OUTSIDE, port, 8080, from) : get('/big', MIRROR, port, 80, from);
      }),
    );
    for (const { bytes } of answers)
      expect(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4).equals(PAGE)).toBe(true);
    expect(wire.dropped).toBe(0);
  });

  it('refuses a port of a forwarded address that is not forwarded, and passes on a refusal of the host', async () => {
    // The port is ours, so nobody listens there at another address.
    start([`10.0.2.100:80=127.0.0.2:${port}`]);
    expect(await get('/', MIRROR, 52_000, 81)).toMatchObject({ reset: true });
    expect(await get('/', MIRROR, 52_001, 80)).toMatchObject({ reset: true });
  });

  it('forwards UDP both ways', async () => {
    const echo = createSocket('udp4');
    echo.on('message', (message, peer) => echo.send(`echo ${message}`, peer.port, peer.address));
    await new Promise<void>((resolve) => echo.bind(0, '127.0.0.1', resolve));
    start([`10.0.2.100:7=127.0.0.1:${echo.address().port}`]);
    const send = () => guest.sendUdp(MIRROR, 53_000, 7, Buffer.from('hello'));
    const answer = await guest.exchange('UDP', send, (frame) => udpOf(frame, 53_000, 7));
    expect(Buffer.from(answer).toString()).toBe('echo hello');
    echo.close();
  });

  it('puts fragments of its guest together, also for a forward', async () => {
    const echo = createSocket('udp4');
    await new Promise<void>((resolve) => echo.bind(0, '127.0.0.1', resolve));
    start([`10.0.2.100:7=127.0.0.1:${echo.address().port}`]);
    const bytes = randomBytes(5000);
    for (const address of [MIRROR, GATEWAY]) {
      const got = new Promise<Buffer>((resolve) => echo.once('message', resolve));
      guest.sendInPieces(address, 53_000, address === MIRROR ? 7 : echo.address().port, bytes, 1480);
      expect((await got).equals(bytes)).toBe(true);
    }
    echo.close();
  });

  it('takes the sockets of its guest along when it ends', async () => {
    const echo = createSocket('udp4');
    echo.on('message', (message, peer) => echo.send(message, peer.port, peer.address));
    await new Promise<void>((resolve) => echo.bind(0, '127.0.0.1', resolve));
    const before = openFiles('socket:');
    start([`10.0.2.100:7=127.0.0.1:${echo.address().port}`]);
    for (const own of [53_000, 53_001, 53_002]) {
      const send = () => guest.sendUdp(MIRROR, own, 7, Buffer.from('hello'));
      await guest.exchange('UDP', send, (frame) => udpOf(frame, own, 7));
    }
    expect(openFiles('socket:').length).toBeGreaterThanOrEqual(before.length + 3);
    guest.close();
    expect(openFiles('socket:')).toEqual(before);
    echo.close();
  });

  it('reaches the host through 10.0.2.2 without any forward', async () => {
    start([]);
    const { bytes } = await get('/direct', GATEWAY, 54_000, port);
    expect(bytes.toString()).toContain('you asked for /direct');
  });

  it('leads a UDP port of the host to a guest and its answer back', async () => {
    const own = ownLoopback();
    start([], [], [`udp:${own}:${FREE_PORT}=10.0.2.15:7`]);
    const client = createSocket('udp4');
    const answer = new Promise<string>((resolve) => client.on('message', (data) => resolve(`${data}`)));
    const seen = guest.exchange(
      'UDP',
      () => client.send('hello', FREE_PORT, own),
      (frame) => (packetOf(frame)?.protocol === IP_PROTOCOL.UDP ? packetOf(frame) : undefined),
    );
    const { source, payload } = await seen;
    expect([formatIpv4(source), Buffer.from(payload.subarray(8)).toString()]).toEqual(['10.0.2.2', 'hello']);
    guest.sendUdp(GATEWAY, 7, udpSource(payload, 0), Buffer.from('welcome'));
    expect(await answer).toBe('welcome');
    client.close();
  });

  it('says which port of the host is taken, and the wire can be made without', () => {
    const taken = parseHostForward(`${port}=10.0.2.15:80`);
    expect(() => new UserWire({ hosts: new Map(), forwards: [], hostForwards: [taken] }, testHost())).toThrow(
      new RegExp(`Cannot use --host-forward 127.0.0.1:${port}=10.0.2.15:80 as .* must be free`),
    );
    start([]);
  });

  it('keeps frames while the NIC is full and loses none', async () => {
    start([`10.0.2.100:80=127.0.0.1:${port}`]);
    await guest.arp(GATEWAY);
    const answer = get('/big', MIRROR, 55_000);
    for (let i = 0; i < 20; i++) {
      await new Promise((resolve) => setTimeout(resolve, 3));
      guest.full = !guest.full;
      guest.kick();
    }
    guest.full = false;
    guest.kick();
    const { bytes } = await answer;
    expect(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4).equals(PAGE)).toBe(true);
    expect(wire.dropped).toBe(0);
  });
});
