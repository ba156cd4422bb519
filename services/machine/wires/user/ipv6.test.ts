/** IPv6, UDP and ping through the user wire with a real libslirp; the outside is this machine's loopback only. */
import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseIpv4 } from '#common/wire/ipv4';
import { TestGuest, testHost, udpOf } from '../testing/guest.ts';
import { address, Guest6 } from '../testing/guest6.ts';
import { UserWire } from './user_wire.ts';

const GATEWAY = parseIpv4('10.0.2.2') as number;
const GATEWAY6 = address('fec0::2');

const loopback6 = Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === '::1'));
if (!loopback6) console.warn('Skipped UDP over IPv6 to the host: this host has no ::1');

let guest: TestGuest;
let guest6: Guest6;
let echo: Socket | undefined;

beforeEach(() => {
  const host = testHost();
  guest = new TestGuest(host, new UserWire({ hosts: new Map(), forwards: [] }, host));
  guest6 = new Guest6(guest, 'fec0::5054:ff:fe12:3456');
});
afterEach(() => {
  guest.close();
  echo?.close();
  echo = undefined;
});

async function echoServer(kind: 'udp4' | 'udp6', host: string): Promise<number> {
  const socket = createSocket(kind);
  echo = socket;
  socket.on('message', (message, peer) => socket.send(`echo ${message}`, peer.port, peer.address));
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(0, host, resolve);
  });
  return socket.address().port;
}

describe('UserWire', () => {
  it('advertises fec0::/64 and answers neighbour discovery and ping over IPv6', async () => {
    expect(await guest6.solicitRouter()).toEqual({ prefix: address('fec0::'), length: 64 });
    const payload = Buffer.from('0123456789'.repeat(100));
    expect(Buffer.from(await guest6.ping(GATEWAY6, payload))).toEqual(payload);
  });

  it.skipIf(!loopback6)("leads UDP over IPv6 to fec0::2 to the host's loopback", async () => {
    const port = await echoServer('udp6', '::1');
    await guest6.solicitRouter();
    const answer = await guest6.udp(GATEWAY6, port, Buffer.from('hello'));
    expect(Buffer.from(answer).toString()).toBe('echo hello');
  });

  it("leads UDP to 10.0.2.2 to the host's loopback, without any forward", async () => {
    const port = await echoServer('udp4', '127.0.0.1');
    const send = () => guest.sendUdp(GATEWAY, 53_000, port, Buffer.alloc(1400, 'x'));
    const answer = await guest.exchange('UDP', send, (frame) => udpOf(frame, 53_000, port));
    expect(answer.length).toBe(1405);
  });

  it('pings with payloads of any size that fits a frame', async () => {
    for (const size of [0, 1, 55, 56, 1471, 1472]) {
      const payload = Buffer.alloc(size, 'p');
      expect(Buffer.from(await guest.ping(GATEWAY, payload))).toEqual(payload);
    }
  });
});
