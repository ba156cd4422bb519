import { describe, expect, it, vi } from 'vitest';
import { u32Option } from '#common/wire/dhcp_options';
import { DNS_CLASS_IN, DNS_FLAG, DNS_TYPE, type DnsMessage, type DnsRecord } from '#common/wire/dns';
import { parseIpv4 } from '#common/wire/ipv4';
import type { Exchange } from './exchange.ts';
import { candidates, Resolver } from './resolver.ts';

const CONF = 'nameserver 10.0.2.3\noptions timeout:1 attempts:2\n';

function record(name: string, type: number, data: Uint8Array, target?: string): DnsRecord {
  return { name, type, class: DNS_CLASS_IN, ttl: 60, data, ...(target !== undefined && { target }) };
}
const a = (name: string, ip: string) => record(name, DNS_TYPE.A, u32Option(parseIpv4(ip) ?? 0));
const cname = (name: string, target: string) => record(name, DNS_TYPE.CNAME, new Uint8Array(), target);

function answer(answers: DnsRecord[], flags = 0): DnsMessage {
  return { id: 1, flags: DNS_FLAG.QR | flags, questions: [], answers, authorities: [], additionals: [] };
}

/** A resolver whose servers are a table: name -> answer to an A question. */
function setup(
  table: Record<string, DnsMessage | 'silent' | Error>,
  files: { conf?: string; hosts?: string; dhcp?: string[] } = { conf: CONF },
) {
  const exchange = vi.fn<Exchange>(async (_server, name, type) => {
    const found = table[name] ?? answer([], 3);
    if (found === 'silent') return undefined;
    if (found instanceof Error) throw found;
    return type === DNS_TYPE.A ? found : answer([], found.flags & 0xf);
  });
  const lines: string[] = [];
  const resolver = new Resolver({
    readEtc: async (name) => (name === 'hosts' ? files.hosts : files.conf),
    dhcpServers: () => files.dhcp ?? [],
    exchange,
    log: (line) => lines.push(line),
  });
  return { resolver, exchange, lines };
}

async function failure(promise: Promise<unknown>): Promise<{ code?: string; message: string }> {
  return promise.then(
    () => ({ message: 'resolved' }),
    (err: Error & { code?: string }) => err,
  );
}

describe('Resolver.resolve()', () => {
  it('asks for both families and follows aliases', async () => {
    const { resolver, exchange } = setup({
      'ftp.example': answer([
        cname('ftp.example', 'Mirror.example'),
        a('mirror.example', '10.9.9.9'),
        a('evil.example', '6.6.6.6'),
      ]),
    });
    expect(await resolver.resolve('ftp.example')).toEqual([{ address: '10.9.9.9', family: 4 }]);
    expect(exchange.mock.calls.map(([, , type]) => type).sort()).toEqual([DNS_TYPE.A, DNS_TYPE.AAAA]);
  });

  it('returns literals and names of /etc/hosts without asking', async () => {
    const { resolver, exchange } = setup({}, { conf: CONF, hosts: '::1 box\n10.0.2.7 box' });
    expect(await resolver.resolve('10.0.2.2')).toEqual([{ address: '10.0.2.2', family: 4 }]);
    expect(await resolver.resolve('box')).toEqual([
      { address: '10.0.2.7', family: 4 },
      { address: '::1', family: 6 },
    ]);
    expect(exchange).not.toHaveBeenCalled();
  });

  it('has a sentence for each way to fail', async () => {
    const { resolver } = setup({
      'slow.example': 'silent',
      'broken.example': answer([], 2),
      'empty.example': answer([]),
      'unrouted.example': new Error('no route'),
    });
    expect(await failure(resolver.resolve('none.example'))).toMatchObject({
      code: 'ENOTFOUND',
      message: 'Cannot resolve "none.example" as the name does not exist (NXDOMAIN from 10.0.2.3)',
    });
    expect(await failure(resolver.resolve('slow.example'))).toMatchObject({
      code: 'EAI_AGAIN',
      message:
        'Cannot resolve "slow.example" as name server 10.0.2.3 did not answer: asked 2 times, 1 s each. Is the address in /etc/resolv.conf right?',
    });
    expect((await failure(resolver.resolve('broken.example'))).message).toMatch(
      /10\.0\.2\.3 failed to answer \(SERVFAIL\)/,
    );
    expect((await failure(resolver.resolve('empty.example'))).message).toMatch(/has no IPv4 address/);
    expect((await failure(resolver.resolve('unrouted.example'))).message).toMatch(
      /cannot be asked: no route/,
    );
    expect((await failure(resolver.resolve('a..b'))).message).toMatch(
      /no host name.*label must not be empty/,
    );
  });

  it('uses the servers of DHCP without resolv.conf, says so once, and names the hint without both', async () => {
    const { resolver, exchange, lines } = setup({ x: answer([a('x', '1.2.3.4')]) }, { dhcp: ['10.0.2.3'] });
    await resolver.resolve('x');
    await resolver.resolve('x');
    expect(exchange.mock.calls[0]?.[0]).toBe('10.0.2.3');
    expect(lines).toEqual(['Note: there is no /etc/resolv.conf; using the name servers from DHCP: 10.0.2.3']);
    expect((await failure(setup({}, {}).resolver.resolve('x'))).message).toMatch(
      /DHCP gave no name server: .*etc = L4\.Env\.rom/,
    );
  });

  it('walks the search list and the list of servers', async () => {
    const { resolver, exchange } = setup(
      { 'box.two.example': answer([a('box.two.example', '10.0.0.2')]) },
      { conf: 'nameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch one.example two.example\n' },
    );
    expect(await resolver.resolve('box', 4)).toEqual([{ address: '10.0.0.2', family: 4 }]);
    expect(exchange.mock.calls.map(([, name]) => name)).toEqual(['box.one.example', 'box.two.example']);
    exchange.mockImplementation(async (server) =>
      server === '1.1.1.1' ? undefined : answer([a('box.one.example', '10.0.0.1')]),
    );
    expect(await resolver.resolve('box', 4)).toEqual([{ address: '10.0.0.1', family: 4 }]);
  });
});

describe('Resolver.lookup()', () => {
  it('has the form that net.connect wants', async () => {
    const { resolver } = setup({ x: answer([a('x', '1.2.3.4')]) });
    const one = await new Promise((resolve) => resolver.lookup('x', {}, (...args) => resolve(args)));
    const all = await new Promise((resolve) =>
      resolver.lookup('x', { all: true, family: 4 }, (...args) => resolve(args)),
    );
    expect([one, all]).toEqual([
      [null, '1.2.3.4', 4],
      [null, [{ address: '1.2.3.4', family: 4 }]],
    ]);
  });
});

describe('candidates()', () => {
  it('tries names with enough dots as they are first', () => {
    const conf = { search: ['s.example'], ndots: 1 };
    expect(candidates('a', conf)).toEqual(['a.s.example', 'a']);
    expect(candidates('a.b', conf)).toEqual(['a.b', 'a.b.s.example']);
    expect(candidates('a.', conf)).toEqual(['a']);
  });
});
