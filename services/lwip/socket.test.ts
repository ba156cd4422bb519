// Sockets over a real lwIP and a real libslirp in this process; the peers are kernel sockets on the loopback.
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { refusingPort } from '#common/testing/refusing_port';
import { LwipAgent } from './agent.ts';
import { Socket } from './socket.ts';
import { event, type TestHost, tcpOf, testHost, until } from './testing/host.ts';

const GATEWAY = '10.0.2.2';
let host: TestHost;
let servers: net.Server[] = [];

beforeAll(() => {
  host = testHost();
});

afterAll(() => {
  expect(host.netif.held).toBe(0);
  host[Symbol.dispose]();
});

afterEach(async () => {
  host.slirp.lose = undefined;
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  servers = [];
});

async function listening(server: net.Server): Promise<number> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await event(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

const peer = (onConnection: (socket: net.Socket) => void, options: net.ServerOpts = {}) =>
  listening(
    net.createServer(options, (socket) => {
      socket.on('error', () => {});
      onConnection(socket);
    }),
  );

const connect = (port: number, options: ConstructorParameters<typeof Socket>[1] = {}) =>
  new Socket(host, options).connect({ host: GATEWAY, port });

/** What goes over the connection to `port` from now on: bytes of the frames that come, the window that each side has announced last. */
function watch(port: number) {
  const seen = { bytes: 0, ours: 0xffff, theirs: 0xffff };
  host.slirp.lose = (direction, at, length) => {
    const tcp = tcpOf(host, at);
    if (direction === 'tx' && tcp?.destination === port) seen.ours = tcp.window;
    if (direction === 'rx' && tcp?.source === port) {
      seen.theirs = tcp.window;
      seen.bytes += length;
    }
    return false;
  };
  return seen;
}

/** All bytes up to the end; unlike `for await` it leaves the stream open for writing. */
async function collect(socket: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await event(socket, 'end');
  return Buffer.concat(chunks);
}

/** GETs `bytes` bytes and checks their hash. */
async function download(bytes: number): Promise<void> {
  const block = randomBytes(2 ** 20);
  const sent = createHash('sha256');
  const port = await listening(
    http.createServer(async (_, response) => {
      response.setMaxListeners(0).writeHead(200, { 'content-length': bytes });
      for (let left = bytes; left > 0; ) {
        const part = block.subarray(0, Math.min(left, block.length));
        sent.update(part);
        left -= part.length;
        if (!response.write(part)) await event(response, 'drain');
      }
      response.end();
    }),
  );
  const request = http.get({ host: GATEWAY, port, agent: new LwipAgent(host) });
  const response = await event<http.IncomingMessage>(request, 'response');
  const received = createHash('sha256');
  let length = 0;
  for await (const chunk of response) {
    received.update(chunk as Buffer);
    length += (chunk as Buffer).length;
  }
  expect([length, received.digest('hex')]).toEqual([bytes, sent.digest('hex')]);
}

describe('Node HTTP client over lwIP', () => {
  it('downloads 64 MiB with the right hash', () => download(64 * 2 ** 20));

  it('downloads over a network that loses every 97th frame each way', async () => {
    let n = 0;
    host.slirp.lose = () => ++n % 97 === 0;
    await download(2 ** 20);
  });

  it('uploads with the right hash', async () => {
    const body = randomBytes(8 * 2 ** 20);
    const port = await listening(
      http.createServer(async (request, response) => {
        response.end(
          createHash('sha256')
            .update(await collect(request))
            .digest('hex'),
        );
      }),
    );
    const request = http.request({ host: GATEWAY, port, method: 'POST', agent: new LwipAgent(host) });
    request.end(body);
    const response = await event<http.IncomingMessage>(request, 'response');
    expect((await collect(response)).toString()).toBe(createHash('sha256').update(body).digest('hex'));
  });

  it('keeps a connection alive for the next request', async () => {
    const seen = new Set<number | undefined>();
    const port = await listening(
      http.createServer((request, response) => {
        seen.add(request.socket.remotePort);
        response.end('ok');
      }),
    );
    const agent = new LwipAgent(host, { keepAlive: true });
    for (let n = 0; n < 3; n++) {
      const response = await event<http.IncomingMessage>(
        http.get({ host: 'any.name', port, agent }),
        'response',
      );
      expect((await collect(response)).toString()).toBe('ok');
      await new Promise(setImmediate);
    }
    agent.destroy();
    expect(seen.size).toBe(1);
  });
});

describe('Socket', () => {
  it('knows both ends and counts bytes', async () => {
    const port = await peer((socket) => socket.end('hello'));
    const socket = connect(port);
    await event(socket, 'connect');
    expect(socket).toMatchObject({
      remoteAddress: GATEWAY,
      remotePort: port,
      localAddress: '10.0.2.15',
      connecting: false,
    });
    expect((await collect(socket)).toString()).toBe('hello');
    expect(socket.bytesRead).toBe(5);
  });

  it('receives after it has sent its FIN (half-close)', async () => {
    const port = await peer(
      async (socket) => {
        const text = (await collect(socket)).toString();
        socket.end(`${text.length} bytes`);
      },
      { allowHalfOpen: true },
    );
    const socket = connect(port, { allowHalfOpen: true });
    const closed = event(socket, 'close');
    socket.end('x'.repeat(100_000));
    expect((await collect(socket)).toString()).toBe('100000 bytes');
    await closed;
  });

  it('sends after it has received a FIN when half-open is allowed', async () => {
    let got: Promise<Buffer> | undefined;
    const port = await peer(
      (socket) => {
        socket.end('first');
        got = collect(socket);
      },
      { allowHalfOpen: true },
    );
    const socket = connect(port, { allowHalfOpen: true });
    expect((await collect(socket)).toString()).toBe('first');
    socket.end('second');
    await event(socket, 'close');
    expect((await got)?.toString()).toBe('second');
  });

  it('stops the peer while nobody reads, and loses nothing', async () => {
    const bytes = 8 * 2 ** 20;
    let accepted = 0;
    const port = await peer((socket) => {
      const block = Buffer.alloc(65536, 'a');
      const more = () => {
        while (accepted < bytes) {
          accepted += block.length;
          if (!socket.write(block)) return;
        }
        socket.end();
      };
      socket.on('drain', more);
      more();
    });
    const seen = watch(port);
    const socket = connect(port);
    await event(socket, 'readable');
    // What is left is too little for a segment.
    await until(() => seen.ours < 1460);
    const before = seen.bytes;
    const other = await peer((socket) => socket.end('x'.repeat(10_000)));
    for (let n = 0; n < 10; n++) expect((await collect(connect(other))).length).toBe(10_000);
    // The peer may ask whether it may go on, with what is left of the window.
    expect(seen.bytes - before).toBeLessThan(2 * 1514);
    expect([socket.readableLength < 256 * 1024, seen.bytes < 512 * 1024]).toEqual([true, true]);
    expect((await collect(socket)).length).toBe(bytes);
  });

  it('holds writes back while the peer does not read', async () => {
    let socketAtPeer: net.Socket | undefined;
    const port = await peer((socket) => {
      socketAtPeer = socket.pause();
    });
    const seen = watch(port);
    const socket = connect(port);
    let finished = false;
    socket.write(Buffer.alloc(32 * 2 ** 20), () => {
      finished = true;
    });
    await until(() => seen.theirs < 1460);
    expect([finished, socket.writableNeedDrain]).toEqual([false, true]);
    socketAtPeer?.resume();
    socket.resume().end();
    await event(socket, 'close');
    expect(finished).toBe(true);
  });

  it('fails with ECONNREFUSED and a sentence', async () => {
    const { port, close } = await refusingPort();
    const err = await event<NodeJS.ErrnoException>(connect(port), 'error');
    await close();
    expect(err).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', address: GATEWAY, port });
    expect(err.message).toBe(
      `Cannot connect to 10.0.2.2:${port} as the host refused it: nothing listens on that port`,
    );
  });

  it('fails with EHOSTUNREACH when nobody answers ARP', async () => {
    const err = await event<NodeJS.ErrnoException>(
      new Socket(host).connect({ host: '10.0.2.99', port: 80 }),
      'error',
    );
    expect(err).toMatchObject({ code: 'EHOSTUNREACH' });
    expect(err.message).toMatch(/nobody on vn0 answers ARP requests for 10\.0\.2\.99/);
  });

  it.each([
    ['10.0.2.15', 'EADDRNOTAVAIL', /there is no loopback interface/],
    ['127.0.0.1', 'EADDRNOTAVAIL', /there is no loopback interface/],
    ['2001:db8::1', 'ENETUNREACH', /link-local IPv6 address only/],
  ])('refuses to connect to %s', async (address, code, message) => {
    const err = await event<NodeJS.ErrnoException>(
      new Socket(host).connect({ host: address, port: 80 }),
      'error',
    );
    expect([err.code, err.message]).toEqual([code, expect.stringMatching(message)]);
  });

  it('fails with ECONNRESET or an early end when the peer resets', async () => {
    const port = await peer((socket) => socket.once('data', () => socket.resetAndDestroy()));
    const socket = connect(port);
    socket.write('x');
    const outcome = await Promise.race([
      event(socket, 'end').catch((err) => err.code),
      collect(socket).catch((err) => err.code),
    ]);
    // A reset on the host side becomes a FIN in libslirp.
    expect([undefined, 'ECONNRESET', '']).toContain(outcome instanceof Buffer ? outcome.toString() : outcome);
  });

  it('emits timeout when nothing happens, and can be aborted', async () => {
    const port = await peer(() => {});
    const abort = new AbortController();
    const socket = connect(port, { signal: abort.signal }).setTimeout(50);
    await event(socket, 'timeout');
    abort.abort();
    expect(await event<Error>(socket, 'error')).toMatchObject({ name: 'AbortError' });
    expect(socket.destroyed).toBe(true);
  });

  it('tells what it was writing when it is destroyed', async () => {
    const port = await peer((socket) => socket.resume());
    const socket = connect(port);
    await event(socket, 'connect');
    const written = new Promise<Error | null | undefined>((resolve) => {
      socket.write(Buffer.alloc(32 * 2 ** 20), resolve);
    });
    socket.destroy();
    expect(await written).toMatchObject({ code: 'ECANCELED' });
  });

  it('does not connect when it has been aborted before', async () => {
    const port = await peer(() => {});
    const seen = vi.fn();
    host.slirp.lose = (direction, at) => {
      if (direction === 'tx' && tcpOf(host, at)?.destination === port) seen();
      return false;
    };
    const socket = connect(port, { signal: AbortSignal.abort() });
    expect(await event<Error>(socket, 'error')).toMatchObject({ name: 'AbortError' });
    // Another one behind it.
    const next = await peer((each) => each.end('x'));
    expect((await collect(connect(next))).toString()).toBe('x');
    expect([seen.mock.calls.length, socket.connecting]).toEqual([0, false]);
  });

  it.each([-1, 65_536, 1.5])('refuses local port %d', (localPort) => {
    expect(() => new Socket(host).connect({ host: GATEWAY, port: 80, localPort })).toThrow(
      `Cannot connect as localPort must be 0..65535: current value is ${localPort}`,
    );
  });

  it('waits at most as long as a timer can', async () => {
    const spy = vi.spyOn(process, 'emitWarning').mockReturnValue(undefined);
    const socket = new Socket(host).setTimeout(2 ** 33);
    expect([spy.mock.calls, socket.timeout]).toEqual([[], 2 ** 31 - 1]);
    spy.mockRestore();
    socket.destroy();
  });

  it('binds to a local port and refuses one in use', async () => {
    const port = await peer(() => {});
    const first = new Socket(host).connect({ host: GATEWAY, port, localPort: 5555 });
    await event(first, 'connect');
    expect(first.localPort).toBe(5555);
    const err = await event<NodeJS.ErrnoException>(
      new Socket(host).connect({ host: GATEWAY, port, localPort: 5555 }),
      'error',
    );
    expect([err.code, err.message]).toEqual([
      'EADDRINUSE',
      `Cannot connect to 10.0.2.2:${port} as local port 5555 is in use`,
    ]);
    first.resetAndDestroy();
  });

  it('finds IPv6 neighbours on the link and sends them its SYN', async () => {
    await until(() => host.netif.ip6.length > 0);
    expect(host.netif.ip6).toEqual(['fe80::5054:ff:fe12:3456']);
    const { u8 } = host.stack.memory;
    const text = (at: number, length: number) => Buffer.from(u8.subarray(at, at + length)).toString('hex');
    const syn = new Promise<string>((resolve) => {
      host.slirp.lose = (direction, at) => {
        if (direction === 'tx' && text(at + 12, 2) === '86dd' && u8[at + 20] === 6)
          resolve(text(at + 38, 16));
        return false;
      };
    });
    const socket = new Socket(host).connect({ host: 'fe80::2%vn0', port: 80 });
    socket.on('error', () => {});
    expect(await syn).toBe('fe800000000000000000000000000002');
    socket.destroy();
  });

  it('opens and closes 200 connections one behind the other', async () => {
    const port = await peer((socket) => socket.end('x'));
    for (let n = 0; n < 200; n++) expect((await collect(connect(port))).toString()).toBe('x');
  });
});
