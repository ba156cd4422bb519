/** TCP header [RFC 9293 §3.1]. `at` is the header's first byte. */

import { get32, put16, put32 } from './bytes.ts';
import { finish, fold, pseudoSum, sumOf } from './checksum.ts';
import { IP_PROTOCOL } from './ipv4.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets in the header. */
export const TCP = {
  SOURCE: 0,
  DESTINATION: 2,
  SEQUENCE: 4,
  ACKNOWLEDGMENT: 8,
  DATA_OFFSET: 12,
  FLAGS: 13,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  HEADER: 20,
} as const;

export const TCP_FLAG = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  URG: 0x20,
  ECE: 0x40,
  CWR: 0x80,
} as const;

/** Length of the header in bytes, or a negative `MALFORMED` reason. `length` is the IP payload's length. */
export function checkTcp(bytes: Uint8Array, at: number, length: number): number {
  if (length < TCP.HEADER) return MALFORMED.TRUNCATED;
  const header = ((bytes[at + TCP.DATA_OFFSET] as number) >>> 4) * 4;
  if (header < TCP.HEADER) return MALFORMED.LENGTH;
  return header > length ? MALFORMED.TRUNCATED : header;
}

export function tcpSequence(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + TCP.SEQUENCE);
}

export function tcpAcknowledgment(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + TCP.ACKNOWLEDGMENT);
}

/** True when the checksum over `length` bytes fits. Addresses as 32-bit numbers. */
export function tcpChecksumOk(
  bytes: Uint8Array,
  at: number,
  length: number,
  source: number,
  destination: number,
): boolean {
  return fold(pseudoSum(source, destination, IP_PROTOCOL.TCP, length) + sumOf(bytes, at, length)) === 0xffff;
}

/**
 * Writes a 20-byte header without options in front of `payloadLength` bytes that already lie at `at + 20`, with its
 * checksum; `pseudo` is `pseudoSum(...)` for `20 + payloadLength` bytes.
 */
export function emitTcp(
  bytes: Uint8Array,
  at: number,
  segment: {
    source: number;
    destination: number;
    sequence: number;
    acknowledgment: number;
    flags: number;
    window: number;
  },
  payloadLength: number,
  pseudo: number,
): void {
  put16(bytes, at + TCP.SOURCE, segment.source);
  put16(bytes, at + TCP.DESTINATION, segment.destination);
  put32(bytes, at + TCP.SEQUENCE, segment.sequence);
  put32(bytes, at + TCP.ACKNOWLEDGMENT, segment.acknowledgment);
  bytes[at + TCP.DATA_OFFSET] = 0x50;
  bytes[at + TCP.FLAGS] = segment.flags;
  put16(bytes, at + TCP.WINDOW, segment.window);
  put16(bytes, at + TCP.CHECKSUM, 0);
  put16(bytes, at + TCP.URGENT, 0);
  put16(bytes, at + TCP.CHECKSUM, finish(pseudo + sumOf(bytes, at, TCP.HEADER + payloadLength)));
}
