/** IP addresses of both families as people write them, and networks of them. For configuration; the data plane has sockaddr.ts. */
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { formatIpv6, parseIpv6 } from '#common/wire/ipv6';

/** 4 or 16 bytes, as on the wire. */
export type IpAddress = Uint8Array;
export type Family = 4 | 6;

/** Addresses that begin with the same bits. */
export interface Network {
  readonly address: IpAddress;
  /** Number of those bits. */
  readonly bits: number;
}

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;
/** `::ffff:0:0/96`: IPv4 in the clothes of IPv6. */
const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** `192.0.2.1` or `2001:db8::1`; undefined when it is neither. */
export function parseIp(text: string): IpAddress | undefined {
  const v4 = parseIpv4(text);
  if (v4 === undefined) return parseIpv6(text);
  return Uint8Array.of(v4 >>> 24, v4 >>> 16, v4 >>> 8, v4);
}

export function formatIp(address: IpAddress): string {
  if (familyOf(address) === 6) return formatIpv6(address);
  return formatIpv4(new DataView(address.buffer, address.byteOffset).getUint32(0, false));
}

/** As it stands before a port: an IPv6 address in brackets. */
export function formatHost(address: IpAddress): string {
  return familyOf(address) === 6 ? `[${formatIp(address)}]` : formatIp(address);
}

export function familyOf({ length }: IpAddress): Family {
  return length === IPV4_BYTES ? 4 : 6;
}

/** `192.0.2.0/24`, `2001:db8::/32`; without bits the one address. Undefined when it is no network. */
export function parseNetwork(text: string): Network | undefined {
  const [host = '', bits, ...rest] = text.split('/');
  const address = parseIp(host);
  if (!address || rest.length > 0) return undefined;
  const most = address.length * 8;
  if (bits === undefined) return { address, bits: most };
  return /^\d{1,3}$/.test(bits) && Number(bits) <= most ? { address, bits: Number(bits) } : undefined;
}

/** Is the address whose first byte is `u8[at]`, of the network's family, one of the network? */
export function isInside({ address, bits }: Network, u8: Uint8Array, at = 0): boolean {
  const whole = bits >>> 3;
  for (let n = 0; n < whole; n++) if (u8[at + n] !== address[n]) return false;
  const rest = bits & 7;
  if (rest === 0) return true;
  return (((u8[at + whole] as number) ^ (address[whole] as number)) & (0xff00 >>> rest) & 0xff) === 0;
}

/** 0.0.0.0 or `::`. */
export function isUnspecified(address: IpAddress): boolean {
  return address.every((byte) => byte === 0);
}

export function isMulticast(address: IpAddress): boolean {
  const first = address[0] as number;
  return familyOf(address) === 4 ? first >>> 4 === 0xe : first === 0xff;
}

/** 255.255.255.255. */
export function isBroadcast(address: IpAddress): boolean {
  return familyOf(address) === 4 && address.every((byte) => byte === 0xff);
}

/** `fe80::/10`: means something on one link only, so an interface has to be said, too. */
export function isLinkLocal(address: IpAddress): boolean {
  return familyOf(address) === 6 && address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;
}

export function isMapped(address: IpAddress): boolean {
  return address.length === IPV6_BYTES && MAPPED.every((byte, n) => address[n] === byte);
}

export function sameIp(a: IpAddress, b: IpAddress): boolean {
  return a.length === b.length && a.every((byte, n) => byte === b[n]);
}
