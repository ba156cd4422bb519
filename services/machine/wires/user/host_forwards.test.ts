/** Connections from the host into the guest: libslirp's listening sockets, with a real guest behind them. */

import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseHostForward } from '../options.ts';
import { TestGuest, testHost } from '../testing/guest.ts';
import { serveEcho } from '../testing/guest_echo.ts';
import { FREE_PORT, ownLoopback } from '../testing/loopback.ts';
import { UserWire } from './user_wire.ts';

const AT_ONCE = 64;
const BYTES = 20_000;

let host: ReturnType<typeof testHost>;
let guest: TestGuest;
let address: string;

const PORTS = [FREE_PORT, FREE_PORT + 1] as const;

/** Sends `bytes`, half-closes, and returns what came back. */
function exchange(bytes: Buffer, port: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect({ port, host: address }, () => socket.end(bytes));
    socket.on('data', (data) => parts.push(data));
    socket.on('end', () => resolve(Buffer.concat(parts)));
    socket.on('error', reject);
  });
}

beforeEach(() => {
  address = ownLoopback();
  host = testHost();
  const tcp = PORTS.map((port) => `${address}:${port}=10.0.2.15:7`);
  const forwards = [`udp:${address}:${PORTS[0]}=10.0.2.15:9`, ...tcp];
  const hostForwards = forwards.map(parseHostForward);
  guest = new TestGuest(host, new UserWire({ hosts: new Map(), forwards: [], hostForwards }, host));
  serveEcho(guest, 7);
});

afterEach(() => guest.close());

describe('UserWire with host-forwards', () => {
  it(`takes ${AT_ONCE} connections at once to each port and mixes up none`, async () => {
    const sent = Array.from({ length: 2 * AT_ONCE }, (_, n) => Buffer.alloc(BYTES, `connection ${n} `));
    const got = await Promise.all(sent.map((bytes, n) => exchange(bytes, PORTS[n % 2] as number)));
    expect(got.map((bytes, n) => bytes.equals(sent[n] as Buffer))).toEqual(sent.map(() => true));
    expect(host.lines).toEqual([]);
  });
});
