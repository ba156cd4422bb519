/** IPv4 header [RFC 791 §3.1]. Addresses are unsigned 32-bit numbers; `at` is the header's first byte. */

import { get16, get32, put16, put32 } from './bytes.ts';
import { finish, fold, sumOf } from './checksum.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets in the header. */
export const IPV4 = {
  VERSION_IHL: 0,
  TOS: 1,
  TOTAL_LENGTH: 2,
  ID: 4,
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
  HEADER: 20,
} as const;

export const IP_PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;

/** In the fragment word: more fragments, offset in units of 8 bytes. */
export const IPV4_MF = 0x2000;
export const IPV4_OFFSET_MASK = 0x1fff;

/**
 * Length of the header in bytes, or a negative `MALFORMED` reason. `length` is what follows `at` in
 * the frame: padding behind the datagram is fine. The checksum is a separate question (`ipv4ChecksumOk`).
 */
export function checkIpv4(bytes: Uint8Array, at: number, length: number): number {
  if (length < IPV4.HEADER) return MALFORMED.TRUNCATED;
  const first = bytes[at + IPV4.VERSION_IHL] as number;
  if (first >>> 4 !== 4) return MALFORMED.VERSION;
  const header = (first & 0xf) * 4;
  const total = get16(bytes, at + IPV4.TOTAL_LENGTH);
  if (header < IPV4.HEADER || total < header) return MALFORMED.LENGTH;
  return total > length ? MALFORMED.TRUNCATED : header;
}

/** True when the header checksum fits. `header` is what `checkIpv4` returned. */
export function ipv4ChecksumOk(bytes: Uint8Array, at: number, header: number): boolean {
  return fold(sumOf(bytes, at, header)) === 0xffff;
}

export function ipv4Source(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + IPV4.SOURCE);
}

export function ipv4Destination(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + IPV4.DESTINATION);
}

/** Bytes of header and payload together. */
export function ipv4TotalLength(bytes: Uint8Array, at: number): number {
  return get16(bytes, at + IPV4.TOTAL_LENGTH);
}

/** True for anything but a whole datagram. */
export function isFragment(bytes: Uint8Array, at: number): boolean {
  return (get16(bytes, at + IPV4.FRAGMENT) & (IPV4_MF | IPV4_OFFSET_MASK)) !== 0;
}

/** Writes a 20-byte header with checksum. Returns the offset of the payload. */
export function emitIpv4(
  bytes: Uint8Array,
  at: number,
  payloadLength: number,
  protocol: number,
  source: number,
  destination: number,
  ttl = 64,
  id = 0,
): number {
  bytes[at + IPV4.VERSION_IHL] = 0x45;
  bytes[at + IPV4.TOS] = 0;
  put16(bytes, at + IPV4.TOTAL_LENGTH, IPV4.HEADER + payloadLength);
  put16(bytes, at + IPV4.ID, id);
  put16(bytes, at + IPV4.FRAGMENT, 0);
  bytes[at + IPV4.TTL] = ttl;
  bytes[at + IPV4.PROTOCOL] = protocol;
  put16(bytes, at + IPV4.CHECKSUM, 0);
  put32(bytes, at + IPV4.SOURCE, source);
  put32(bytes, at + IPV4.DESTINATION, destination);
  put16(bytes, at + IPV4.CHECKSUM, finish(sumOf(bytes, at, IPV4.HEADER)));
  return at + IPV4.HEADER;
}

const DOTTED = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** The number of `10.0.2.15`; undefined when it is no dotted quad (leading zeros are decimal). */
export function parseIpv4(text: string): number | undefined {
  const match = DOTTED.exec(text);
  if (match === null) return undefined;
  let address = 0;
  for (const part of match.slice(1)) {
    const octet = Number.parseInt(part, 10);
    if (octet > 255) return undefined;
    address = address * 256 + octet;
  }
  return address;
}

/** `10.0.2.15` of 0x0a00020f. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`;
}
