/** UDP header [RFC 768]. `at` is the header's first byte. */

import { get16, put16 } from './bytes.ts';
import { finish, fold, pseudoSum, sumOf } from './checksum.ts';
import { IP_PROTOCOL } from './ipv4.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets in the header. */
export const UDP = { SOURCE: 0, DESTINATION: 2, LENGTH: 4, CHECKSUM: 6, HEADER: 8 } as const;

/** Length of the payload in bytes, or a negative `MALFORMED` reason. `length` is the IP payload's length. */
export function checkUdp(bytes: Uint8Array, at: number, length: number): number {
  if (length < UDP.HEADER) return MALFORMED.TRUNCATED;
  const own = get16(bytes, at + UDP.LENGTH);
  if (own < UDP.HEADER) return MALFORMED.LENGTH;
  return own > length ? MALFORMED.TRUNCATED : own - UDP.HEADER;
}

export function udpSource(bytes: Uint8Array, at: number): number {
  return get16(bytes, at + UDP.SOURCE);
}

export function udpDestination(bytes: Uint8Array, at: number): number {
  return get16(bytes, at + UDP.DESTINATION);
}

/** True when the checksum fits or the sender made none (0). Addresses as 32-bit numbers. */
export function udpChecksumOk(bytes: Uint8Array, at: number, source: number, destination: number): boolean {
  if (get16(bytes, at + UDP.CHECKSUM) === 0) return true;
  const length = get16(bytes, at + UDP.LENGTH);
  return fold(pseudoSum(source, destination, IP_PROTOCOL.UDP, length) + sumOf(bytes, at, length)) === 0xffff;
}

/**
 * Writes the header of a datagram whose payload already lies at `at + 8`, with its checksum over the
 * pseudo header. `pseudo` is `pseudoSum(...)` (or the IPv6 one) for `8 + payloadLength` bytes.
 */
export function emitUdp(
  bytes: Uint8Array,
  at: number,
  sourcePort: number,
  destinationPort: number,
  payloadLength: number,
  pseudo: number,
): void {
  const length = UDP.HEADER + payloadLength;
  put16(bytes, at + UDP.SOURCE, sourcePort);
  put16(bytes, at + UDP.DESTINATION, destinationPort);
  put16(bytes, at + UDP.LENGTH, length);
  put16(bytes, at + UDP.CHECKSUM, 0);
  const field = finish(pseudo + sumOf(bytes, at, length));
  put16(bytes, at + UDP.CHECKSUM, field === 0 ? 0xffff : field);
}
