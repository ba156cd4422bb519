/**
 * The passive side of TCP in the test guest: takes every connection to one of its ports, sends back what comes, in order,
 * and closes when the peer does. No retransmission: the wire under test must not lose frames.
 */

import { get16 } from '#common/wire/bytes';
import { pseudoSum } from '#common/wire/checksum';
import { IP_PROTOCOL } from '#common/wire/ipv4';
import { checkTcp, emitTcp, TCP, TCP_FLAG, tcpSequence } from '#common/wire/tcp';
import { packetOf, type TestGuest } from './guest.ts';

interface Connection {
  sequence: number;
  expected: number;
}

/** Serves `port` of the guest until the returned function is called. */
export function serveEcho(guest: TestGuest, port: number): () => void {
  const connections = new Map<string, Connection>();
  const take = (source: number, segment: Uint8Array): void => {
    const peerPort = get16(segment, TCP.SOURCE);
    const key = `${source}:${peerPort}`;
    const flags = segment[TCP.FLAGS] as number;
    const send = (connection: Connection, sent: number, payload: Uint8Array = new Uint8Array()): void => {
      const reply = new Uint8Array(TCP.HEADER + payload.length);
      reply.set(payload, TCP.HEADER);
      const fields = {
        source: port,
        destination: peerPort,
        sequence: connection.sequence,
        acknowledgment: connection.expected,
        flags: sent,
        window: 0xffff,
      };
      emitTcp(reply, 0, fields, payload.length, pseudoSum(guest.ip, source, IP_PROTOCOL.TCP, reply.length));
      guest.sendIpv4(source, IP_PROTOCOL.TCP, reply);
      const flagged = sent & (TCP_FLAG.SYN | TCP_FLAG.FIN) ? 1 : 0;
      connection.sequence = (connection.sequence + payload.length + flagged) >>> 0;
    };
    if (flags & TCP_FLAG.SYN) {
      const connection = { sequence: peerPort, expected: (tcpSequence(segment, 0) + 1) >>> 0 };
      connections.set(key, connection);
      send(connection, TCP_FLAG.SYN | TCP_FLAG.ACK);
      return;
    }
    const connection = connections.get(key);
    if (connection === undefined || tcpSequence(segment, 0) !== connection.expected) return;
    const payload = segment.slice(checkTcp(segment, 0, segment.length));
    connection.expected = (connection.expected + payload.length + (flags & TCP_FLAG.FIN ? 1 : 0)) >>> 0;
    if (payload.length > 0) send(connection, TCP_FLAG.ACK | TCP_FLAG.PSH, payload);
    if (flags & TCP_FLAG.FIN) send(connection, TCP_FLAG.ACK | TCP_FLAG.FIN);
  };
  return guest.listen((frame) => {
    const packet = packetOf(frame);
    if (packet?.protocol !== IP_PROTOCOL.TCP || packet.destination !== guest.ip) return;
    if (get16(packet.payload, TCP.DESTINATION) !== port) return;
    // The wire is in its own turn: answer outside of it.
    setImmediate(take, packet.source, packet.payload);
  });
}
