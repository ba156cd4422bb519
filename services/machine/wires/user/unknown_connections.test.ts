/** What a guest hears about its connections from a wire that does not know them: the machine was started again. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { get16 } from '#common/wire/bytes';
import { pseudoSum } from '#common/wire/checksum';
import { IP_PROTOCOL, parseIpv4 } from '#common/wire/ipv4';
import { emitTcp, TCP, TCP_FLAG, tcpSequence } from '#common/wire/tcp';
import { parseGuestForward } from '../options.ts';
import { packetOf, TestGuest, testHost } from '../testing/guest.ts';
import { UserWire } from './user_wire.ts';

const NEXT = 0x1234_5678;
const EXPECTED = 0x9abc_def0;

let guest: TestGuest;

beforeEach(() => {
  const host = testHost();
  const forwards = [parseGuestForward('10.0.2.100:80=127.0.0.1:9')];
  guest = new TestGuest(host, new UserWire({ hosts: new Map(), forwards }, host));
});

afterEach(() => guest.close());

/** The first segment that comes back for one of an established connection. */
function answerTo(address: string, port: number, flags: number, sequence: number, payload: number) {
  const to = parseIpv4(address) as number;
  const segment = new Uint8Array(TCP.HEADER + payload);
  const fields = {
    source: 4000,
    destination: port,
    sequence,
    acknowledgment: EXPECTED,
    flags,
    window: 1000,
  };
  emitTcp(segment, 0, fields, payload, pseudoSum(guest.ip, to, IP_PROTOCOL.TCP, segment.length));
  return guest.exchange(
    `a segment to ${address}:${port}`,
    () => guest.sendIpv4(to, IP_PROTOCOL.TCP, segment),
    (frame) => {
      const packet = packetOf(frame);
      if (packet?.protocol !== IP_PROTOCOL.TCP || packet.source !== to) return undefined;
      const { payload: reply } = packet;
      if (get16(reply, TCP.SOURCE) !== port || get16(reply, TCP.DESTINATION) !== 4000) return undefined;
      return { flags: reply[TCP.FLAGS], sequence: tcpSequence(reply, 0) };
    },
  );
}

const SEGMENTS = [
  // lwIP's probe: nothing, one byte before what it would send next.
  ['a keep-alive probe', TCP_FLAG.ACK, NEXT - 1, 0],
  ['an acknowledgment or window update', TCP_FLAG.ACK, NEXT, 0],
  ['data', TCP_FLAG.ACK | TCP_FLAG.PSH, NEXT, 100],
  ['an end', TCP_FLAG.ACK | TCP_FLAG.FIN, NEXT, 0],
] as const;
const PEERS = [
  ['the gateway', '10.0.2.2', 8080],
  ['a forwarded address', '10.0.2.100', 80],
  ['the outside', '203.0.113.7', 443],
] as const;

describe('UserWire with connections of an earlier machine', () => {
  it.each(SEGMENTS)('answers %s with a reset that the guest takes', async (_, flags, sequence, payload) => {
    for (const [what, address, port] of PEERS) {
      // [RFC 9293 §3.10.7.1] The sequence is what the guest expects next: a reset beside its window would be ignored.
      expect([what, await answerTo(address, port, flags, sequence, payload)]).toEqual([
        what,
        { flags: TCP_FLAG.RST, sequence: EXPECTED },
      ]);
    }
  });
});
