/** Connections from the host into the guest: libslirp's listening sockets, with a real guest behind them. */

import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseHostForward } from '../options.ts';
import { TestGuest, testHost } from '../testing/guest.ts';
import { serveEcho } from '../testing/guest_echo.ts';
import { FREE_PORT, ownLoopback } from '../testing/loopback.ts';
import type { SocketBounds } from './guest_sockets.ts';
import { DEFAULT_NETWORK } from './network.ts';
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

/** A connection that stays, which `socket` is until it is reset, and the first bytes of what came back. */
function held(port: number): { socket: Socket; echoed: Promise<string> } {
  const socket = connect({ port, host: address }, () => socket.write('hello'));
  socket.on('error', () => {});
  return { socket, echoed: new Promise((resolve) => socket.once('data', (data) => resolve(`${data}`))) };
}

beforeEach(() => {
  address = ownLoopback();
  start();
});

function start(bounds?: SocketBounds): void {
  host = testHost();
  const tcp = PORTS.map((port) => `${address}:${port}=10.0.2.15:7`);
  const forwards = [`udp:${address}:${PORTS[0]}=10.0.2.15:9`, ...tcp];
  const hostForwards = forwards.map(parseHostForward);
  const options = { hosts: new Map(), forwards: [], hostForwards };
  guest = new TestGuest(host, new UserWire(options, host, DEFAULT_NETWORK, bounds));
  serveEcho(guest, 7);
}

afterEach(() => guest.close());

describe('UserWire with host-forwards', () => {
  it(`takes ${AT_ONCE} connections at once to each port and mixes up none`, async () => {
    const sent = Array.from({ length: 2 * AT_ONCE }, (_, n) => Buffer.alloc(BYTES, `connection ${n} `));
    const got = await Promise.all(sent.map((bytes, n) => exchange(bytes, PORTS[n % 2] as number)));
    expect(got.map((bytes, n) => bytes.equals(sent[n] as Buffer))).toEqual(sent.map(() => true));
    expect(host.lines).toEqual([]);
  });

  it('lets who comes beyond the bound wait until others have gone, and nobody else', async () => {
    guest.close();
    start({ connections: 9, flows: 9, all: 9, accepted: 3 });
    const [first, ...others] = [0, 1, 0].map((n) => held(PORTS[n] as number));
    expect(await Promise.all([first, ...others].map((one) => one?.echoed))).toEqual(Array(3).fill('hello'));
    const late = held(PORTS[1]);
    let heard = false;
    void late.echoed.then(() => {
      heard = true;
    });
    for (let round = 0; round < 10; round++) {
      const again = others.map(({ socket }) => new Promise((resolve) => socket.once('data', resolve)));
      for (const { socket } of others) socket.write('again');
      await Promise.all(again);
    }
    expect(heard).toBe(false);
    expect(host.lines).toEqual([
      'warn: Who connects to a host-forward has to wait as 3 connections are open',
    ]);
    first?.socket.resetAndDestroy();
    expect(await late.echoed).toBe('hello');
    for (const { socket } of [...others, late]) socket.resetAndDestroy();
  });
});
