// The HTTP server on lwIP, with kernel clients that reach it through libslirp's port forwarding.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Server } from '#lwip/server';
import { type TestHost, testHost } from '#lwip/testing/host';
import { HttpServer, LIMITS, type Limits } from './server.ts';
import type { Site } from './site.ts';

const BYTES = Buffer.from(Array.from({ length: 500_000 }, (_, n) => (n * 13 + (n >> 7)) & 0xff));
const SITE: Site = {
  find: async () => ({
    kind: 'file',
    name: 'x',
    size: BYTES.length,
    modified: 0,
    async *read(start, end) {
      for (let at = start; at < end; at += 65536) yield BYTES.subarray(at, Math.min(at + 65536, end));
    },
  }),
};
const SHORT = { headersMs: 300, idleMs: 500, keepAliveMs: 300, checkMs: 50 };

let host: TestHost;
/** A server with the limits of the program, and an impatient one. */
let patient: Service;
let impatient: Service;
const lines: string[] = [];

class Service {
  /** Of the host's loopback. */
  readonly port: number;
  readonly #http: HttpServer;
  readonly #listener: Server;

  constructor(hostPort: number, guestPort: number, limits: Limits) {
    this.port = hostPort;
    this.#http = new HttpServer({ site: SITE, log: (line) => lines.push(line), limits });
    this.#listener = new Server(host, { allowHalfOpen: true }, (socket) => this.#http.accept(socket));
    this.#listener.listen(guestPort);
    host.slirp.forward(hostPort, guestPort);
  }

  async close(): Promise<void> {
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    this.#http.close();
    await closed;
  }
}

/** A port of the host that nobody uses now. */
async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

beforeAll(async () => {
  host = testHost();
  patient = new Service(await freePort(), 80, LIMITS);
  impatient = new Service(await freePort(), 81, SHORT);
});

afterAll(async () => {
  await Promise.all([patient.close(), impatient.close()]);
  host[Symbol.dispose]();
});

/** One at a time: libslirp's listener takes few connections at once. */
async function open({ port } = patient): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

/** Bodies of `count` responses of known length, and nothing behind them. */
async function bodies(socket: net.Socket, count: number): Promise<string[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  let rest = Buffer.concat(chunks);
  const hashes: string[] = [];
  for (let n = 0; n < count; n++) {
    const at = rest.indexOf('\r\n\r\n') + 4;
    hashes.push(hashOf(rest.subarray(at, at + BYTES.length)));
    rest = rest.subarray(at + BYTES.length);
  }
  expect(rest.length).toBe(0);
  return hashes;
}

const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n';
const LAST = 'GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

const HASH = hashOf(BYTES);

describe('HttpServer on lwIP', () => {
  it('serves many connections at the same time, and several requests on each', async () => {
    const sockets: net.Socket[] = [];
    for (let n = 0; n < 40; n++) sockets.push(await open());
    const all = sockets.map((socket) => bodies(socket, 3));
    for (const socket of sockets) socket.write(GET + GET + LAST);
    expect(new Set((await Promise.all(all)).flat())).toEqual(new Set([HASH]));
    expect(lines).toHaveLength(120);
  });

  it('answers a client that has ended its side', async () => {
    const socket = await open();
    socket.end(GET);
    expect(await bodies(socket, 1)).toEqual([HASH]);
  });

  it('ends who sends nothing, who is too slow, and who is idle between requests; others go on', async () => {
    const [mute, slow, idle] = [await open(impatient), await open(impatient), await open(impatient)];
    const texts = [mute, slow, idle].map((socket) => {
      let text = '';
      socket.once('end', () => socket.end());
      socket.setEncoding('latin1').on('data', (chunk) => {
        text += chunk;
      });
      return () => text;
    });
    const closed = [mute, slow, idle].map(
      (socket) => new Promise((resolve) => socket.once('close', resolve)),
    );
    const drip = setInterval(() => slow.write('X'), 50);
    slow.write('GET /x HTTP/1.1\r\nX: ');
    slow.on('error', () => {});
    idle.write('HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n');
    const other = await open(impatient);
    other.end(LAST);
    expect(await bodies(other, 1)).toEqual([HASH]);
    await Promise.all(closed);
    clearInterval(drip);
    expect(texts.map((text) => text().slice(0, 12))).toEqual([
      'HTTP/1.1 408',
      'HTTP/1.1 408',
      'HTTP/1.1 200',
    ]);
  });

  it('gets over clients that go away in the middle', async () => {
    const before = lines.length;
    for (let n = 0; n < 10; n++) {
      const socket = await open();
      socket.write(GET);
      await once(socket, 'data');
      socket.resetAndDestroy();
    }
    await expect.poll(() => lines.length).toBe(before + 10);
    const socket = await open();
    socket.write(LAST);
    expect(await bodies(socket, 1)).toEqual([HASH]);
  });
});
