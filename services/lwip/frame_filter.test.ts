import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { put16, put32 } from '#common/wire/bytes';
import { parseIpv4 } from '#common/wire/ipv4';
import { parseIpv6, writeIpv4 } from './address.ts';
import { acceptFrame } from './frame_filter.ts';
import { NETIF } from './layout.ts';

const FRAME = 2048;
const VN0 = 0;
const VN1 = 512;
const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const LINK_LOCAL = 'fe80::5054:ff:fe12:3456';

const num = (text: string): number => parseIpv4(text) ?? 0;

function setup(address = '10.0.2.15') {
  const memory = new Memory(new ArrayBuffer(4096));
  for (const [at, ip] of [
    [VN0, address],
    [VN1, '192.168.9.1'],
  ] as const) {
    writeIpv4(memory, at + NETIF.IP, num(ip));
    writeIpv4(memory, at + NETIF.NETMASK, num('255.255.255.0'));
  }
  memory.u8.set(MAC, VN0 + NETIF.HWADDR);
  memory.u8.set(parseIpv6(LINK_LOCAL), VN0 + NETIF.IP6);
  memory.u8[VN0 + NETIF.IP6_STATE] = 0x30;
  const { u8 } = memory;
  const verdict = (length = 100) => acceptFrame(memory, FRAME, length, VN0, [VN0, VN1]);
  const ethernet = (type: number, mac: readonly number[] = MAC) => {
    u8.set(mac, FRAME);
    put16(u8, FRAME + 12, type);
  };
  return {
    verdict,
    /** From 10.0.2.2, or from fe80::2: what follows the IP header. */
    inside: (
      protocol: number,
      bytes: readonly number[],
      { ipv6 = false, fragment = 0, header = 20 } = {},
    ) => {
      u8.fill(0, FRAME, FRAME + 256);
      ethernet(ipv6 ? 0x86dd : 0x800);
      const ip = FRAME + 14;
      if (ipv6) {
        u8[ip + 6] = protocol;
        u8.set(parseIpv6('fe80::2'), ip + 8);
        u8.set(parseIpv6(LINK_LOCAL), ip + 24);
      } else {
        u8[ip] = 0x40 + header / 4;
        put16(u8, ip + 6, fragment);
        u8[ip + 9] = protocol;
        put32(u8, ip + 12, num('10.0.2.2'));
        put32(u8, ip + 16, num(address));
      }
      u8.set(bytes, ip + (ipv6 ? 40 : header));
      return verdict(14 + (ipv6 ? 40 : header) + bytes.length);
    },
    arp: (mac?: readonly number[]) => {
      ethernet(0x806, mac);
      return verdict();
    },
    v4: (source: string, destination: string, mac?: readonly number[]) => {
      ethernet(0x800, mac);
      put32(u8, FRAME + 14 + 12, num(source));
      put32(u8, FRAME + 14 + 16, num(destination));
      return verdict();
    },
    v6: (source: string, destination: string, next = 17, icmp = 0) => {
      ethernet(0x86dd);
      u8[FRAME + 14 + 6] = next;
      u8.set(parseIpv6(source), FRAME + 14 + 8);
      u8.set(parseIpv6(destination), FRAME + 14 + 24);
      u8[FRAME + 14 + 40] = icmp;
      return verdict();
    },
  };
}

describe('acceptFrame()', () => {
  it('takes what is for this interface', () => {
    const { v4, v6, arp } = setup();
    expect(v4('10.0.2.2', '10.0.2.15')).toBe(true);
    expect(v4('10.0.2.2', '10.0.2.255', [255, 255, 255, 255, 255, 255])).toBe(true);
    expect(v4('10.0.2.2', '255.255.255.255', [255, 255, 255, 255, 255, 255])).toBe(true);
    expect(v4('10.0.2.2', '224.0.0.1', [1, 0, 0x5e, 0, 0, 1])).toBe(true);
    expect(arp()).toBe(true);
    expect(v6('fe80::2', LINK_LOCAL)).toBe(true);
    expect(v6('fe80::2', 'ff02::1')).toBe(true);
  });

  it('drops what a NIC would not pass on or lwIP would forward', () => {
    const { v4, v6, arp } = setup();
    expect(v4('10.0.2.2', '10.0.2.15', [0x52, 0x54, 0, 0x12, 0x34, 0x57])).toBe(false);
    expect(v4('10.0.2.2', '10.0.2.16')).toBe(false);
    expect(v4('10.0.2.2', '192.168.9.1')).toBe(false);
    expect(v6('fe80::2', 'fe80::3')).toBe(false);
    expect(arp([2, 0, 0, 0, 0, 1])).toBe(false);
  });

  it('drops frames with a source address of our own: lwIP would loop its answer back', () => {
    const { v4, v6 } = setup();
    expect(v4('10.0.2.15', '10.0.2.15')).toBe(false);
    expect(v4('192.168.9.1', '10.0.2.15')).toBe(false);
    expect(v4('127.0.0.1', '10.0.2.15')).toBe(false);
    expect(v6(LINK_LOCAL, LINK_LOCAL)).toBe(false);
    expect(v6('::1', LINK_LOCAL)).toBe(false);
  });

  it('takes a neighbour advertisement from our own address: it tells of a duplicate [RFC 4862 §5.4.4]', () => {
    expect(setup().v6(LINK_LOCAL, 'ff02::1', 58, 136)).toBe(true);
    expect(setup().v6(LINK_LOCAL, 'ff02::1', 58, 128)).toBe(false);
  });

  describe.each([{ ipv6: false }, { ipv6: true }])('%s', (ip) => {
    const [TCP, UDP, UDP_LITE] = [6, 17, 136];
    const [SYN, ACK] = [2, 16];
    const tcp = (flags: number, options: readonly number[] = [], offset = 5 + options.length / 4) => [
      ...[0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, offset << 4, flags, 255, 255, 0, 0, 0, 0],
      ...options,
    ];

    it('takes segments with any options that do not change the MSS of a connection', () => {
      const { inside } = setup();
      expect(inside(TCP, tcp(ACK), ip)).toBe(true);
      expect(inside(TCP, tcp(SYN, [2, 4, 5, 0xb4]), ip)).toBe(true);
      expect(inside(TCP, tcp(ACK, [1, 1, 8, 10, 0, 0, 0, 0, 2, 4, 5, 0xb4]), ip)).toBe(true);
      // lwIP does not look behind these.
      expect(inside(TCP, tcp(ACK, [0, 2, 4, 1]), ip)).toBe(true);
      expect(inside(TCP, tcp(ACK, [77, 0, 2, 4]), ip)).toBe(true);
      expect(inside(TCP, tcp(ACK, [77, 1, 2, 4]), ip)).toBe(true);
      expect(inside(TCP, tcp(ACK, [1, 1, 1, 77]), ip)).toBe(true);
    });

    it('drops segments that do: lwIP would end the process when the program writes', () => {
      const { inside } = setup();
      expect(inside(TCP, tcp(ACK, [2, 4, 0, 1]), ip)).toBe(false);
      expect(inside(TCP, tcp(ACK, [1, 2, 4, 0, 1, 0, 0, 0]), ip)).toBe(false);
      expect(inside(TCP, tcp(ACK, [77, 3, 0, 1, 2, 4, 0, 1]), ip)).toBe(false);
    });

    it('drops segments whose header is not whole', () => {
      const { inside } = setup();
      expect(inside(TCP, tcp(ACK).slice(0, 19), ip)).toBe(false);
      expect(inside(TCP, tcp(ACK, [], 4), ip)).toBe(false);
      expect(inside(TCP, tcp(ACK, [], 6), ip)).toBe(false);
    });

    it('drops UDP-Lite: lwIP believes its length', () => {
      const { inside } = setup();
      expect(inside(UDP_LITE, [0, 1, 0, 2, 255, 255, 0, 0], ip)).toBe(false);
      expect(inside(UDP, [0, 1, 0, 2, 255, 255, 0, 0], ip)).toBe(true);
    });
  });

  it('drops TCP in pieces, and takes UDP in pieces', () => {
    const { inside } = setup();
    const bytes = new Array<number>(40).fill(0x50);
    for (const fragment of [0x2000, 1, 0x2001]) {
      expect(inside(6, bytes, { fragment })).toBe(false);
      expect(inside(17, bytes, { fragment })).toBe(true);
    }
    expect(inside(44, [6, 0, 0, 1, 0, 0, 0, 1, ...bytes], { ipv6: true })).toBe(false);
    expect(inside(44, [136, 0, 0, 1, 0, 0, 0, 1, ...bytes], { ipv6: true })).toBe(false);
    expect(inside(44, [60, 0, 0, 1, 0, 0, 0, 1, ...bytes], { ipv6: true })).toBe(false);
    expect(inside(44, [17, 0, 0, 1, 0, 0, 0, 1, ...bytes], { ipv6: true })).toBe(true);
    expect(inside(44, [17, 0, 0], { ipv6: true })).toBe(false);
  });

  it('takes hop-by-hop options with ICMPv6 and no other extension header', () => {
    const { inside } = setup();
    const rest = [0, 5, 2, 0, 0, 1, 0, 130, 0, 0, 0, 0, 0, 0, 0];
    expect(inside(0, [58, ...rest], { ipv6: true })).toBe(true);
    expect(inside(0, [6, ...rest], { ipv6: true })).toBe(false);
    expect(inside(0, [0, ...rest], { ipv6: true })).toBe(false);
    for (const next of [43, 50, 51, 59, 60, 135])
      expect(inside(next, [58, ...rest], { ipv6: true })).toBe(false);
    expect(inside(0, [58], { ipv6: true })).toBe(false);
  });

  it('looks for the transport behind the options of IPv4', () => {
    const { inside } = setup();
    const bytes = [0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x60, 16, 255, 255, 0, 0, 0, 0, 2, 4, 0, 1];
    expect(inside(6, bytes, { header: 32 })).toBe(false);
  });

  it('drops truncated and unknown frames', () => {
    const { v4, verdict, arp } = setup();
    v4('10.0.2.2', '10.0.2.15');
    expect([verdict(0), verdict(13), verdict(33), verdict(34)]).toEqual([false, false, false, true]);
    arp();
    expect(setup().verdict()).toBe(false);
  });
});
