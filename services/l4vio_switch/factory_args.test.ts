import { describe, expect, it } from 'vitest';
import { L4Error } from '#common/ipc/errors';
import { parsePortArguments } from './factory_args.ts';

const parse = (...texts: string[]) => parsePortArguments(texts.map((text) => ({ text })));

describe('parsePortArguments()', () => {
  it('has the defaults of the original', () => {
    expect(parse()).toEqual({ name: '', dsMax: 2, monitor: false });
  });

  it.each([
    ['ds-max=80', { dsMax: 80 }],
    ['name=abcdefghijklmnopqrstuvwxyz', { name: 'abcdefghijklmnopqrs' }],
    ['name=', { name: '' }],
    ['type=monitor', { monitor: true }],
    ['type=none', { monitor: false }],
    ['vlan=access=4094', { access: 4094 }],
    ['vlan=trunk=1,2,4094', { trunk: [1, 2, 4094] }],
    ['vlan=trunk=1,2,', { trunk: [1, 2] }],
    ['vlan=trunk=all', { trunk: 'all' }],
    ['rate-in=10M', { rateIn: { bitsPerSecond: 10e6, burst: 65_558 } }],
    ['rate-in=1G', { rateIn: { bitsPerSecond: 1e9, burst: 6_250_000 } }],
    ['rate-out=500k,3000', { rateOut: { bitsPerSecond: 500_000, burst: 3000 } }],
    ['storm=10', { storm: { broadcast: 10, multicast: 10, unknown: 10 } }],
    ['storm=unknown=0', { storm: { unknown: 0 } }],
    ['mtu=68', { mtu: 68 }],
    ['mtu=65535', { mtu: 65535 }],
    ['mac=0a:0B:00:ff:12:34', { mac: Uint8Array.of(10, 11, 0, 255, 0x12, 0x34) }],
  ])('%s', (text, expected) => {
    expect(parse(text)).toMatchObject(expected);
  });

  it('takes the last of repeated keys, and adds trunk lists up', () => {
    expect(parse('ds-max=3', 'ds-max=4', 'name=a', 'name=b')).toMatchObject({ dsMax: 4, name: 'b' });
    expect(parse('vlan=trunk=1', 'vlan=trunk=5,6')).toMatchObject({ trunk: [1, 5, 6] });
    expect(parse('vlan=trunk=1', 'vlan=trunk=all', 'vlan=trunk=2')).toMatchObject({ trunk: 'all' });
  });

  it.each([
    ['ds-max=x', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=2.5', "Bad parameter 'ds-max='. Invalid number specified."],
    ['ds-max=0', 'must be 1..80: current value is 0'],
    ['ds-max=81', 'must be 1..80: current value is 81'],
    ['ds-max=-1', 'must be 1..80: current value is -1'],
    ['rate-in=10m', "Bad parameter 'rate-in='. It must be BITS[,BURST] with 1k to 1T bits per second"],
    ['rate-in=999', "current value is '999'"],
    ['rate-out=2T', "current value is '2T'"],
    ['rate-out=1M,1000', 'Its burst must be 1514..2147483647 bytes'],
    ['rate-out=1M,2k,3', "current value is '1M,2k,3'"],
    ['storm=lots', "Bad parameter 'storm='. It must be FRAMES or KIND=FRAMES"],
    ['storm=broadcast=', "current value is 'broadcast='"],
    ['storm=arp=1', 'with a kind of broadcast, multicast, unknown'],
    ['type=mirror', "add 'mirror=NAME[,NAME...]'"],
    ['mirror=web', "add 'type=mirror'"],
    ['mirror=a,,b', "Invalid ports to mirror 'a,,b'"],
    ['filter=arp', "add 'type=monitor' or 'type=mirror'"],
    ['filter=tcp', "Bad parameter 'filter='. It must be Ethernet types"],
    ['type=tap', "Unknown type 'tap'"],
    ['type=', "Unknown type ''"],
    ['vlan=access=0', "Invalid VLAN access port id '0'"],
    ['vlan=access=4095', "Invalid VLAN access port id '4095'"],
    ['vlan=access=7x', "Invalid VLAN access port id '7x'"],
    ['vlan=trunk=', "Invalid VLAN trunk port spec ''"],
    ['vlan=trunk=1, 2', "Invalid VLAN trunk port spec '1, 2'"],
    ['vlan=trunk=1,,2', "Invalid VLAN trunk port spec '1,,2'"],
    ['vlan=trunk=1,4095', "Invalid VLAN trunk port spec '1,4095'"],
    ['vlan=7', 'Invalid VLAN specification..'],
    ['mac=0a-0b-00-ff-12-34', "Invalid mac address '0a-0b-00-ff-12-34'"],
    ['mac=0a:0b:00:ff:12', "Invalid mac address '0a:0b:00:ff:12'"],
    ['mac=0a:0b:00:ff:12:3g', "Invalid mac address '0a:0b:00:ff:12:3g'"],
    ['mtu=67', "Bad parameter 'mtu='. It must be 68..65535: current value is '67'"],
    ['mtu=65536', 'must be 68..65535'],
    ['mtu=1k5', "current value is '1k5'"],
    ['mac=', "Unknown option 'mac='"],
    ['colour=red', "Unknown option 'colour=red'"],
    ['mac', "Unknown option 'mac'"],
    ['', "Unknown option ''"],
  ])('refuses %s', (text, message) => {
    expect(() => parse(text)).toThrow(message);
    expect(() => parse(text)).toThrow(expect.objectContaining({ errno: 22 }));
    expect(() => parse(text)).toThrow(L4Error);
  });

  it.each(['mac=02:00:00:00:00:01', 'mtu=1450', 'mirror=web', 'filter=arp'])(
    'refuses a VXLAN port with %s, which would do nothing, or harm',
    (text) => {
      const key = `${text.split('=')[0]}=`;
      expect(() => parse('type=vxlan', 'vni=1', 'remote=192.0.2.1', text)).toThrow(
        `Cannot use ${key} for a VXLAN port`,
      );
    },
  );

  it('makes a mirror of type and names, and gives it and the monitor a filter', () => {
    const mirror = parse('mirror=web,ixl-e1000', 'type=mirror', 'filter=arp,0x88F7');
    expect(mirror).toMatchObject({ mirror: ['web', 'ixl-e1000'], filter: [0x0806, 0x88f7], monitor: false });
    expect(parse('type=monitor', 'filter=ipv6')).toMatchObject({ monitor: true, filter: [0x86dd] });
  });

  it('adds limits of single kinds up', () => {
    const spec = parse('storm=5', 'storm=multicast=9', 'rate-in=1M', 'rate-in=2M');
    expect(spec).toMatchObject({
      storm: { broadcast: 5, multicast: 9, unknown: 5 },
      rateIn: { bitsPerSecond: 2e6 },
    });
  });

  it.each(['filter=', 'mirror=', 'vlan=trunk=', 'name=', 'nonsense', 'storm='])(
    'refuses %s without end',
    (key) => {
      expect(() => parse(`${key}${'7,'.repeat(100_000)}`)).toThrow(
        /^Bad parameter '.{1,19}'. It must have at most 4096 characters: it has 2000\d\d$/,
      );
    },
  );

  it('passes over the nil that ends the argument list of a script', () => {
    expect(parsePortArguments([{ text: 'name=a' }, { nil: true }])).toMatchObject({ name: 'a' });
  });

  it('counts arguments from 2 when one is no string', () => {
    expect(() => parsePortArguments([{ text: 'name=a' }, {}])).toThrow('Unexpected type for argument 3');
  });
});
