import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { put16 } from '#common/wire/bytes';
import { finish, fold, pseudoSum, sumOf } from '#common/wire/checksum';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { ICMP } from '#common/wire/icmp';
import {
  emitIpv4,
  formatIpv4,
  ipv4ChecksumOk,
  ipv4Destination,
  ipv4Source,
  parseIpv4,
} from '#common/wire/ipv4';
import { emitTcp, TCP_FLAG, tcpChecksumOk } from '#common/wire/tcp';
import { emitUdp, UDP, udpChecksumOk, udpDestination, udpSource } from '#common/wire/udp';
import { FlowTable } from './flow_table.ts';
import { Forwards, NO_SUCH_PORT, NOT_FORWARDED } from './forwards.ts';

const ip = (text: string) => parseIpv4(text) as number;
const GUEST = ip('10.0.2.15');
const MIRROR = ip('10.0.2.100');
const HOST = ip('127.0.0.1');
const RULES = [
  { guestIp: MIRROR, guestPort: 80, hostIp: HOST, hostPort: 8080 },
  { guestIp: ip('192.0.2.1'), guestPort: 53, hostIp: HOST, hostPort: 8080 },
];
const IP = 14;
const SEGMENT = 34;

function frame(
  protocol: number,
  source: number,
  sourcePort: number,
  to: number,
  port: number,
  payload: Uint8Array,
): Uint8Array {
  const header = protocol === 6 ? 20 : 8;
  const bytes = new Uint8Array(SEGMENT + header + payload.length);
  emitEthernet(bytes, 0, new Uint8Array(6), new Uint8Array(6), ETHERTYPE.IPV4);
  emitIpv4(bytes, IP, header + payload.length, protocol, source, to);
  bytes.set(payload, SEGMENT + header);
  const pseudo = pseudoSum(source, to, protocol, header + payload.length);
  const segment = {
    source: sourcePort,
    destination: port,
    sequence: 1,
    acknowledgment: 2,
    flags: TCP_FLAG.ACK,
    window: 3,
  };
  if (protocol === 6) emitTcp(bytes, SEGMENT, segment, payload.length, pseudo);
  else emitUdp(bytes, SEGMENT, sourcePort, port, payload.length, pseudo);
  return bytes;
}

function checksumsOk(bytes: Uint8Array, protocol: number): boolean {
  const [source, destination] = [ipv4Source(bytes, IP), ipv4Destination(bytes, IP)];
  if (!ipv4ChecksumOk(bytes, IP, 20)) return false;
  return protocol === 6
    ? tcpChecksumOk(bytes, SEGMENT, bytes.length - SEGMENT, source, destination)
    : udpChecksumOk(bytes, SEGMENT, source, destination);
}

const ends = (bytes: Uint8Array) => [
  `${formatIpv4(ipv4Source(bytes, IP))}:${udpSource(bytes, SEGMENT)}`,
  `${formatIpv4(ipv4Destination(bytes, IP))}:${udpDestination(bytes, SEGMENT)}`,
];

describe('Forwards', () => {
  it('translates there and back with right checksums, whatever the payload', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(6, 17),
        fc.integer({ min: 1, max: 65535 }),
        fc.uint8Array({ maxLength: 64 }),
        (protocol, port, payload) => {
          const forwards = new Forwards(RULES);
          const out = frame(protocol, GUEST, port, MIRROR, 80, payload);
          const index = forwards.match(out, IP, 20);
          expect(index).toBe(0);
          forwards.outbound(out, IP, 20, index);
          expect([ends(out), checksumsOk(out, protocol)]).toEqual([
            [`10.0.2.15:${port}`, '127.0.0.1:8080'],
            true,
          ]);
          const back = frame(protocol, HOST, 8080, GUEST, port, payload);
          forwards.inbound(back, 0, back.length);
          expect([ends(back), checksumsOk(back, protocol)]).toEqual([
            ['10.0.2.100:80', `10.0.2.15:${port}`],
            true,
          ]);
        },
      ),
    );
  });

  it('tells two guest-side addresses of one server apart by the flow', () => {
    const forwards = new Forwards(RULES);
    forwards.outbound(frame(17, GUEST, 1000, MIRROR, 80, new Uint8Array()), IP, 20, 0);
    forwards.outbound(frame(17, GUEST, 1001, ip('192.0.2.1'), 53, new Uint8Array()), IP, 20, 1);
    const back = frame(17, HOST, 8080, GUEST, 1001, new Uint8Array());
    forwards.inbound(back, 0, back.length);
    expect(ends(back)[0]).toBe('192.0.2.1:53');
  });

  it('leaves frames of other flows as they are', () => {
    const forwards = new Forwards(RULES);
    forwards.outbound(frame(6, GUEST, 1000, MIRROR, 80, new Uint8Array()), IP, 20, 0);
    for (const other of [
      frame(17, HOST, 8080, GUEST, 1000, new Uint8Array()),
      frame(6, HOST, 8080, GUEST, 1001, new Uint8Array()),
      frame(6, HOST, 8081, GUEST, 1000, new Uint8Array()),
    ]) {
      const before = other.slice();
      forwards.inbound(other, 0, other.length);
      expect(other).toEqual(before);
    }
  });

  it('match() tells what is not to be translated', () => {
    const forwards = new Forwards(RULES);
    expect(forwards.match(frame(6, GUEST, 1, HOST, 80, new Uint8Array()), IP, 20)).toBe(NOT_FORWARDED);
    expect(forwards.match(frame(6, GUEST, 1, MIRROR, 81, new Uint8Array()), IP, 20)).toBe(NO_SUCH_PORT);
    const short = frame(17, GUEST, 1, MIRROR, 80, new Uint8Array());
    put16(short, IP + 2, 24);
    expect(forwards.match(short, IP, 20)).toBe(NOT_FORWARDED);
  });

  it('keeps a UDP datagram without checksum without one', () => {
    const forwards = new Forwards(RULES);
    const out = frame(17, GUEST, 1, MIRROR, 80, new Uint8Array(4));
    put16(out, SEGMENT + UDP.CHECKSUM, 0);
    forwards.outbound(out, IP, 20, 0);
    expect([out[SEGMENT + UDP.CHECKSUM], out[SEGMENT + UDP.CHECKSUM + 1]]).toEqual([0, 0]);
  });

  it('gives ICMP errors the addresses the guest knows', () => {
    const forwards = new Forwards(RULES);
    const sent = frame(17, GUEST, 1000, MIRROR, 80, new Uint8Array(4));
    const before = sent.slice(IP);
    forwards.outbound(sent, IP, 20, 0);
    const error = new Uint8Array(SEGMENT + ICMP.BODY + 32);
    emitEthernet(error, 0, new Uint8Array(6), new Uint8Array(6), ETHERTYPE.IPV4);
    emitIpv4(error, IP, ICMP.BODY + 32, 1, ip('10.0.2.2'), GUEST);
    error.set([3, 3], SEGMENT);
    error.set(sent.subarray(IP), SEGMENT + ICMP.BODY);
    put16(error, SEGMENT + ICMP.CHECKSUM, finish(sumOf(error, SEGMENT, 40)));
    forwards.inbound(error, 0, error.length);
    expect(error.slice(SEGMENT + ICMP.BODY, SEGMENT + ICMP.BODY + 24)).toEqual(before.slice(0, 24));
    expect(fold(sumOf(error, SEGMENT, 40))).toBe(0xffff);
  });

  it('takes any frame from slirp without throwing', () => {
    const forwards = new Forwards(RULES);
    forwards.outbound(frame(6, GUEST, 1, MIRROR, 80, new Uint8Array()), IP, 20, 0);
    const good = frame(6, HOST, 8080, GUEST, 1, new Uint8Array(8));
    fc.assert(
      fc.property(
        fc.integer({ min: IP, max: 50 }),
        fc.nat(255),
        fc.integer({ min: IP, max: good.length }),
        (at, value, length) => {
          const bytes = good.slice();
          bytes[at] = value;
          forwards.inbound(bytes, 0, length);
        },
      ),
    );
  });
});

describe('FlowTable', () => {
  it('finds every one of 2000 flows again', () => {
    const table = new FlowTable();
    for (let n = 0; n < 2000; n++) table.put(6, GUEST + (n % 8), 49_152 + n, HOST, 80, n % 5);
    for (let n = 0; n < 2000; n++) expect(table.get(6, GUEST + (n % 8), 49_152 + n, HOST, 80)).toBe(n % 5);
    expect(table.get(17, GUEST, 49_152, HOST, 80)).toBe(-1);
  });

  it('keeps TCP and UDP flows between the same addresses and ports apart', () => {
    for (let guest = GUEST; guest < GUEST + 100; guest++) {
      const table = new FlowTable();
      for (let port = 1000; port < 1500; port++) {
        table.put(6, guest, port, HOST, 80, 1);
        table.put(17, guest, port, HOST, 80, 2);
      }
      for (let port = 1000; port < 1500; port++) {
        expect([table.get(6, guest, port, HOST, 80), table.get(17, guest, port, HOST, 80)]).toEqual([1, 2]);
      }
    }
  });

  it('overwrites a flow whose guest port goes elsewhere, and survives more flows than it has slots', () => {
    const table = new FlowTable();
    for (let n = 0; n < 20_000; n++) table.put(6, GUEST + n, 1000, HOST, 80, 1);
    table.put(6, GUEST, 1000, HOST, 80, 1);
    table.put(6, GUEST, 1000, HOST, 80, 3);
    expect(table.get(6, GUEST, 1000, HOST, 80)).toBe(3);
    expect(table.get(6, GUEST + 19_999, 1000, HOST, 80)).toBe(1);
  });
});
