/** Ethernet II header [IEEE 802.3 §3.1.1] and MAC addresses as text. Frames carry no FCS here. */

import { get16, put16 } from './bytes.ts';

/** Byte offsets in a frame. */
export const ETH = { DESTINATION: 0, SOURCE: 6, TYPE: 12, HEADER: 14 } as const;
/** Byte offsets inside an 802.1Q tagged frame [IEEE 802.1Q §9.6]. */
export const VLAN = { TPID: 12, TCI: 14, TYPE: 16, HEADER: 18 } as const;

export const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd } as const;

export const MAC_LENGTH = 6;
/** Shortest and longest frame without FCS and VLAN tag. */
export const MIN_FRAME = 60;
export const MAX_FRAME = 1514;

export function etherType(bytes: Uint8Array, at: number): number {
  return get16(bytes, at + ETH.TYPE);
}

/** True for group addresses, broadcast included. `at` is the address's first byte. */
export function isMulticast(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] as number) & 1) === 1;
}

/** Writes a header. Returns the offset of the payload. */
export function emitEthernet(
  bytes: Uint8Array,
  at: number,
  destination: Uint8Array,
  source: Uint8Array,
  type: number,
): number {
  bytes.set(destination, at + ETH.DESTINATION);
  bytes.set(source, at + ETH.SOURCE);
  put16(bytes, at + ETH.TYPE, type);
  return at + ETH.HEADER;
}

const MAC_TEXT = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/** Six bytes of `52:54:00:12:34:56`; undefined when it is no MAC address. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!MAC_TEXT.test(text)) return undefined;
  return Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
}

/** `52:54:00:12:34:56`, lower case. */
export function formatMac(bytes: Uint8Array, at = 0): string {
  return Array.from(bytes.subarray(at, at + MAC_LENGTH), (byte) => byte.toString(16).padStart(2, '0')).join(
    ':',
  );
}
