/** More guests on one user wire than libslirp has room for: its DHCP server knows 16 and its ARP table remembers 16. */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { type TestGuest, testHost } from '../testing/guest.ts';
import { tcpRequest } from '../testing/guest_tcp.ts';
import { Hub } from '../testing/hub.ts';
import { UserWire } from './user_wire.ts';

const GUESTS = 40;
const GATEWAY = parseIpv4('10.0.2.2') as number;
const PAGE = Buffer.from('0123456789abcdef'.repeat(2000));

let host: ReturnType<typeof testHost>;
let wire: UserWire;
let guests: TestGuest[];
let server: Server;
let port: number;

beforeEach(async () => {
  server = createServer((_request, response) => response.end(PAGE));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
  host = testHost();
  wire = new UserWire({ hosts: new Map(), forwards: [] }, host);
  const hub = new Hub(host, wire);
  guests = Array.from({ length: GUESTS }, () => hub.plug());
  for (const [i, guest] of guests.entries()) guest.ip = (parseIpv4('10.0.2.15') as number) + i;
});

afterEach(async () => {
  for (const guest of guests) guest.close();
  await new Promise((resolve) => server.close(resolve));
});

const fetchPage = async (guest: TestGuest) => {
  const request = Buffer.from('GET / HTTP/1.0\r\nHost: test\r\n\r\n');
  const { bytes } = await tcpRequest(guest, 50_000, GATEWAY, port, request);
  return bytes.subarray(bytes.indexOf('\r\n\r\n') + 4).equals(PAGE);
};

describe('UserWire with 40 guests', () => {
  it('leases 40 addresses one after the other, the same again to the same guest', async () => {
    const leases: string[] = [];
    for (const guest of guests) leases.push(formatIpv4((await guest.dhcp()).yiaddr));
    expect(leases).toEqual(guests.map((_, i) => `10.0.2.${15 + i}`));
    const again = await Promise.all(guests.map((guest) => guest.dhcp()));
    expect(again.map(({ yiaddr }) => formatIpv4(yiaddr))).toEqual(leases);
    expect(host.lines).toEqual([]);
  });

  it('carries pings of all of them, in turn and at once', async () => {
    const payload = new Uint8Array(Buffer.from('hello'));
    for (const guest of guests) expect(await guest.ping(GATEWAY, payload)).toEqual(payload);
    const answers = await Promise.all(guests.map((guest) => guest.ping(GATEWAY, payload)));
    expect(answers).toEqual(guests.map(() => payload));
    expect(wire.dropped).toBe(0);
  });

  it('carries a download for each of them at once', async () => {
    const complete = await Promise.all(guests.map(fetchPage));
    expect(complete).toEqual(guests.map(() => true));
    expect(wire.dropped).toBe(0);
  }, 30_000);
});
