// The HTTP server on lwIP, with kernel clients that reach it through libslirp's port forwarding.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Server } from '#lwip/server';
import { type TestHost, testHost } from '#lwip/testing/host';
import { HttpServer } from './server.ts';
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
const LIMITS = { headersMs: 300, idleMs: 500, keepAliveMs: 300, checkMs: 50 };

let host: TestHost;
let server: HttpServer;
let listener: Server;
let port: number;
const lines: string[] = [];

beforeAll(async () => {
  host = testHost();
  server = new HttpServer({ site: SITE, log: (line) => lines.push(line), limits: LIMITS });
  listener = new Server(host, { allowHalfOpen: true }, (socket) => server.accept(socket));
  listener.listen(80);
  await once(listener, 'listening');
  const free = net.createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  port = (free.address() as net.AddressInfo).port;
  free.close();
  await once(free, 'close');
  host.slirp.forward(port, 80);
});

afterAll(async () => {
  const closed = once(listener, 'close');
  listener.close();
  server.close();
  await closed;
  host[Symbol.dispose]();
});

async function get(agent: http.Agent): Promise<string> {
  const request = http.get({ host: '127.0.0.1', port, path: '/x', agent });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const hash = createHash('sha256');
  for await (const chunk of response) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

const HASH = createHash('sha256').update(BYTES).digest('hex');

describe('HttpServer on lwIP', () => {
  it('serves many connections at the same time, and several requests on each', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const hashes = await Promise.all(Array.from({ length: 60 }, () => get(agent)));
    expect(new Set(hashes)).toEqual(new Set([HASH]));
    agent.destroy();
  });

  it('answers a client that has ended its side', async () => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.end('GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    const all = Buffer.concat(chunks);
    expect(all.subarray(all.indexOf('\r\n\r\n') + 4).equals(BYTES)).toBe(true);
  });

  it('ends who sends nothing, who is too slow, and who is idle between requests; others go on', async () => {
    const [mute, slow, idle] = [0, 1, 2].map(() => net.connect(port, '127.0.0.1')) as [
      net.Socket,
      net.Socket,
      net.Socket,
    ];
    const texts = [mute, slow, idle].map((socket) => {
      let text = '';
      socket.setEncoding('latin1').on('data', (chunk) => {
        text += chunk;
      });
      return () => text;
    });
    const closed = [mute, slow, idle].map((socket) => once(socket, 'close'));
    const drip = setInterval(() => slow.write('X'), 50);
    slow.write('GET /x HTTP/1.1\r\nX: ');
    slow.on('error', () => {});
    idle.write('HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n');
    expect(await get(new http.Agent())).toBe(HASH);
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
      const socket = net.connect(port, '127.0.0.1');
      socket.write('GET /x HTTP/1.1\r\nHost: a\r\n\r\n');
      await once(socket, 'data');
      socket.resetAndDestroy();
    }
    await expect.poll(() => lines.length).toBe(before + 10);
    expect(await get(new http.Agent())).toBe(HASH);
  });
});
