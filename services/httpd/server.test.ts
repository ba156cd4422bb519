// The HTTP server on the kernel's sockets: it takes any connections.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HttpServer, LIMITS, type Limits } from './server.ts';
import type { Site, SiteDirectory, SiteFile } from './site.ts';

const MODIFIED = Date.UTC(2026, 8, 5, 10, 12, 30, 123);
const LAST_MODIFIED = 'Sat, 05 Sep 2026 10:12:30 GMT';
const LONG = Buffer.from(Array.from({ length: 300_000 }, (_, n) => (n * 7 + (n >> 8)) & 0xff));

function file(name: string, bytes: Buffer, readable = bytes.length): SiteFile {
  return {
    kind: 'file',
    name,
    size: bytes.length,
    modified: name === 'old' ? 0 : MODIFIED,
    async *read(start, end) {
      for (let at = start; at < end; at += 65536) {
        if (at >= readable) throw new Error('shorter');
        yield bytes.subarray(at, Math.min(at + 65536, end));
      }
    },
  };
}

const FILES: Record<string, SiteFile | SiteDirectory> = {
  '': { kind: 'directory', list: async () => [] },
  'index.html': file('index.html', Buffer.from('<p>hello</p>')),
  'a b.txt': file('a b.txt', Buffer.from('blank')),
  long: file('long', LONG),
  empty: file('empty', Buffer.alloc(0)),
  old: file('old', Buffer.from('old')),
  broken: file('broken', LONG, 65536),
  sub: {
    kind: 'directory',
    list: async () => [
      { name: 'x<y>.txt', size: 5 },
      { name: 'deep/', size: undefined },
    ],
  },
};
const SITE: Site = {
  find: async (names) => {
    if (names[0] === 'late') await gone;
    if (names[0] === 'throws' || names[0] === 'late') throw new Error('the server of the files died');
    return FILES[names.join('/')];
  },
};

/** When the client of /late has gone. */
let gone: Promise<unknown> | undefined;

let listener: net.Server;
let server: HttpServer;
let port: number;
let lines: string[];
let onLine: (() => void) | undefined;

/** With limits of its own, the clock of a connection begins when its first bytes are there: a busy machine may keep them. */
async function start(limits?: Partial<Limits>): Promise<void> {
  lines = [];
  const log = (line: string) => {
    lines.push(line);
    onLine?.();
  };
  server = new HttpServer({ site: SITE, log, limits: { ...LIMITS, ...limits } });
  listener = net.createServer({ allowHalfOpen: true }, (socket) => {
    if (limits) socket.once('readable', () => server.accept(socket));
    else server.accept(socket);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  port = (listener.address() as net.AddressInfo).port;
}

/** Sends bytes as they are; resolves with everything that comes until the server ends the connection. */
async function raw(text: string | Buffer): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(text);
  let got = '';
  socket.setEncoding('latin1');
  for await (const chunk of socket) got += chunk;
  return got;
}

const get = (target: string, headers = '', method = 'GET') =>
  raw(`${method} ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${headers}\r\n`);
const statusOf = (response: string) => Number(response.slice(9, 12));
const bodyOf = (response: string) => response.slice(response.indexOf('\r\n\r\n') + 4);
const header = (response: string, name: string) => new RegExp(`^${name}: (.*)\r$`, 'im').exec(response)?.[1];

beforeEach(() => start());
afterEach(async () => {
  server.close();
  listener.close();
  await once(listener, 'close');
});

describe('GET', () => {
  it('serves a file with type, length and validators', async () => {
    const response = await get('/a%20b.txt');
    expect([statusOf(response), bodyOf(response)]).toEqual([200, 'blank']);
    expect(header(response, 'content-type')).toBe('text/plain; charset=utf-8');
    expect(header(response, 'content-length')).toBe('5');
    expect(header(response, 'last-modified')).toBe(LAST_MODIFIED);
    expect(header(response, 'etag')).toBe(`"5-${MODIFIED.toString(16)}"`);
    expect(lines).toEqual(['127.0.0.1 "GET /a%20b.txt HTTP/1.1" 200 5']);
  });

  it('serves long and empty files, and HEAD without a body', async () => {
    expect(Buffer.from(bodyOf(await get('/long')), 'latin1').equals(LONG)).toBe(true);
    expect(bodyOf(await get('/empty'))).toBe('');
    const head = await get('/long', '', 'HEAD');
    expect([statusOf(head), header(head, 'content-length'), bodyOf(head)]).toEqual([200, '300000', '']);
  });

  it('serves index.html, lists other directories, redirects to the slash', async () => {
    expect(bodyOf(await get('/?query'))).toBe('<p>hello</p>');
    expect(bodyOf(await get('http://a'))).toBe('<p>hello</p>');
    const page = bodyOf(await get('/sub/'));
    expect(page).toContain('<a href="./x%3Cy%3E.txt">x&lt;y&gt;.txt</a></td><td>5<');
    expect(page).toContain('<a href="./deep/">deep/</a>');
    expect(page).toContain('<a href="../">');
    const moved = await get('/sub');
    expect([statusOf(moved), header(moved, 'location')]).toEqual([301, '/sub/']);
  });

  it.each([
    ['/nosuch', 404],
    ['/index.html/', 404],
    ['/../secret', 400],
    ['/sub/%2e%2E/long', 400],
    ['/sub%2flong', 400],
    ['/sub\\..\\x', 400],
    ['/a%00', 400],
    ['/%zz', 400],
    ['/%ff', 400],
    ['//long', 400],
    ['/sub/./x', 400],
    ['*', 400],
    [`/${'a'.repeat(4096)}`, 414],
  ])('answers %s with %i', async (target, status) => {
    expect(statusOf(await get(target))).toBe(status);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(new RegExp(` ${status} \\d+ \\(.+\\)$`));
  });

  it('answers 405 with Allow to other methods and does not read their bodies', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'CONNECT']) {
      const response = await raw(`${method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello`);
      expect([statusOf(response), header(response, 'allow')]).toEqual([405, 'GET, HEAD']);
      expect(lines.at(-1)).toMatch(new RegExp(`"${method} / HTTP/1.1" 405 \\d+ \\(`));
    }
  });

  it('answers 500 when the files cannot be read, and says so', async () => {
    const response = await get('/throws');
    expect(statusOf(response)).toBe(500);
    expect(bodyOf(response)).not.toContain('died');
    expect(lines[0]).toMatch(
      /^127\.0\.0\.1 "GET \/throws HTTP\/1\.1" 500 \d+ \(.*the server of the files died\)$/,
    );
  });

  it('gets over a client that has gone when it is to hear of that', async () => {
    const logged = new Promise<void>((resolve) => {
      onLine = resolve;
    });
    const accepted = once(listener, 'connection');
    const client = net.connect(port, '127.0.0.1');
    const [socket] = (await accepted) as [net.Socket];
    gone = new Promise((resolve) => socket.once('close', resolve));
    client.write('GET /late HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'data');
    client.resetAndDestroy();
    await logged;
    expect(lines).toEqual([expect.stringMatching(/"GET \/late HTTP\/1\.1" 500 \d+ \(.*files died\)$/)]);
    expect(statusOf(await get('/'))).toBe(200);
  });

  it('breaks a response off when the file became shorter', async () => {
    const logged = new Promise<void>((resolve) => {
      onLine = resolve;
    });
    const response = await get('/broken').catch(String);
    expect(bodyOf(response).length).toBeLessThan(LONG.length);
    await logged;
    expect(lines).toEqual([expect.stringMatching(/ 200 65536 \(.*shorter\)$/)]);
  });
});

describe('ranges', () => {
  it.each([
    ['bytes=0-3', 206, 0, 4],
    ['bytes=100-', 206, 100, 300_000],
    ['bytes=-10', 206, 299_990, 300_000],
    ['bytes=299999-400000', 206, 299_999, 300_000],
    ['bytes=-400000', 206, 0, 300_000],
    ['bytes=0-0,5-6', 200, 0, 300_000],
    ['bytes=5-3', 200, 0, 300_000],
    ['bytes=-', 200, 0, 300_000],
    ['lines=1-2', 200, 0, 300_000],
  ])('%s gives %i with bytes %i to %i', async (range, status, start, end) => {
    const response = await get('/long', `Range: ${range}\r\n`);
    expect(statusOf(response)).toBe(status);
    expect(Buffer.from(bodyOf(response), 'latin1').equals(LONG.subarray(start, end))).toBe(true);
    expect(header(response, 'content-range')).toBe(
      status === 206 ? `bytes ${start}-${end - 1}/300000` : undefined,
    );
  });

  it.each([['bytes=300000-'], ['bytes=-0']])('%s gives 416', async (range) => {
    const response = await get('/long', `Range: ${range}\r\n`);
    expect([statusOf(response), header(response, 'content-range')]).toEqual([416, 'bytes */300000']);
  });

  it('counts only for the version that If-Range names', async () => {
    const tag = header(await get('/long'), 'etag');
    const status = async (version: string) =>
      statusOf(await get('/long', `Range: bytes=0-3\r\nIf-Range: ${version}\r\n`));
    expect(await status(tag ?? '')).toBe(206);
    expect(await status(LAST_MODIFIED)).toBe(206);
    expect(await status(`W/${tag}`)).toBe(200);
    expect(await status('"other"')).toBe(200);
    expect(await status('Sat, 05 Sep 2026 10:12:31 GMT')).toBe(200);
  });
});

describe('conditions', () => {
  it.each([
    [`If-None-Match: "5-${MODIFIED.toString(16)}"`, 304],
    [`If-None-Match: "x", W/"5-${MODIFIED.toString(16)}"`, 304],
    ['If-None-Match: *', 304],
    ['If-None-Match: "x"', 200],
    [`If-Modified-Since: ${LAST_MODIFIED}`, 304],
    ['If-Modified-Since: Sat, 05 Sep 2026 10:12:29 GMT', 200],
    ['If-Modified-Since: yesterday', 200],
    [`If-None-Match: "x"\r\nIf-Modified-Since: ${LAST_MODIFIED}`, 200],
    [`If-Match: "x", "5-${MODIFIED.toString(16)}"`, 200],
    ['If-Match: *', 200],
    ['If-Match: "x"', 412],
    [`If-Match: W/"5-${MODIFIED.toString(16)}"`, 412],
    [`If-Unmodified-Since: ${LAST_MODIFIED}`, 200],
    ['If-Unmodified-Since: Sat, 05 Sep 2026 10:12:29 GMT', 412],
    ['If-Match: *\r\nIf-Unmodified-Since: Sat, 05 Sep 2026 10:12:29 GMT', 200],
  ])('%s gives %i', async (headers, status) => {
    const response = await get('/a%20b.txt', `${headers}\r\n`);
    expect([statusOf(response), bodyOf(response) === 'blank']).toEqual([status, status === 200]);
  });

  it('never match a file whose age nobody knows', async () => {
    const response = await get('/old', `If-None-Match: *\r\nIf-Modified-Since: ${LAST_MODIFIED}\r\n`);
    expect([statusOf(response), header(response, 'etag'), header(response, 'last-modified')]).toEqual([
      200,
      undefined,
      undefined,
    ]);
  });
});

describe('connections', () => {
  it('are kept for further requests, also for requests sent at once', async () => {
    const one = 'GET /a%20b.txt HTTP/1.1\r\nHost: a\r\n\r\n';
    const text = await raw(`${one}${one}GET /index.html HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    expect(text.split('HTTP/1.1 200 OK').length - 1).toBe(3);
    expect(lines).toHaveLength(3);
  });

  it('end behind a request for another protocol, which is answered as any other', async () => {
    const upgrade = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n';
    const response = await raw(`GET /a%20b.txt HTTP/1.1\r\nHost: a\r\n${upgrade}\r\n`);
    expect([statusOf(response), header(response, 'connection'), bodyOf(response)]).toEqual([
      200,
      'close',
      'blank',
    ]);
  });

  it('need one Host for each request of HTTP/1.1; what is refused is in the log', async () => {
    const ask = (headers: string, version = '1.1') =>
      raw(`GET /index.html HTTP/${version}\r\n${headers}\r\n`);
    expect(statusOf(await ask('Connection: close\r\n'))).toBe(400);
    expect(statusOf(await ask('Host: a\r\nhost: b\r\n'))).toBe(400);
    expect(statusOf(await ask('Host: a\r\nExpect: nonsense\r\nConnection: close\r\n'))).toBe(200);
    expect(statusOf(await ask('', '1.0'))).toBe(200);
    expect(lines.map((line) => line.replace(/.*" /, '').replace(/ \d+ \(/, ' ('))).toEqual([
      '400 (there must be a Host)',
      '400 (there must be one Host)',
      '200 12',
      '200 12',
    ]);
  });

  it('may be many at the same time', async () => {
    const agent = new http.Agent({ maxSockets: 200 });
    const sizes = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const request = http.get({ port, path: '/long', agent });
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        let size = 0;
        for await (const chunk of response) size += (chunk as Buffer).length;
        return size;
      }),
    );
    expect(new Set(sizes)).toEqual(new Set([300_000]));
    agent.destroy();
  });

  it.each([
    ['no HTTP', 'hello\r\n\r\n', 400],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['a header without colon', 'GET / HTTP/1.1\r\nHost: a\r\nbad\r\n\r\n', 400],
    [
      'both lengths',
      'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
    ],
    ['long headers', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(10_000)}\r\n\r\n`, 431],
    ['a long request line', `GET /${'x'.repeat(10_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
  ])('with %s are refused and ended', async (_what, text, status) => {
    expect(statusOf(await raw(text))).toBe(status);
  });

  it('that send their request too slowly are ended with 408, others never notice', async () => {
    server.close();
    listener.close();
    await start({ headersMs: 100, checkMs: 20 });
    const slow = net.connect(port, '127.0.0.1');
    slow.setEncoding('latin1');
    slow.write('GET / HTTP/1.1\r\nHost: a\r\n');
    const dripping = setInterval(() => lines.length === 0 && slow.write('X: y\r\n'), 20);
    let got = '';
    slow.on('data', (chunk) => {
      got += chunk;
    });
    slow.on('error', () => {});
    await once(slow, 'close');
    clearInterval(dripping);
    expect(statusOf(got)).toBe(408);
    expect(lines).toEqual(['127.0.0.1 "-" 408 0 (the request did not come in time)']);
    expect(statusOf(await get('/'))).toBe(200);
  });

  it('that never read their response are ended', async () => {
    server.close();
    listener.close();
    FILES.huge = { ...file('huge', Buffer.alloc(0)), size: 2 ** 30, read: huge };
    await start({ idleMs: 100 });
    const lazy = net.connect(port, '127.0.0.1');
    lazy.pause();
    lazy.write('GET /huge HTTP/1.1\r\nHost: a\r\n\r\n');
    await new Promise<void>((resolve) => {
      onLine = resolve;
    });
    expect(lines[0]).toMatch(/^127\.0\.0\.1 "GET \/huge HTTP\/1\.1" 200 \d+ \(the client went away\)$/);
    lazy.destroy();
  });

  it('cannot put lines into the log', async () => {
    await raw(
      'GET /"\x80\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'.replace(/[\x80-\xff]/g, '\xe4'),
    );
    expect(lines.every((line) => /^[\x20-\x7e]+$/.test(line))).toBe(true);
    expect(lines).toHaveLength(1);
  });
});

async function* huge(): AsyncGenerator<Uint8Array> {
  const block = Buffer.alloc(2 ** 20);
  for (let n = 0; n < 1024; n++) yield block;
}
