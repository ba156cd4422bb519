import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import {
  formatIpv6,
  isLinkLocal6,
  isLoopback,
  netmaskOf,
  parseIp,
  parseIpv6,
  readIp,
  writeIp,
} from './address.ts';

describe('parseIp()', () => {
  it.each([
    ['10.0.2.15', '10.0.2.15'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::5054:ff:fe12:3456', 'fe80::5054:ff:fe12:3456'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:10.0.2.15', '::ffff:a00:20f'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1::', '1::'],
  ])('reads %s and writes it as %s', (text, canonical) => {
    const memory = new Memory(new ArrayBuffer(64));
    memory.u8.fill(0xa5);
    const ip = parseIp(text);
    if (ip === undefined) throw new Error('no address');
    writeIp(memory, 8, ip);
    expect(readIp(memory, 8)).toBe(canonical);
    expect([memory.u8[7], memory.u8[8 + 24]]).toEqual([0xa5, 0xa5]);
  });

  it.each(['', '10.0.2', '10.0.2.256', 'localhost', '1:::2', 'fe80::%'])('refuses "%s"', (text) => {
    expect(parseIp(text)).toBeUndefined();
  });

  it('asks for the zone behind %', () => {
    expect(parseIp('fe80::1%vn0', (name) => (name === 'vn0' ? 1 : 0))).toMatchObject({ family: 6, zone: 1 });
  });
});

describe('address classes', () => {
  it('are told apart', () => {
    const is = (test: typeof isLoopback, text: string) =>
      test(parseIp(text) ?? { family: 4, bytes: new Uint8Array(4), zone: 0 });
    expect([is(isLoopback, '127.1.2.3'), is(isLoopback, '::1'), is(isLoopback, '128.0.0.1')]).toEqual([
      true,
      true,
      false,
    ]);
    expect([is(isLinkLocal6, 'febf::1'), is(isLinkLocal6, 'fec0::1')]).toEqual([true, false]);
  });
});

describe('netmaskOf()', () => {
  it.each([
    [0, 0],
    [8, 0xff000000],
    [24, 0xffffff00],
    [32, 0xffffffff],
    [99, 0xffffffff],
  ])('makes of /%i the mask %i', (prefix, mask) => expect(netmaskOf(prefix)).toBe(mask));
});

describe('formatIpv6()', () => {
  it('shortens the first of two equally long runs [RFC 5952 §4.2.3]', () => {
    expect(formatIpv6(parseIpv6('1:0:0:2:0:0:3:4'))).toBe('1::2:0:0:3:4');
  });
});
