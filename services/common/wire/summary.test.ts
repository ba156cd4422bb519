import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { summarize } from './summary.ts';

const fromHex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
const A = '525400000001';
const B = '525400000002';
const ALL = 'ffffffffffff';
const IP4 = (protocol: string, total: string) =>
  `4500 ${total} 0001 0000 40${protocol} 0000 0a00020f 0a000202`;

describe('summarize()', () => {
  it.each([
    [
      'an ARP request',
      `${ALL} ${A} 0806 0001 0800 0604 0001 ${A} 0a00020f 000000000000 0a000202`,
      '52:54:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP, length 42: who has 10.0.2.2 tell 10.0.2.15',
    ],
    [
      'an ARP reply in a VLAN with a priority',
      `${A} ${B} 8100 a007 0806 0001 0800 0604 0002 ${B} 0a000202 ${A} 0a00020f`,
      '52:54:00:00:00:02 > 52:54:00:00:00:01, vlan 7 p 5, ARP, length 46: 10.0.2.2 is at 52:54:00:00:00:02',
    ],
    [
      'TCP',
      `${B} ${A} 0800 ${IP4('06', '002a')} 0050 1f90 00000001 00000002 5018 ffff 0000 0000 6869`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 56: 10.0.2.15.80 > 10.0.2.2.8080: TCP [P.] seq 1 ack 2 win 65535, 2 bytes',
    ],
    [
      'UDP',
      `${B} ${A} 0800 ${IP4('11', '0020')} 0044 0043 000c 0000 00000000`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 46: 10.0.2.15.68 > 10.0.2.2.67: UDP, 4 bytes',
    ],
    [
      'UDP that lies about its length',
      `${B} ${A} 0800 ${IP4('11', '0020')} 0044 0043 0000 0000 00000000`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 46: 10.0.2.15.68 > 10.0.2.2.67: UDP, bad length 0',
    ],
    [
      'an echo request',
      `${B} ${A} 0800 ${IP4('01', '001c')} 0800 0000 0102 0003`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 42: 10.0.2.15 > 10.0.2.2: ICMP echo request id 258 seq 3',
    ],
    [
      'a neighbor solicitation',
      `333300000001 ${A} 86dd 60000000 0008 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001 8700 0000 00000000`,
      '52:54:00:00:00:01 > 33:33:00:00:00:01, IPv6, length 62: fe80::1 > ff02::1: ICMPv6 neighbor solicitation (code 0)',
    ],
    ['an unknown type', `${B} ${A} 88b5 0000`, '52:54:00:00:00:01 > 52:54:00:00:00:02, 0x88b5, length 16'],
    [
      'a frame that was cut in its TCP header',
      `${B} ${A} 0800 ${IP4('06', '002a')} 0050`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 36: 10.0.2.15 > 10.0.2.2: TCP [cut]',
    ],
    [
      'a fragment',
      `${B} ${A} 0800 4500 0020 0001 2010 4006 0000 0a00020f 0a000202 0000`,
      '52:54:00:00:00:01 > 52:54:00:00:00:02, IPv4, length 36: 10.0.2.15 > 10.0.2.2: fragment at 128 of protocol 6',
    ],
    ['a runt', '0102', 'length 2: shorter than an Ethernet header'],
  ])('tells of %s', (_name, hex, wanted) => {
    const bytes = fromHex(hex);
    expect(summarize(bytes, bytes.length)).toBe(wanted);
  });

  it('makes one line of anything', () => {
    const types = fc.constantFrom('0800', '86dd', '0806', '8100');
    fc.assert(
      fc.property(types, fc.uint8Array({ maxLength: 80 }), (type, rest) => {
        const line = summarize(Uint8Array.of(...fromHex(`${A}${B}${type}`), ...rest), 1514);
        expect(line).not.toMatch(/[^\x20-\x7e]|undefined|NaN/);
      }),
    );
  });
});
