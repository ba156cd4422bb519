/**
 * One TCP connection of the test guest: handshake, one request, everything that comes back until the peer closes.
 *
 * No retransmission: the wire under test must not lose frames.
 */

import { get16 } from '#common/wire/bytes';
import { pseudoSum } from '#common/wire/checksum';
import { IP_PROTOCOL } from '#common/wire/ipv4';
import { checkTcp, emitTcp, TCP, TCP_FLAG, tcpAcknowledgment, tcpSequence } from '#common/wire/tcp';
import { packetOf, type TestGuest } from './guest.ts';

const TIMEOUT_MS = 120_000;

export interface TcpAnswer {
  readonly bytes: Buffer;
  readonly reset: boolean;
}

/** Connects from `port`, sends `request` and collects the answer until FIN or RST. */
export function tcpRequest(
  guest: TestGuest,
  port: number,
  address: number,
  peerPort: number,
  request: Uint8Array,
  ip = guest.ip,
): Promise<TcpAnswer> {
  const parts: Uint8Array[] = [];
  let sequence = (port * 0x10001) >>> 0;
  let expected = 0;
  let established = false;
  const send = (flags: number, payload: Uint8Array = new Uint8Array()): void => {
    const segment = new Uint8Array(TCP.HEADER + payload.length);
    segment.set(payload, TCP.HEADER);
    const pseudo = pseudoSum(ip, address, IP_PROTOCOL.TCP, segment.length);
    const fields = {
      source: port,
      destination: peerPort,
      sequence,
      acknowledgment: expected,
      flags,
      window: 0xffff,
    };
    emitTcp(segment, 0, fields, payload.length, pseudo);
    guest.sendIpv4(address, IP_PROTOCOL.TCP, segment, ip);
    sequence = (sequence + payload.length + (flags & (TCP_FLAG.SYN | TCP_FLAG.FIN) ? 1 : 0)) >>> 0;
  };
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => finish(new Error(`TCP from port ${port}: no end within ${TIMEOUT_MS} ms`)),
      TIMEOUT_MS,
    );
    const finish = (result: TcpAnswer | Error): void => {
      clearTimeout(timer);
      stop();
      if (result instanceof Error) reject(result);
      else resolve(result);
    };
    const take = (segment: Uint8Array): void => {
      const flags = segment[TCP.FLAGS] as number;
      const bytes = Buffer.concat(parts);
      if (flags & TCP_FLAG.RST) {
        finish({ bytes, reset: true });
        return;
      }
      if (!established) {
        if ((flags & TCP_FLAG.SYN) === 0 || tcpAcknowledgment(segment, 0) !== sequence) return;
        established = true;
        expected = (tcpSequence(segment, 0) + 1) >>> 0;
        send(TCP_FLAG.ACK);
        send(TCP_FLAG.ACK | TCP_FLAG.PSH, request);
        return;
      }
      const payload = segment.slice(checkTcp(segment, 0, segment.length));
      if (tcpSequence(segment, 0) === expected) {
        if (payload.length > 0) parts.push(payload);
        expected = (expected + payload.length + (flags & TCP_FLAG.FIN ? 1 : 0)) >>> 0;
        if (flags & TCP_FLAG.FIN) {
          send(TCP_FLAG.ACK | TCP_FLAG.FIN);
          finish({ bytes: Buffer.concat(parts), reset: false });
          return;
        }
      }
      if (payload.length > 0) send(TCP_FLAG.ACK);
    };
    const stop = guest.listen((frame) => {
      const packet = packetOf(frame);
      if (packet?.protocol !== IP_PROTOCOL.TCP || packet.source !== address || packet.destination !== ip)
        return;
      if (get16(packet.payload, TCP.DESTINATION) !== port || get16(packet.payload, TCP.SOURCE) !== peerPort)
        return;
      // The wire is in its own turn: answer outside of it.
      setImmediate(take, packet.payload);
    });
    send(TCP_FLAG.SYN);
  });
}
