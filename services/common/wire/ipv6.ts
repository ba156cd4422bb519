/** IPv6 header [RFC 8200 §3] and addresses as text [RFC 4291 §2.2, RFC 5952]. */

import { get16, put16, put32 } from './bytes.ts';
import { parseIpv4 } from './ipv4.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets in the header. */
export const IPV6 = {
  VERSION: 0,
  PAYLOAD_LENGTH: 4,
  NEXT_HEADER: 6,
  HOP_LIMIT: 7,
  SOURCE: 8,
  DESTINATION: 24,
  HEADER: 40,
} as const;

/** Length of the payload in bytes, or a negative `MALFORMED` reason. `length` is what follows `at` in the frame. */
export function checkIpv6(bytes: Uint8Array, at: number, length: number): number {
  if (length < IPV6.HEADER) return MALFORMED.TRUNCATED;
  if ((bytes[at + IPV6.VERSION] as number) >>> 4 !== 6) return MALFORMED.VERSION;
  const payload = get16(bytes, at + IPV6.PAYLOAD_LENGTH);
  return IPV6.HEADER + payload > length ? MALFORMED.TRUNCATED : payload;
}

/** Writes a header. Addresses are 16 bytes each. Returns the offset of the payload. */
export function emitIpv6(
  bytes: Uint8Array,
  at: number,
  payloadLength: number,
  nextHeader: number,
  source: Uint8Array,
  destination: Uint8Array,
): number {
  put32(bytes, at + IPV6.VERSION, 0x60000000);
  put16(bytes, at + IPV6.PAYLOAD_LENGTH, payloadLength);
  bytes[at + IPV6.NEXT_HEADER] = nextHeader;
  bytes[at + IPV6.HOP_LIMIT] = 64;
  bytes.set(source, at + IPV6.SOURCE);
  bytes.set(destination, at + IPV6.DESTINATION);
  return at + IPV6.HEADER;
}

/** Sixteen bytes of `fec0::3` or `::ffff:10.0.2.2`; undefined when it is no IPv6 address (zones are none). */
export function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? groupsOf(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const bytes = new Uint8Array(16);
  [...head, ...new Array<number>(missing).fill(0), ...tail].forEach((group, i) => {
    put16(bytes, 2 * i, group);
  });
  return bytes;
}

/** The 16-bit groups of one half; the very last may be a dotted quad. */
function groupsOf(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    const quad = last && i === parts.length - 1 ? parseIpv4(part) : undefined;
    if (quad !== undefined) groups.push(quad >>> 16, quad & 0xffff);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** `fec0::3`: lower case, the longest run of zero groups shortened [RFC 5952 §4]. */
export function formatIpv6(bytes: Uint8Array, at = 0): string {
  const groups = Array.from({ length: 8 }, (_, i) => get16(bytes, at + 2 * i).toString(16));
  let best = { from: 0, length: 1 };
  for (let from = 0; from < 8; from++) {
    let length = 0;
    while (from + length < 8 && groups[from + length] === '0') length += 1;
    if (length > best.length) best = { from, length };
  }
  if (best.length === 1) return groups.join(':');
  return `${groups.slice(0, best.from).join(':')}::${groups.slice(best.from + best.length).join(':')}`;
}
