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
    v6: (source: string, destination: string, next = 6, icmp = 0) => {
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

  it('drops truncated and unknown frames', () => {
    const { v4, verdict, arp } = setup();
    v4('10.0.2.2', '10.0.2.15');
    expect([verdict(0), verdict(13), verdict(33), verdict(34)]).toEqual([false, false, false, true]);
    arp();
    expect(setup().verdict()).toBe(false);
  });
});
