import { describe, expect, it } from 'vitest';
import { createWire, parseWire, parseWireOptions } from './index.ts';
import {
  formatHostForward,
  parseGuestForward,
  parseHost,
  parseHostForward,
  resolveForwards,
} from './options.ts';
import { testHost } from './testing/guest.ts';

const DEFAULTS = { target: '', linkUp: true, originalTiming: false, startNow: false, loops: 1, record: '' };

describe('parseWire()', () => {
  it('takes each kind with its target and keys', () => {
    expect(parseWire('user')).toEqual({ ...DEFAULTS, kind: 'user' });
    expect(parseWire('user,record=/tmp/x.pcapng')).toEqual({
      ...DEFAULTS,
      kind: 'user',
      record: '/tmp/x.pcapng',
    });
    expect(parseWire('none,link=down')).toEqual({ ...DEFAULTS, kind: 'none', linkUp: false });
    expect(parseWire('pcap:a:b.pcapng')).toEqual({ ...DEFAULTS, kind: 'pcap', target: 'a:b.pcapng' });
    expect(parseWire('tap')).toEqual({ ...DEFAULTS, kind: 'tap' });
    expect(parseWire('tap,address=10.0.2.2/24').address).toEqual({ ip: 0x0a000202, prefix: 24 });
    expect(parseWire('tap:lab0')).toEqual({ ...DEFAULTS, kind: 'tap', target: 'lab0' });
    expect(parseWire('replay:x,timing=original,loop=forever')).toMatchObject({
      originalTiming: true,
      loops: Infinity,
    });
  });

  it.each([
    ['slirp', /wire slirp as it must be one of user, none, pcap, replay, tap: current value is "slirp"/],
    ['constructor', /must be one of/],
    ['user:x', /"user" takes nothing behind a colon: current value is "x"/],
    ['pcap', /must name a file \(pcap:FILE\)/],
    ['tap,address=10.0.2.2', /address must be IPv4 with the length of its prefix.*value is "10\.0\.2\.2"/],
    ['tap,address=10.0.2.2/33', /address must be IPv4 with the length/],
    ['tap:', /the interface must be 1\.\.15/],
    ['tap:sixteen-letters-', /the interface must be 1\.\.15/],
    ['user,link=down', /a key of wire "user" must be one of record: current value is "link"/],
    ['pcap:x,record=y', /a key of wire "pcap" must be left out/],
    ['none,link=off', /link must be up or down: current value is "off"/],
    ['replay:x,loop=0', /loop must be 1\.\.999999999 or forever: current value is "0"/],
    ['user,record', /each part behind a comma must be KEY=VALUE: current value is "record"/],
    ['user,record=a,record=b', /each key must be given once/],
  ])('refuses %s', (text, message) => {
    expect(() => parseWire(text)).toThrow(message);
  });
});

describe('resolveForwards()', () => {
  const forwards = ['10.0.2.100:80=web:8080', '10.0.2.101:80=192.0.2.1:80'].map(parseGuestForward);

  it('looks names up and leaves addresses alone', async () => {
    const asked: string[] = [];
    const resolved = await resolveForwards(forwards, async (name) => {
      asked.push(name);
      return '192.0.2.7';
    });
    expect(asked).toEqual(['web']);
    expect(resolved).toEqual([
      { guestIp: 0x0a000264, guestPort: 80, hostIp: 0xc0000207, hostPort: 8080 },
      { guestIp: 0x0a000265, guestPort: 80, hostIp: 0xc0000201, hostPort: 80 },
    ]);
  });

  it('says which name is unknown', async () => {
    const unknown = () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' }));
    await expect(resolveForwards(forwards, unknown)).rejects.toThrow(
      'Cannot use --guest-forward 10.0.2.100:80=web:8080 as this host must know an IPv4 address of "web": ENOTFOUND',
    );
  });
});

describe('parseHostForward()', () => {
  it.each([
    ['8080=10.0.2.15:80', '127.0.0.1:8080=10.0.2.15:80'],
    ['tcp:localhost:1=10.0.2.15:65535', '127.0.0.1:1=10.0.2.15:65535'],
    ['udp:0.0.0.0:53=10.0.2.16:53', 'udp:0.0.0.0:53=10.0.2.16:53'],
  ])('takes %s', (text, same) => {
    expect(formatHostForward(parseHostForward(text))).toBe(same);
  });

  it.each([
    ['8080', /must be \[udp:\]\[HOST:\]PORT=IP:PORT/],
    ['8080=10.0.2.15', /must be \[udp:\]\[HOST:\]PORT=IP:PORT/],
    ['0=10.0.2.15:80', /the host's port must be 1\.\.65535: current value is "0"/],
    ['80=10.0.2.15:65536', /the guest's port must be 1\.\.65535/],
    ['80=web:80', /the guest must be an IPv4 address: current value is "web"/],
    ['web:80=10.0.2.15:80', /the host must be an IPv4 address or localhost/],
  ])('refuses %s', (text, message) => {
    expect(() => parseHostForward(text)).toThrow(message);
  });
});

describe('parseHost()', () => {
  it('collects the addresses of a name', () => {
    const hosts = new Map<string, string[]>();
    parseHost('a.example=10.0.2.100', hosts);
    parseHost('a.example=fec0::100', hosts);
    expect([...hosts]).toEqual([['a.example', ['10.0.2.100', 'fec0::100']]]);
  });

  it.each([
    ['a.example', /must be NAME=IP/],
    ['=10.0.0.1', /name must not be empty/],
    ['a..b=10.0.0.1', /label must not be empty/],
    [`${'a'.repeat(64)}=10.0.0.1`, /at most 63 octets/],
    [
      'a=10.0.0.256',
      /--host a=10\.0\.0\.256 as the address must be an IPv4 or IPv6 address: current value is "10\.0\.0\.256"/,
    ],
    ['a=localhost', /must be an IPv4 or IPv6 address/],
  ])('refuses %s', (text, message) => {
    expect(() => parseHost(text, new Map())).toThrow(message);
  });
});

describe('parseGuestForward()', () => {
  it('takes addresses and localhost', () => {
    const rule = { guestIp: 0x0a000264, guestPort: 80, hostIp: 0x7f000001, hostPort: 8080 };
    expect(parseGuestForward('10.0.2.100:80=localhost:8080')).toEqual(rule);
    expect(parseGuestForward('10.0.2.100:80=127.0.0.1:8080')).toEqual(rule);
  });

  it.each([
    ['10.0.2.100:80', /must be IP:PORT=HOST:PORT/],
    ['10.0.2.100=localhost:80', /must be IP:PORT=HOST:PORT/],
    ['host:80=localhost:80', /guest-side address must be an IPv4 address: current value is "host"/],
    ['10.0.2.100:80=10.0.2:80', /host must be an IPv4 address or a name: current value is "10.0.2"/],
    ['10.0.2.100:80=a b:80', /host must be an IPv4 address or a name/],
    ['10.0.2.100:80=[::1]:80', /host must be an IPv4 address or a name/],
    ['10.0.2.100:0=localhost:80', /guest-side port must be 1\.\.65535: current value is "0"/],
    ['10.0.2.100:80=localhost:65536', /host's port must be 1\.\.65535/],
    ['10.0.2.100:80=localhost:', /host's port must be 1\.\.65535/],
  ])('refuses %s', (text, message) => {
    expect(() => parseGuestForward(text)).toThrow(message);
  });
});

it('parseWireOptions() takes both lists', () => {
  const { hosts, forwards } = parseWireOptions(
    ['a=10.0.2.100', 'b=10.0.2.101'],
    ['10.0.2.100:80=localhost:8080'],
  );
  expect([[...hosts.keys()], forwards.length]).toEqual([['a', 'b'], 1]);
  expect(() => parseWireOptions([], ['x'])).toThrow(/--guest-forward x/);
  const twice = ['10.0.2.100:80=localhost:1', '10.0.2.100:80=localhost:2'];
  expect(() => parseWireOptions([], twice)).toThrow(
    '10.0.2.100:80=localhost:2 as each guest address and port leads to one place',
  );
});

it('parseWireOptions() refuses two host-forwards at one port of the host, with a hint which', () => {
  const parse = (...texts: string[]) => parseWireOptions([], [], texts).hostForwards?.length;
  const refusal =
    /Cannot use --host-forward .* as each port of the host leads to one place: 8080=10\.0\.2\.15:80 is there/;
  expect(() => parse('8080=10.0.2.15:80', '127.0.0.1:8080=10.0.2.16:80')).toThrow(refusal);
  expect(() => parse('8080=10.0.2.15:80', '0.0.0.0:8080=10.0.2.16:80')).toThrow(refusal);
  const different = [
    '8080=10.0.2.15:80',
    'udp:8080=10.0.2.15:80',
    '8081=10.0.2.15:80',
    '127.0.0.2:8080=10.0.2.15:80',
  ];
  expect(parse(...different)).toBe(4);
});

it('createWire() leaves nothing behind when a part of it cannot be made', () => {
  const options = { hosts: new Map(), forwards: [] };
  const host = testHost();
  const before = host.arena.mapPrivate(4096);
  host.arena.unmap(before, 4096);
  expect(() => createWire(parseWire('user,record=/nonexistent/x'), options, host)).toThrow(
    /Cannot record to \/nonexistent\/x/,
  );
  expect(() => createWire(parseWire('replay:/nonexistent'), options, host)).toThrow(
    /must be a readable file/,
  );
  expect(host.arena.mapPrivate(4096)).toBe(before);
});
