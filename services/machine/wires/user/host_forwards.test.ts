/** Connections from the host into the guest: libslirp's listening sockets, with a real guest behind them. */

import { type AddressInfo, connect, createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseHostForward } from '../options.ts';
import { TestGuest, testHost } from '../testing/guest.ts';
import { serveEcho } from '../testing/guest_echo.ts';
import { UserWire } from './user_wire.ts';

const AT_ONCE = 64;
const BYTES = 20_000;

let host: ReturnType<typeof testHost>;
let guest: TestGuest;
let ports: number[];

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port: free } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return free;
}

/** Sends `bytes`, half-closes, and returns what came back. */
function exchange(bytes: Buffer, port: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.end(bytes));
    socket.on('data', (data) => parts.push(data));
    socket.on('end', () => resolve(Buffer.concat(parts)));
    socket.on('error', reject);
  });
}

beforeEach(async () => {
  ports = [await freePort(), await freePort()];
  host = testHost();
  const forwards = [`udp:${ports[0]}=10.0.2.15:9`, ...ports.map((port) => `${port}=10.0.2.15:7`)];
  const hostForwards = forwards.map(parseHostForward);
  guest = new TestGuest(host, new UserWire({ hosts: new Map(), forwards: [], hostForwards }, host));
  serveEcho(guest, 7);
});

afterEach(() => guest.close());

describe('UserWire with host-forwards', () => {
  it(`takes ${AT_ONCE} connections at once to each port and mixes up none`, async () => {
    const sent = Array.from({ length: 2 * AT_ONCE }, (_, n) => Buffer.alloc(BYTES, `connection ${n} `));
    const got = await Promise.all(sent.map((bytes, n) => exchange(bytes, ports[n % 2] as number)));
    expect(got.map((bytes, n) => bytes.equals(sent[n] as Buffer))).toEqual(sent.map(() => true));
    expect(host.lines).toEqual([]);
  });
});
