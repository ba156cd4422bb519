/** Ethernet, ARP, IPv4, IPv6, UDP, TCP and ICMP: byte vectors in both directions, on 0xa5-filled buffers. */

import { describe, expect, it } from 'vitest';
import { ARP_REPLY, ARP_REQUEST, arpSenderIp, arpTargetIp, checkArp, emitArpFrame } from './arp.ts';
import { pseudoSum } from './checksum.ts';
import { ETH, emitEthernet, etherType, formatMac, isMulticast, parseMac } from './ethernet.ts';
import { checkIcmp, emitEcho, ICMP_TYPE } from './icmp.ts';
import {
  checkIpv4,
  emitIpv4,
  formatIpv4,
  ipv4ChecksumOk,
  ipv4Destination,
  ipv4Source,
  isFragment,
  parseIpv4,
} from './ipv4.ts';
import { checkIpv6, emitIpv6, formatIpv6, parseIpv6 } from './ipv6.ts';
import { MALFORMED } from './malformed.ts';
import { checkTcp, emitTcp, TCP_FLAG, tcpChecksumOk } from './tcp.ts';
import { checkUdp, emitUdp, udpChecksumOk, udpDestination, udpSource } from './udp.ts';

const GUEST = 0x0a00020f;
const GATEWAY = 0x0a000202;
const dirty = (size: number) => new Uint8Array(size).fill(0xa5);
const fromHex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const ARP_REQUEST_FRAME = fromHex(`ffffffffffff 525400123456 0806
  0001 0800 06 04 0001 525400123456 0a00020f 000000000000 0a000202`);

describe('Ethernet', () => {
  it('parseMac() and formatMac() are inverse and refuse what is no address', () => {
    expect(formatMac(parseMac('52:54:00:AB:cd:56') as Uint8Array)).toBe('52:54:00:ab:cd:56');
    for (const text of ['', '52:54:00:12:34', '52:54:00:12:34:5g', '52:54:00:12:34:56:78'])
      expect(parseMac(text)).toBeUndefined();
  });

  it('emitEthernet() touches its 14 bytes only', () => {
    const bytes = dirty(18);
    expect(emitEthernet(bytes, 2, new Uint8Array(6).fill(0xff), fromHex('525400123456'), 0x0800)).toBe(16);
    expect(hex(bytes)).toBe(`a5a5ffffffffffff5254001234560800a5a5`);
    expect([etherType(bytes, 2), isMulticast(bytes, 2), isMulticast(bytes, 8)]).toEqual([
      0x0800,
      true,
      false,
    ]);
  });
});

describe('ARP', () => {
  it('emitArpFrame() and checkArp() agree with a captured request', () => {
    const bytes = dirty(44);
    const mac = fromHex('525400123456');
    const packet = {
      operation: ARP_REQUEST,
      senderMac: mac,
      senderIp: GUEST,
      targetMac: new Uint8Array(6),
      targetIp: GATEWAY,
    };
    expect(emitArpFrame(bytes, 1, new Uint8Array(6).fill(0xff), packet)).toBe(42);
    expect(hex(bytes)).toBe(`a5${hex(ARP_REQUEST_FRAME)}a5`);
    expect(checkArp(ARP_REQUEST_FRAME, ETH.HEADER, 28)).toBe(ARP_REQUEST);
    expect([arpSenderIp(bytes, 15), arpTargetIp(bytes, 15)]).toEqual([GUEST, GATEWAY]);
  });

  it('checkArp() refuses truncated packets and other hardware', () => {
    expect(checkArp(ARP_REQUEST_FRAME, ETH.HEADER, 27)).toBe(MALFORMED.TRUNCATED);
    const other = ARP_REQUEST_FRAME.slice();
    other[ETH.HEADER + 4] = 8;
    expect(checkArp(other, ETH.HEADER, 28)).toBe(MALFORMED.LENGTH);
    expect(ARP_REPLY).toBe(2);
  });
});

describe('IPv4', () => {
  const HEADER = fromHex('45000073000040004011b861c0a80001c0a800c7');

  it('checkIpv4() and ipv4ChecksumOk() take a known header', () => {
    expect(checkIpv4(HEADER, 0, 0x73)).toBe(20);
    expect(ipv4ChecksumOk(HEADER, 0, 20)).toBe(true);
    expect([ipv4Source(HEADER, 0), ipv4Destination(HEADER, 0)].map(formatIpv4)).toEqual([
      '192.168.0.1',
      '192.168.0.199',
    ]);
    expect(isFragment(HEADER, 0)).toBe(false);
  });

  it('checkIpv4() gives the reason when a header lies', () => {
    const lie = (at: number, value: number) => {
      const bytes = HEADER.slice();
      bytes[at] = value;
      return checkIpv4(bytes, 0, 0x73);
    };
    expect([lie(0, 0x65), lie(0, 0x44), lie(3, 0x74), lie(3, 19)]).toEqual([
      MALFORMED.VERSION,
      MALFORMED.LENGTH,
      MALFORMED.TRUNCATED,
      MALFORMED.LENGTH,
    ]);
    expect(checkIpv4(HEADER, 0, 19)).toBe(MALFORMED.TRUNCATED);
  });

  it('emitIpv4() writes a header that checks out, and 20 bytes only', () => {
    const bytes = dirty(22);
    expect(emitIpv4(bytes, 1, 8, 17, GUEST, GATEWAY, 64, 0x1234)).toBe(21);
    expect(hex(bytes)).toBe('a54500001c123400004011508d0a00020f0a000202a5');
    expect(ipv4ChecksumOk(bytes, 1, 20)).toBe(true);
  });

  it('parseIpv4() takes dotted quads only', () => {
    expect(parseIpv4('10.0.2.15')).toBe(GUEST);
    expect(parseIpv4('255.255.255.255')).toBe(0xffffffff);
    for (const text of ['', '10.0.2', '10.0.2.256', '10.0.2.15.1', ' 10.0.2.15', '0x0a.0.2.15', 'a.b.c.d']) {
      expect(parseIpv4(text)).toBeUndefined();
    }
  });
});

describe('IPv6', () => {
  it('parseIpv6() and formatIpv6() follow [RFC 5952]', () => {
    const round = (text: string) => formatIpv6(parseIpv6(text) as Uint8Array);
    expect(round('2001:DB8:0:0:1:0:0:1')).toBe('2001:db8::1:0:0:1');
    expect(round('fec0::3')).toBe('fec0::3');
    expect(round('::')).toBe('::');
    expect(round('1:0:2:3:4:5:6:7')).toBe('1:0:2:3:4:5:6:7');
    expect(round('::ffff:10.0.2.2')).toBe('::ffff:a00:202');
    for (const text of [
      '',
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '12345::',
      '10.0.2.2::',
      'fe80::1%eth0',
      '1:2:3:4:5:6:7:8::',
    ]) {
      expect(parseIpv6(text), text).toBeUndefined();
    }
  });

  it('emitIpv6() and checkIpv6() agree', () => {
    const bytes = dirty(44);
    const address = parseIpv6('fec0::3') as Uint8Array;
    expect(emitIpv6(bytes, 1, 3, 17, address, address)).toBe(41);
    expect([checkIpv6(bytes, 1, 43), checkIpv6(bytes, 1, 42), checkIpv6(bytes, 1, 39)]).toEqual([
      3,
      MALFORMED.TRUNCATED,
      MALFORMED.TRUNCATED,
    ]);
    expect([bytes[0], bytes[41]]).toEqual([0xa5, 0xa5]);
  });
});

describe('UDP', () => {
  it('emitUdp() makes a datagram that checkUdp() and udpChecksumOk() take', () => {
    const bytes = dirty(14);
    bytes.set([1, 2, 3], 9);
    emitUdp(bytes, 1, 68, 67, 3, pseudoSum(GUEST, GATEWAY, 17, 11));
    expect([bytes[0], bytes[12], udpSource(bytes, 1), udpDestination(bytes, 1)]).toEqual([
      0xa5, 0xa5, 68, 67,
    ]);
    expect(checkUdp(bytes, 1, 11)).toBe(3);
    expect(udpChecksumOk(bytes, 1, GUEST, GATEWAY)).toBe(true);
    bytes[9] = 2;
    expect(udpChecksumOk(bytes, 1, GUEST, GATEWAY)).toBe(false);
  });

  it('checkUdp() refuses lengths that lie', () => {
    const bytes = fromHex('0044004300070000');
    expect(checkUdp(bytes, 0, 8)).toBe(MALFORMED.LENGTH);
    bytes[5] = 9;
    expect([checkUdp(bytes, 0, 8), checkUdp(bytes, 0, 7)]).toEqual([
      MALFORMED.TRUNCATED,
      MALFORMED.TRUNCATED,
    ]);
  });
});

describe('TCP', () => {
  it('emitTcp() makes a segment that checkTcp() and tcpChecksumOk() take', () => {
    const bytes = dirty(24);
    const segment = {
      source: 1234,
      destination: 80,
      sequence: 0xfffffff0,
      acknowledgment: 7,
      flags: TCP_FLAG.SYN,
      window: 0xffff,
    };
    emitTcp(bytes, 1, segment, 3, pseudoSum(GUEST, GATEWAY, 6, 23));
    expect(hex(bytes.subarray(1, 17))).toBe('04d20050fffffff0000000075002ffff');
    expect(checkTcp(bytes, 1, 23)).toBe(20);
    expect(tcpChecksumOk(bytes, 1, 23, GUEST, GATEWAY)).toBe(true);
    bytes[13] = 0x40;
    expect(checkTcp(bytes, 1, 23)).toBe(MALFORMED.LENGTH);
    bytes[13] = 0xf0;
    expect(checkTcp(bytes, 1, 23)).toBe(MALFORMED.TRUNCATED);
  });
});

describe('ICMP', () => {
  it('emitEcho() makes a message that checkIcmp() takes', () => {
    const bytes = dirty(16);
    emitEcho(bytes, 1, ICMP_TYPE.ECHO, 1, 2, 6);
    expect(checkIcmp(bytes, 1, 14)).toBe(ICMP_TYPE.ECHO);
    bytes[14] = 0;
    expect(checkIcmp(bytes, 1, 14)).toBe(MALFORMED.CHECKSUM);
    expect(checkIcmp(bytes, 1, 7)).toBe(MALFORMED.TRUNCATED);
  });
});
