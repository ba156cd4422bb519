import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { put16 } from '#common/wire/bytes';
import { pseudoSum, pseudoSum6 } from '#common/wire/checksum';
import { DHCP_OPTION, DHCP_TYPE, decodeDhcp, encodeDhcp } from '#common/wire/dhcp';
import { u8Option } from '#common/wire/dhcp_options';
import { DNS_TYPE, decodeDns, encodeDns } from '#common/wire/dns';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { emitEcho, ICMP_TYPE } from '#common/wire/icmp';
import { emitIpv4, ipv4ChecksumOk, ipv4Destination, ipv4Source, parseIpv4 } from '#common/wire/ipv4';
import { checkIpv6, emitIpv6, parseIpv6 } from '#common/wire/ipv6';
import { emitUdp, UDP, udpChecksumOk, udpDestination, udpSource } from '#common/wire/udp';
import { MAX_SLOT_FRAME } from '../frame_ring.ts';
import { parseGuestForward } from '../options.ts';
import { Forwards } from './forwards.ts';
import { DONE, GuestSide, PASS } from './guest_side.ts';
import { FixedNames } from './names.ts';
import { DEFAULT_NETWORK } from './network.ts';

const FRAME = 0;
const REPLY = 2048;
/** A frame too long for the place before the reply. */
const PING = 2 * REPLY;
const GUEST = parseIpv4('10.0.2.15') as number;
const CLIENT = Uint8Array.of(0x52, 0x54, 0, 0, 0, 9);
const MIRROR = parseIpv4('10.0.2.100') as number;

function setup(bytes = 4096) {
  const memory = new Memory(new ArrayBuffer(bytes + 4096));
  const replies: number[] = [];
  const warnings: string[] = [];
  const sink = { slot: () => REPLY, commit: (length: number) => void replies.push(length) };
  const names = new FixedNames(new Map([['www.lab', ['10.0.2.100']]]));
  const forwards = new Forwards([parseGuestForward('10.0.2.100:80=localhost:8080')]);
  const side = new GuestSide(memory, DEFAULT_NETWORK, names, forwards, sink, (text) => warnings.push(text));
  return { memory, side, replies, warnings };
}

function putQuery(memory: Memory, at: number, name: string): number {
  const question = { name, type: DNS_TYPE.A, class: 1 };
  const message = { id: 9, flags: 0, questions: [question], answers: [], authorities: [], additionals: [] };
  return encodeDns(message, memory.u8, at);
}

function putDiscover(memory: Memory, at: number, broadcast: boolean): number {
  const options = new Map([[DHCP_OPTION.MESSAGE_TYPE as number, u8Option(DHCP_TYPE.DISCOVER)]]);
  const zero = { secs: 0, ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0 };
  return encodeDhcp({ op: 1, xid: 77, broadcast, chaddr: CLIENT, options, ...zero }, memory.u8, at);
}

function putUdp(memory: Memory, destination: number, port: number, payload: (at: number) => number): number {
  const size = payload(FRAME + 42);
  emitEthernet(memory.u8, FRAME, new Uint8Array(6), new Uint8Array(6).fill(2), ETHERTYPE.IPV4);
  emitIpv4(memory.u8, FRAME + 14, 8 + size, 17, GUEST, destination);
  emitUdp(memory.u8, FRAME + 34, 1000, port, size, pseudoSum(GUEST, destination, 17, 8 + size));
  return 42 + size;
}

describe('GuestSide.outbound()', () => {
  it('answers a fixed name over IPv6 too', () => {
    const { memory, side, replies } = setup();
    const { u8 } = memory;
    const size = putQuery(memory, FRAME + 62, 'WWW.lab');
    emitEthernet(u8, FRAME, new Uint8Array(6).fill(1), new Uint8Array(6).fill(2), ETHERTYPE.IPV6);
    emitIpv6(u8, FRAME + 14, 8 + size, 17, parseIpv6('fec0::99') as Uint8Array, DEFAULT_NETWORK.dns6);
    emitUdp(u8, FRAME + 54, 1000, 53, size, pseudoSum6(u8, FRAME + 14, 17, 8 + size));
    expect(side.outbound(FRAME, 62 + size)).toBe(DONE);
    const length = replies[0] as number;
    expect(checkIpv6(u8, REPLY + 14, length - 14)).toBe(length - 54);
    expect(udpDestination(u8, REPLY + 54)).toBe(1000);
    expect(u8.slice(REPLY, REPLY + 6)).toEqual(new Uint8Array(6).fill(2));
    const reply = decodeDns(u8, REPLY + 54 + UDP.HEADER, length - 62);
    expect(reply.answers).toMatchObject([{ name: 'WWW.lab' }]);
  });

  it('leaves other queries to slirp', () => {
    const { memory, side, replies } = setup();
    const length = putUdp(memory, DEFAULT_NETWORK.dns, 53, (at) => putQuery(memory, at, 'other.lab'));
    expect([side.outbound(FRAME, length), replies]).toEqual([PASS, []]);
  });

  it('answers DHCP by unicast to the client, or by broadcast when it asks for that', () => {
    const { memory, side, replies } = setup();
    const { u8 } = memory;
    for (const broadcast of [false, true]) {
      const length = putUdp(memory, 0xffffffff, 67, (at) => putDiscover(memory, at, broadcast));
      expect(side.outbound(FRAME, length)).toBe(DONE);
      const size = replies.pop() as number;
      const mac = broadcast ? new Uint8Array(6).fill(0xff) : CLIENT;
      expect(u8.slice(REPLY, REPLY + 6)).toEqual(mac);
      expect([ipv4Source(u8, REPLY + 14), udpSource(u8, REPLY + 34), udpDestination(u8, REPLY + 34)]).toEqual(
        [DEFAULT_NETWORK.gateway, 67, 68],
      );
      const to = broadcast ? 0xffffffff : GUEST;
      expect(ipv4Destination(u8, REPLY + 14)).toBe(to);
      expect(ipv4ChecksumOk(u8, REPLY + 14, 20)).toBe(true);
      expect(udpChecksumOk(u8, REPLY + 34, DEFAULT_NETWORK.gateway, to)).toBe(true);
      const offer = decodeDhcp(u8, REPLY + 42, size - 42);
      expect(offer).toMatchObject({ xid: 77, yiaddr: GUEST, chaddr: CLIENT, broadcast });
    }
  });

  it('drops damaged and fragmented DHCP messages, and never leaves one to slirp', () => {
    const { memory, side, replies } = setup();
    const { u8 } = memory;
    const breaks: (() => void)[] = [
      () => u8.fill(0, FRAME + 42 + 236, FRAME + 42 + 240),
      () => put16(u8, FRAME + 40, 0x1234),
      () => put16(u8, FRAME + 38, 7),
      () => put16(u8, FRAME + 24, 0x1234),
      () => put16(u8, FRAME + 20, 0x2000),
    ];
    for (const damage of breaks) {
      for (const to of [DEFAULT_NETWORK.gateway, 0xffffffff, 0x0a0002ff]) {
        const length = putUdp(memory, to, 67, (at) => putDiscover(memory, at, false));
        damage();
        expect([side.outbound(FRAME, length), replies]).toEqual([DONE, []]);
      }
    }
    const elsewhere = putUdp(memory, 0x08080808, 67, (at) => putDiscover(memory, at, false));
    expect(side.outbound(FRAME, elsewhere)).toBe(PASS);
  });

  it('never leaves a fragment, a malformed packet or an unknown protocol to slirp', () => {
    const { memory, side } = setup();
    const { u8 } = memory;
    for (const destination of [MIRROR, DEFAULT_NETWORK.gateway, 0x08080808]) {
      const length = putUdp(memory, destination, 80, () => 4);
      for (const fragment of [0x2000, 1]) {
        put16(u8, FRAME + 20, fragment);
        expect(side.outbound(FRAME, length)).toBe(DONE);
      }
      put16(u8, FRAME + 20, 0);
      u8[FRAME + 14] = 0x44;
      expect(side.outbound(FRAME, length)).toBe(DONE);
      // NC-SI
      put16(u8, FRAME + 12, 0x88f8);
      expect(side.outbound(FRAME, length)).toBe(DONE);
    }
  });

  it('leaves those packets of IPv6 to slirp that it has an answer to', () => {
    const { memory, side } = setup();
    const { u8 } = memory;
    const verdict = (next: number, type: number, to = 'fec0::2', size = 24) => {
      emitEthernet(u8, FRAME, new Uint8Array(6), new Uint8Array(6).fill(2), ETHERTYPE.IPV6);
      const [from, destination] = ['fe80::9', to].map((text) => parseIpv6(text) as Uint8Array);
      emitIpv6(u8, FRAME + 14, size, next, from as Uint8Array, destination as Uint8Array);
      u8[FRAME + 54] = type;
      return side.outbound(FRAME, 54 + size);
    };
    for (const own of ['fec0::2', 'fec0::3', 'fe80::2', 'fe80::3']) expect(verdict(58, 128, own)).toBe(PASS);
    for (const other of ['fec0::4', 'ff02::1', '2001:db8::2']) expect(verdict(58, 128, other)).toBe(DONE);
    for (const type of [133, 135, 136]) expect(verdict(58, type, 'ff02::2')).toBe(PASS);
    // Router advertisements, redirects, MLD, errors; and too short to have a type's fields.
    for (const type of [134, 137, 131, 143, 1]) expect(verdict(58, type)).toBe(DONE);
    expect(verdict(58, 135, 'ff02::2', 7)).toBe(DONE);
    expect([verdict(6, 0), verdict(17, 0)]).toEqual([PASS, PASS]);
    for (const next of [0, 43, 44, 59, 60, 136]) expect(verdict(next, 0)).toBe(DONE);
    put16(u8, FRAME + 18, 9999);
    expect(side.outbound(FRAME, 78)).toBe(DONE);
  });

  it('answers a ping to a forwarded address up to what a frame of the ring holds, and drops a longer one', () => {
    const { memory, side, replies } = setup(3 * REPLY);
    const { u8 } = memory;
    const fits = MAX_SLOT_FRAME - 42;
    for (const [size, answers] of [
      [fits, [MAX_SLOT_FRAME]],
      [fits + 1, []],
    ] as const) {
      u8.fill(0x5a);
      emitEthernet(u8, PING, new Uint8Array(6), new Uint8Array(6).fill(2), ETHERTYPE.IPV4);
      emitIpv4(u8, PING + 14, 8 + size, 1, GUEST, MIRROR);
      emitEcho(u8, PING + 34, ICMP_TYPE.ECHO, 1, 1, size);
      expect(side.outbound(PING, 42 + size)).toBe(DONE);
      expect(replies.splice(0)).toEqual(answers);
      expect(u8.subarray(REPLY + MAX_SLOT_FRAME, PING).every((byte) => byte === 0x5a)).toBe(true);
    }
  });

  it('takes any bytes without throwing', () => {
    const { memory, side } = setup();
    const length = putUdp(memory, MIRROR, 80, () => 4);
    const good = memory.u8.slice(0, length);
    for (let at = 12; at < length; at++) {
      for (const value of [0, 1, 6, 17, 0x45, 0x4f, 0x60, 0xff]) {
        memory.u8.set(good);
        memory.u8[at] = value;
        for (let cut = 0; cut <= length; cut += 7) side.outbound(FRAME, cut);
        side.inbound(FRAME, length);
      }
    }
  });
});
