import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { refusingPort } from '#common/testing/refusing_port';
import { curl } from './curl.ts';
import { fiveDigits } from './progress.ts';

let base: string;
let odd: string;
let server: http.Server;
let oddServer: net.Server;
let scratch: string;
/** Requests of /busy until it is not busy any more. */
let busy = 0;

/** What the servers that speak no proper HTTP send before they hang up. */
const ODD: Record<string, string> = {
  '/empty': '',
  '/short': 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this',
  '/chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
  '/hex': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n',
  '/conflict': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
  '/both':
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  '/hints': 'HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  '/switch': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
  '/long-head': `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(400_000)}\r\n\r\n`,
  '/none': 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n',
  '/zero-nine': 'just text\n',
};

beforeAll(async () => {
  server = http.createServer((request, response) => {
    const url = request.url ?? '';
    if (url.startsWith('/redirect/')) {
      const left = Number(url.slice(10));
      response.writeHead(302, { Location: left > 0 ? `/redirect/${left - 1}` : '/page' }).end('moved');
    } else if (url === '/https') response.writeHead(301, { Location: 'https://secure/' }).end();
    else if (url === '/away')
      response.writeHead(302, { Location: `http://localhost:${base.split(':')[2]}/headers` }).end();
    else if (url === '/same') response.writeHead(302, { Location: `${base}/headers` }).end();
    else if (url === '/stays') response.writeHead(302, { Location: '/headers' }).end();
    else if (url === '/utf8')
      response.writeHead(302, { Location: Buffer.from('/ä').toString('latin1') }).end();
    else if (url === '/mail') response.writeHead(302, { Location: 'mailto:a@b' }).end();
    else if (url === '/slow') response.writeHead(200, { 'Content-Length': '10' }).write('12345');
    else if (url === '/headers') response.end(JSON.stringify(request.rawHeaders));
    else if (url === '/busy') {
      busy -= 1;
      response.writeHead(busy > 0 ? 503 : 200).end(busy > 0 ? '' : 'at last');
    } else if (url === '/page')
      response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': '5' }).end('hello');
    else response.writeHead(404).end('no such page');
  });
  oddServer = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (data) => socket.end(ODD[String(data).split(' ')[1] ?? ''] ?? ''));
  });
  const listen = (s: net.Server) =>
    new Promise<string>((resolve) =>
      s.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(s.address() as AddressInfo).port}`)),
    );
  [base, odd] = await Promise.all([listen(server), listen(oddServer)]);
  scratch = mkdtempSync(join(tmpdir(), 'l4lab-curl-'));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  oddServer.close();
  rmSync(scratch, { recursive: true });
});
afterEach(() => {
  vi.useRealTimers();
});

/** No name server is asked: all names are this machine, but those that cannot exist [RFC 2606 §2]. */
const lookup: net.LookupFunction = (name, { all }, callback) => {
  if (name.endsWith('.invalid'))
    callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), '');
  else if (all) callback(null, [{ address: '127.0.0.1', family: 4 }]);
  else callback(null, '127.0.0.1', 4);
};

/** Runs curl; `onOutput` hears all that has come to stdout. */
async function runWith(
  onOutput: (out: string) => void,
  ...args: string[]
): Promise<{ exit: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const output = (add: (text: string) => void) => ({
    write: async (data: string | Uint8Array) =>
      add(typeof data === 'string' ? data : Buffer.from(data).toString('latin1')),
  });
  const agent = new http.Agent({ lookup });
  const env = {
    argv: ['rom/curl', ...args],
    stdout: output((text) => {
      out += text;
      onOutput(out);
    }),
    stderr: output((text) => {
      err += text;
    }),
    signal: new AbortController().signal,
  };
  const exit = await curl(env, async () => agent);
  agent.destroy();
  return { exit, out, err };
}

const run = (...args: string[]) => runWith(() => {}, ...args);

describe('curl()', () => {
  it('writes the body, and with -i the head before it', async () => {
    expect(await run('-s', `${base}/page`)).toEqual({ exit: 0, out: 'hello', err: '' });
    const { out } = await run('-si', `${base}/page`);
    expect(out).toMatch(/^HTTP\/1\.1 200 OK\r\nContent-Type: text\/plain\r\n.*\r\n\r\nhello$/s);
  });

  it('-I asks for the head only', async () => {
    const { exit, out } = await run('-sI', `${base}/page`);
    expect([exit, out.endsWith('\r\n\r\n'), out.includes('Content-Length: 5')]).toEqual([0, true, true]);
  });

  it("sends curl's headers in curl's order, changed by -A and -H", async () => {
    const host = base.slice(7);
    expect(JSON.parse((await run('-s', `${base}/headers`)).out)).toEqual([
      'Host',
      host,
      'User-Agent',
      'curl/8.17.1-DEV',
      'Accept',
      '*/*',
    ]);
    const changed = await run('-s', '-A', 'me', '-H', 'Accept:', '-H', 'X-Test: 1', `${base}/headers`);
    expect(JSON.parse(changed.out)).toEqual(['Host', host, 'User-Agent', 'me', 'X-Test', '1']);
  });

  it('-H sends a name as often as it is given, Connection too, and refuses what would break the head', async () => {
    const several = await run(
      '-s',
      '-H',
      'X-A: 1',
      '-H',
      'x-a: 2',
      '-H',
      'Connection: close',
      `${base}/headers`,
    );
    expect(JSON.parse(several.out).slice(6)).toEqual(['X-A', '1', 'X-A', '2', 'Connection', 'close']);
    for (const bad of ['X-A: 1\r\nEvil: 2', 'X A: 1', 'X-A: \u{1}']) {
      const { exit, out, err } = await run('-sS', '-H', bad, `${base}/headers`);
      expect([exit, out, err]).toEqual([
        43,
        '',
        expect.stringMatching(/^curl: \(43\) Cannot send header "X.A: /),
      ]);
    }
  });

  it("takes a login with a '%' that begins no code", async () => {
    const { out } = await run('-s', `http://a%zz%41:%ff@${base.slice(7)}/headers`);
    const expected = Buffer.from('a%zzA:\xff', 'latin1').toString('base64');
    expect(JSON.parse(out)).toContain(`Basic ${expected}`);
  });

  it.each(['stays', 'same', 'away'])('sends the login of a URL to its host only: /%s', async (path) => {
    const { out } = await run('-sL', `http://a:b@${base.slice(7)}/${path}`);
    const login = `Basic ${Buffer.from('a:b').toString('base64')}`;
    expect((JSON.parse(out) as string[]).includes(login)).toBe(path !== 'away');
  });

  it('keeps what -H says for one host from the one that a redirect leads to', async () => {
    const secret = ['-H', 'Authorization: x', '-H', 'cookie: y', '-H', 'Host: z', '-H', 'X-Test: 1'];
    const away = await run('-sL', ...secret, `${base}/away`);
    const names = (JSON.parse(away.out) as string[]).filter((_, n) => n % 2 === 0);
    expect(names).toEqual(['Host', 'User-Agent', 'Accept', 'X-Test']);
    expect(JSON.parse(away.out)[1]).not.toBe('z');
    const stays = await run('-sL', ...secret, `${base}/stays`);
    expect(JSON.parse(stays.out)).toContain('z');
  });

  it('follows a Location with bytes above ASCII, and names the protocol that it cannot follow', async () => {
    expect((await run('-sL', '-w', '|%{url_effective}', `${base}/utf8`)).out).toBe(
      `no such page|${base}/%C3%A4`,
    );
    expect(await run('-sSL', `${base}/mail`)).toMatchObject({
      exit: 1,
      err: 'curl: (1) Protocol "mailto" not supported\n',
    });
  });

  it('-L follows redirects up to the limit; without it the body of the redirect is shown', async () => {
    expect((await run('-s', `${base}/redirect/0`)).out).toBe('moved');
    expect(await run('-sL', '-w', '|%{num_redirects}|%{url_effective}', `${base}/redirect/2`)).toMatchObject({
      exit: 0,
      out: `hello|3|${base}/page`,
    });
    expect(await run('-sSL', '--max-redirs', '2', `${base}/redirect/5`)).toEqual({
      exit: 47,
      out: '',
      err: 'curl: (47) Maximum (2) redirects followed\n',
    });
    expect(await run('-sSL', `${base}/https`)).toMatchObject({
      exit: 1,
      err: 'curl: (1) Protocol "https" not supported\n',
    });
  });

  it('-f turns an HTTP error into exit status 22 without output', async () => {
    expect(await run('-s', `${base}/nothing`)).toMatchObject({ exit: 0, out: 'no such page' });
    expect(await run('-f', `${base}/nothing`)).toEqual({
      exit: 22,
      out: '',
      err: 'curl: (22) The requested URL returned error: 404\n',
    });
  });

  it('-s hides the reason of a failure, -S shows it again', async () => {
    const { port, close } = await refusingPort();
    const refused = `http://127.0.0.1:${port}/`;
    expect(await run('-s', refused)).toEqual({ exit: 7, out: '', err: '' });
    expect((await run('-sS', refused)).err.replace(String(port), 'PORT')).toMatch(
      /^curl: \(7\) Failed to connect to 127\.0\.0\.1 port PORT after \d+ ms: Could not connect to server/,
    );
    await close();
    expect((await run('-sS', 'http://does-not-exist.invalid/')).err).toMatch(
      /^curl: \(6\) Could not resolve host: does-not-exist\.invalid/,
    );
  });

  it('says how a reply was broken', async () => {
    expect(await run('-sS', `${odd}/empty`)).toMatchObject({
      exit: 52,
      err: 'curl: (52) Empty reply from server\n',
    });
    expect(await run('-sS', `${odd}/short`)).toMatchObject({
      exit: 18,
      out: 'only this',
      err: 'curl: (18) end of response with 91 bytes missing\n',
    });
    expect(await run('-sS', `${odd}/chunk`)).toMatchObject({ exit: 18, out: 'hello' });
    expect(await run('-sS', `${odd}/hex`)).toMatchObject({
      exit: 56,
      out: 'hello',
      err: 'curl: (56) Malformed encoding found in chunked-encoding\n',
    });
    expect(await run('-sS', `${odd}/long-head`)).toMatchObject({ exit: 56, out: '' });
    for (const path of ['conflict', 'both'])
      expect(await run('-sS', `${odd}/${path}`)).toMatchObject({ exit: 8, out: '' });
    expect(await run('-sS', `${odd}/switch`)).toMatchObject({
      exit: 8,
      err: 'curl: (8) Weird server reply (unexpected 101 response)\n',
    });
    expect(await run('-sS', `${odd}/zero-nine`)).toMatchObject({
      exit: 1,
      err: 'curl: (1) Received HTTP/0.9 when not allowed\n',
    });
  });

  it('takes what comes in front of the reply, and a reply without a body', async () => {
    expect(await run('-sS', `${odd}/hints`)).toEqual({ exit: 0, out: 'hello', err: '' });
    expect(await run('-sS', `${odd}/none`)).toEqual({ exit: 0, out: '', err: '' });
  });

  it('-m and --connect-timeout end what takes too long', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const halfway = (text: string) => text === '12345' && vi.advanceTimersByTime(200);
    const { exit, out, err } = await runWith(halfway, '-sS', '-m', '0.2', `${base}/slow`);
    expect([exit, out]).toEqual([28, '12345']);
    expect(err).toMatch(
      /^curl: \(28\) Operation timed out after \d+ milliseconds with 5 out of 10 bytes received\n$/,
    );
  });

  it('-m takes any number of seconds, and what has come by then is in the file', async () => {
    expect(await run('-s', '-m', '3000000', '--connect-timeout', '9000000000', `${base}/page`)).toMatchObject(
      {
        exit: 0,
        out: 'hello',
      },
    );
    const file = join(scratch, 'partial');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const limited = run('-s', '-m', '0.2', '-o', file, `${base}/slow`);
    while (!existsSync(file) || readFileSync(file, 'utf8') !== '12345') await new Promise(setImmediate);
    vi.advanceTimersByTime(200);
    expect((await limited).exit).toBe(28);
    expect(readFileSync(file, 'utf8')).toBe('12345');
  });

  it('-o and -O write files, several URLs go in turn', async () => {
    const [a, b] = [join(scratch, 'a'), join(scratch, 'b')];
    expect(
      await run('-s', `-o${a}`, '--output', b, `${base}/page`, `${base}/headers`, `${base}/page`),
    ).toMatchObject({ exit: 0, out: 'hello' });
    expect([readFileSync(a, 'utf8'), readFileSync(b, 'utf8').startsWith('["Host"')]).toEqual(['hello', true]);
    expect(await run('-sSO', `${base}/`)).toMatchObject({
      exit: 23,
      err: 'curl: (23) Remote filename has no length\n',
    });
    expect((await run('-sS', '-o', join(scratch, 'no', 'such'), `${base}/page`)).exit).toBe(23);
  });

  it.each([
    [[], [true, 60_000, 60_000, 9]],
    [
      ['--keepalive-time', '20', '--keepalive-cnt', '3'],
      [true, 20_000, 20_000, 3],
    ],
    [
      ['--keepalive-time', '0', '--keepalive-cnt', '0'],
      [true, 60_000, 60_000, 9],
    ],
    [
      ['--no-keepalive', '--keepalive-time', '20'],
      [false, 20_000, 20_000, 9],
    ],
    [
      ['--no-keepalive', '--keepalive'],
      [true, 60_000, 60_000, 9],
    ],
  ])('%j: the connection is probed as %j', async (args, probes) => {
    const spy = vi.spyOn(net.Socket.prototype, 'setKeepAlive');
    const ours = () => (spy.mock.calls as unknown[][]).filter((call) => call.length === 4);
    try {
      expect(await run('-s', ...args, `${base}/page`)).toMatchObject({ out: 'hello', exit: 0 });
      expect(ours()).toEqual([probes]);
    } finally {
      spy.mockRestore();
    }
  });

  it.each(['--keepalive-time', '--keepalive-cnt'])('%s takes whole numbers', async (option) => {
    const { err, exit } = await run(option, '1.5', `${base}/page`);
    expect([err.split('\n')[0], exit]).toEqual([
      `curl: option ${option}: expected a proper numerical parameter`,
      2,
    ]);
  });

  it('--retry goes on after transient failures, and says so', async () => {
    busy = 3;
    const args = ['-sS', '--retry', '2', '--retry-delay', '0.01'];
    expect(await run(...args, '-w', ' %{http_code}', `${base}/busy`)).toEqual({
      exit: 0,
      out: 'at last 200',
      err: [2, 1]
        .map((left) => (left === 1 ? '1 retry' : `${left} retries`))
        .map((left) => `Warning: Problem: HTTP error. Will retry in 0.01 seconds. ${left} left.\n`)
        .join(''),
    });
    busy = 9;
    expect(await run('-s', '-f', '--retry', '1', '--retry-delay', '0.01', `${base}/busy`)).toEqual({
      exit: 22,
      out: '',
      err: '',
    });
    expect(busy).toBe(7);
  });

  it('--retry takes other failures only when it is told to', async () => {
    const { port, close } = await refusingPort();
    const tries = async (...args: string[]) => {
      const { err, exit } = await run('-sS', '--retry', '2', '--retry-delay', '0.01', ...args);
      return [exit, err.split('curl: (').length - 1];
    };
    expect(await tries(`http://127.0.0.1:${port}/`)).toEqual([7, 1]);
    expect(await tries('--retry-connrefused', `http://127.0.0.1:${port}/`)).toEqual([7, 3]);
    await close();
    expect(await tries('--retry-connrefused', `${odd}/empty`)).toEqual([52, 1]);
    expect(await tries('--retry-all-errors', `${odd}/empty`)).toEqual([52, 3]);
    expect((await run('--retry', 'often', `${base}/page`)).err).toContain(
      'option --retry: expected a proper numerical parameter',
    );
  });

  it('-v tells the story on stderr', async () => {
    const { err } = await run('-sv', `${base}/page`);
    expect(err).toMatch(/^> GET \/page HTTP\/1\.1$/m);
    expect(err).toMatch(/^> Host: 127\.0\.0\.1:\d+$/m);
    expect(err).toMatch(/^< HTTP\/1\.1 200 OK$/m);
    expect(err).toMatch(/^\* Connection #0 to host 127\.0\.0\.1 left intact$/m);
  });

  it('-w expands variables and escapes', async () => {
    const { out, err } = await run(
      '-s',
      '-w',
      '\\n%{http_code} %{size_download} %{content_type} %% %{nonsense}\\n',
      `${base}/page`,
    );
    expect(out).toBe('hello\n200 5 text/plain % \n');
    expect(err).toContain("unknown --write-out variable: 'nonsense'");
    expect(
      JSON.parse((await run('-s', '-o', '/dev/null', '-w', '%{json}', `${base}/page`)).out),
    ).toMatchObject({ http_code: 200, exitcode: 0, scheme: 'http' });
  });

  it('refuses bad command lines and URLs as curl does', async () => {
    const hint = "curl: try 'curl --help' for more information\n";
    expect(await run()).toEqual({ exit: 2, out: '', err: `curl: (2) no URL specified\n${hint}` });
    expect(await run('--nonsense', 'x')).toMatchObject({
      exit: 2,
      err: `curl: option --nonsense: is unknown\n${hint}`,
    });
    expect(await run('x', '-o')).toMatchObject({
      exit: 2,
      err: `curl: option -o: requires parameter\n${hint}`,
    });
    expect(await run('-m', 'soon', 'x')).toMatchObject({ exit: 2 });
    for (const [url, exit] of [
      ['https://x/', 1],
      ['ftp://x/', 1],
      ['http:///x', 3],
      ['http://x:99999/', 3],
      ['http://a b/', 3],
    ] as const) {
      expect((await run('-s', url)).exit, url).toBe(exit);
    }
  });

  it('--version and --help need no network', async () => {
    const { exit, out } = await run('--version');
    expect([exit, out.split('\n')[0]]).toEqual([
      0,
      expect.stringMatching(/^curl 8\.17\.1-DEV \(x86_64-l4re|^curl 8\.17\.1-DEV/),
    ]);
    expect((await run('-h')).out).toContain('-o, --output <file>');
  });
});

it('fiveDigits() always has five characters', () => {
  expect([0, 99_999, 100_000, 5e6, 123e6, 7e9].map(fiveDigits)).toEqual([
    '    0',
    '99999',
    '  98k',
    '4883k',
    ' 117M',
    '6676M',
  ]);
});
