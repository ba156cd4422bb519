import { describe, expect, it } from 'vitest';
import { parseIp, parseNetwork } from '#common/udp/address';
import { finishVxlan, formatEnds, newDraft, setVxlan, type VxlanSpec } from './spec.ts';

/** The arguments of a port, as a script writes them. */
function spec(...words: string[]): VxlanSpec {
  const draft = newDraft();
  for (const word of words) {
    const [key = '', value = ''] = word.split('=', 2);
    setVxlan(draft, key, value);
  }
  return finishVxlan(draft);
}

describe('arguments of a VXLAN port', () => {
  it('knows addresses, ports and defaults', () => {
    expect(spec('vni=16777215', 'remote=192.0.2.1', 'remote=192.0.2.2:8472', 'local=192.0.2.9')).toEqual({
      vni: 0xff_ffff,
      family: 4,
      remotes: [
        { address: parseIp('192.0.2.1'), port: 4789 },
        { address: parseIp('192.0.2.2'), port: 8472 },
      ],
      local: parseIp('192.0.2.9'),
      port: 4789,
    });
  });

  it('knows IPv6 addresses in brackets, and in any order with what they need', () => {
    const ends = spec(
      'remote=[2001:db8::1]',
      'remote=[fe80::2]:99',
      'vni=0',
      'dev=eth0',
      'local=[2001:db8::9]',
    );
    expect(ends).toMatchObject({ family: 6, device: 'eth0', local: parseIp('2001:db8::9') });
    expect(formatEnds(ends)).toBe('[2001:db8::1]:4789, [fe80::2]:99');
  });

  it('knows groups of both families', () => {
    const group = spec(
      'vni=5',
      'group=239.1.1.1',
      'dev=eth0',
      'allow=192.0.2.0/24',
      'allow=198.51.100.7',
      'ttl=8',
    );
    expect(group).toEqual({
      vni: 5,
      family: 4,
      remotes: [],
      port: 4789,
      device: 'eth0',
      group: {
        address: parseIp('239.1.1.1'),
        ttl: 8,
        allow: [parseNetwork('192.0.2.0/24'), { address: parseIp('198.51.100.7'), bits: 32 }],
      },
    });
    const six = spec('vni=5', 'group=[ff05::42]', 'dev=br-lan.7', 'local=2001:db8::1');
    expect(six.group).toEqual({ address: parseIp('ff05::42'), ttl: 1, allow: [] });
    expect(formatEnds(six)).toBe('group ff05::42 on br-lan.7');
  });

  it.each([
    [['remote=192.0.2.1'], /needs an id: add vni=N/],
    [['vni=1'], /needs another end: add remote=ADDRESS.* or group=ADDRESS/],
    [['vni=16777216'], /Invalid VXLAN id '16777216': it must be 0\.\.16777215/],
    [['vni=1', 'remote=web'], /Invalid VXLAN remote 'web': it must be an IPv4 or IPv6 address/],
    [['vni=1', 'remote=0.0.0.0'], /must be the address of one host/],
    [['vni=1', 'remote=255.255.255.255'], /must be the address of one host/],
    [['vni=1', 'remote=[::]'], /must be the address of one host/],
    [['vni=1', 'remote=239.1.1.1'], /'239\.1\.1\.1': it is a multicast group, which is named with group=/],
    [['vni=1', 'remote=[ff02::1]'], /it is a multicast group/],
    [['vni=1', 'remote=192.0.2.1:0'], /must be 1\.\.65535/],
    [['vni=1', 'remote=[2001:db8::1]:x'], /must be 1\.\.65535/],
    [['vni=1', 'remote=192.0.2.1:1:2'], /must be ADDRESS\[:PORT\]/],
    [['vni=1', 'remote=2001:db8::1'], /an IPv6 address in brackets/],
    [['vni=1', 'remote=[2001:db8::1'], /an IPv6 address in brackets/],
    [['vni=1', 'remote=[192.0.2.1]x'], /an IPv6 address in brackets/],
    [['vni=1', 'remote=[::ffff:192.0.2.1]'], /write it as the IPv4 address that it is/],
    [['vni=1', 'remote=[fe80::1%eth0]'], /must be an IPv4 or IPv6 address/],
    [['vni=1', 'remote=[fe80::1]'], /remote 'fe80::1' is a link-local address: add dev=NAME/],
    [['vni=1', 'remote=[2001:db8::1]', 'local=fe80::1'], /'fe80::1' is a link-local address: add dev=NAME/],
    [['vni=1', 'remote=192.0.2.1', 'remote=192.0.2.1:99'], /needs an address of its own/],
    [['vni=1', 'remote=[2001:db8::1]', 'remote=[2001:DB8:0::1]'], /needs an address of its own/],
    [
      ['vni=1', 'remote=192.0.2.1', 'remote=[2001:db8::1]'],
      /192\.0\.2\.1 and 2001:db8::1 do not go together/,
    ],
    [['vni=1', 'local=192.0.2.1', 'remote=[2001:db8::1]'], /do not go together/],
    [['vni=1', 'local=192.0.2.1', 'remote=192.0.2.1'], /that is this port itself/],
    [
      ['vni=1', 'local=224.0.0.9', 'remote=192.0.2.1'],
      /Invalid local address '224\.0\.0\.9': it is a multicast/,
    ],
    [['vni=1', 'port=x'], /Invalid VXLAN port 'x'/],
    [['vni=1', 'group=239.1.1.1'], /needs an interface as group=239\.1\.1\.1 .*: add dev=NAME/],
    [
      ['vni=1', 'group=192.0.2.1', 'dev=eth0'],
      /Invalid VXLAN group '192\.0\.2\.1': it must be a multicast address/,
    ],
    [['vni=1', 'group=239.1.1.1', 'remote=192.0.2.1', 'dev=eth0'], /either a group or remotes/],
    [['vni=1', 'group=239.1.1.1', 'dev=eth0', 'local=::1'], /do not go together/],
    [['vni=1', 'group=239.1.1.1', 'dev=eth0', 'allow=2001:db8::/32'], /do not go together/],
    [['vni=1', 'group=239.1.1.1', 'dev=eth0', 'allow=192.0.2.0/33'], /Invalid network '192\.0\.2\.0\/33'/],
    [['vni=1', 'group=239.1.1.1', 'dev=eth0', ...Array(17).fill('allow=10.0.0.0/8')], /at most 16 networks/],
    [['vni=1', 'group=239.1.1.1', 'dev=eth0', 'ttl=0'], /number of hops '0': it must be 1\.\.255/],
    [['vni=1', 'remote=192.0.2.1', 'ttl=3'], /Cannot use ttl= without a group/],
    [['vni=1', 'remote=192.0.2.1', 'allow=192.0.2.0/24'], /Cannot use allow= without a group/],
    [['vni=1', 'remote=192.0.2.1', 'dev=a/b'], /Invalid interface 'a\/b'/],
    [['vni=1', 'remote=192.0.2.1', 'dev=0123456789abcdef'], /1 to 15 characters/],
  ])('refuses %j', (words, message) => {
    expect(() => spec(...words)).toThrow(message);
    expect(() => spec(...words)).toThrow(expect.objectContaining({ code: 'VSWITCH_VXLAN', errno: 22 }));
  });
});
