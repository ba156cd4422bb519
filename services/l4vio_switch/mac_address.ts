/** MAC addresses as text and as the two integers that the data plane compares. */
import { randomBytes } from 'node:crypto';

export const MAC_SIZE = 6;

/** Parses exactly `xx:xx:xx:xx:xx:xx`; undefined for anything else. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** `52:54:00:12:34:56`. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** As `formatMac`, of the two key words of the MAC table. */
export function formatKey(lo: number, hi: number): string {
  return formatMac(Uint8Array.of(hi, hi >>> 8, lo, lo >>> 8, lo >>> 16, lo >>> 24));
}

/** A random unicast address, locally administered. */
export function randomMac(): Uint8Array {
  const mac = new Uint8Array(randomBytes(MAC_SIZE));
  mac[0] = ((mac[0] as number) & 0xfe) | 0x02;
  return mac;
}
