// The HTTP server on lwIP, with kernel clients that reach it through libslirp's port forwarding.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Server } from '#lwip/server';
import type { Socket } from '#lwip/socket';
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
/** For one that sends no request in time. A connection that is under way has all the time of the world. */
const SHORT = { ...LIMITS, headersMs: 300, keepAliveMs: 300, checkMs: 50 };

let host: TestHost;
/** A server with the limits of the program, and an impatient one. */
let patient: Service;
let impatient: Service;
let lines: string[] = [];
let onLine = () => {};

class Service {
  /** Of the host's loopback. */
  readonly port: number;
  /** The same server for a client whose first bytes have come before its time begins. */
  readonly promptPort: number;
  readonly #http: HttpServer;
  readonly #listeners: readonly Server[];

  constructor(limits: Limits, guestPort: number) {
    this.#http = new HttpServer({ site: SITE, log, limits });
    const accept = (socket: Socket) => this.#http.accept(socket);
    const listen = (port: number, onConnection: (socket: Socket) => void) =>
      new Server(host, { allowHalfOpen: true }, onConnection).listen(port);
    this.#listeners = [
      listen(guestPort, accept),
      listen(guestPort + 1, (socket) => socket.once('readable', () => accept(socket))),
    ];
    this.port = host.slirp.forward(guestPort);
    this.promptPort = host.slirp.forward(guestPort + 1);
  }

  async close(): Promise<void> {
    const closed = this.#listeners.map((listener) => once(listener, 'close'));
    for (const listener of this.#listeners) listener.close();
    this.#http.close();
    await Promise.all(closed);
  }
}

function log(line: string): void {
  lines.push(line);
  onLine();
}

/** Resolves when there are so many lines. */
async function logged(count: number): Promise<void> {
  while (lines.length < count) {
    await new Promise<void>((resolve) => {
      onLine = resolve;
    });
  }
}

beforeAll(() => {
  host = testHost();
  patient = new Service(LIMITS, 80);
  impatient = new Service(SHORT, 90);
});

beforeEach(() => {
  lines = [];
});

afterAll(async () => {
  await Promise.all([patient.close(), impatient.close()]);
  host[Symbol.dispose]();
});

/** One at a time: libslirp's listener takes few connections at once. */
async function open(port = patient.port): Promise<net.Socket> {
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
    await logged(120);
  });

  it('answers a client that has ended its side', async () => {
    const socket = await open();
    socket.end(GET);
    expect(await bodies(socket, 1)).toEqual([HASH]);
  });

  it('ends who sends nothing, who is too slow, and who is idle between requests; others go on', async () => {
    const { port, promptPort } = impatient;
    const [mute, slow, idle] = [await open(port), await open(port), await open(promptPort)];
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
    const refused = () => lines.filter((line) => line.includes('"-" 408')).length;
    const drip = setInterval(() => refused() < 2 && slow.write('X'), 50);
    slow.write('GET /x HTTP/1.1\r\nX: ');
    slow.on('error', () => {});
    idle.write('HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n');
    const other = await open(promptPort);
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
    for (let n = 0; n < 10; n++) {
      const socket = await open();
      socket.write(GET);
      await once(socket, 'data');
      socket.resetAndDestroy();
    }
    await logged(10);
    const socket = await open();
    socket.write(LAST);
    expect(await bodies(socket, 1)).toEqual([HASH]);
  });
});
