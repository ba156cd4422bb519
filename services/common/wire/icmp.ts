/** ICMP echo [RFC 792] and the offsets common to all ICMP messages. `at` is the message's first byte. */

import { put16 } from './bytes.ts';
import { finish, fold, sumOf } from './checksum.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets; ID and SEQUENCE are those of echo, BODY is where an error carries the offending datagram. */
export const ICMP = { TYPE: 0, CODE: 1, CHECKSUM: 2, ID: 4, SEQUENCE: 6, BODY: 8, HEADER: 8 } as const;

export const ICMP_TYPE = { ECHO_REPLY: 0, UNREACHABLE: 3, ECHO: 8, TIME_EXCEEDED: 11 } as const;

/** The type of a well-formed message of `length` bytes, or a negative `MALFORMED` reason. */
export function checkIcmp(bytes: Uint8Array, at: number, length: number): number {
  if (length < ICMP.HEADER) return MALFORMED.TRUNCATED;
  if (fold(sumOf(bytes, at, length)) !== 0xffff) return MALFORMED.CHECKSUM;
  return bytes[at + ICMP.TYPE] as number;
}

/** Writes an echo header (`ECHO` or `ECHO_REPLY`) in front of `payloadLength` bytes that already lie at `at + 8`. */
export function emitEcho(
  bytes: Uint8Array,
  at: number,
  type: number,
  id: number,
  sequence: number,
  payloadLength: number,
): void {
  bytes[at + ICMP.TYPE] = type;
  bytes[at + ICMP.CODE] = 0;
  put16(bytes, at + ICMP.CHECKSUM, 0);
  put16(bytes, at + ICMP.ID, id);
  put16(bytes, at + ICMP.SEQUENCE, sequence);
  put16(bytes, at + ICMP.CHECKSUM, finish(sumOf(bytes, at, ICMP.HEADER + payloadLength)));
}
