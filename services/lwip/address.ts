/**
 * IP addresses as lwIP keeps them (`ip_addr_t`, ip_addr.h) and as text.
 *
 * IPv4 addresses are unsigned 32-bit numbers elsewhere (10.0.2.15 = 0x0a00020f); in memory they stand in
 * network byte order.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { Memory } from '#common/memory';
import { get16, get32, put16, put32 } from '#common/wire/bytes';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { IP_ADDR, IPADDR_TYPE } from './layout.ts';

/** One address in a form that is quick to compare and to write. */
export interface IpAddress {
  readonly family: 4 | 6;
  /** 4 or 16 bytes in network order. */
  readonly bytes: Uint8Array;
  /** Interface number of a link-local IPv6 address (`fe80::1%vn0`), 0 = none given. */
  readonly zone: number;
}

/** Parses either family; `zoneOf` gives the zone of an interface name behind `%`. Undefined when it is no address. */
export function parseIp(text: string, zoneOf: (name: string) => number = () => 0): IpAddress | undefined {
  if (isIPv4(text)) {
    const bytes = new Uint8Array(4);
    put32(bytes, 0, parseIpv4(text) ?? 0);
    return { family: 4, bytes, zone: 0 };
  }
  if (!isIPv6(text)) return undefined;
  const [plain = '', zone] = text.split('%');
  return { family: 6, bytes: parseIpv6(plain), zone: zone === undefined ? 0 : zoneOf(zone) };
}

/** 16 bytes of a text that `isIPv6` has accepted. */
export function parseIpv6(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const v4 = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const number = v4 === null ? 0 : (parseIpv4(v4[2] ?? '') ?? 0);
  const plain =
    v4 === null ? text : `${v4[1]}${(number >>> 16).toString(16)}:${(number & 0xffff).toString(16)}`;
  const [head = '', tail] = plain.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  groups(head).forEach((group, i) => {
    put16(bytes, 2 * i, group);
  });
  if (tail !== undefined) {
    const last = groups(tail);
    last.forEach((group, i) => {
      put16(bytes, 16 - 2 * (last.length - i), group);
    });
  }
  return bytes;
}

/** Canonical text [RFC 5952 §4]: lower case, the longest run of zero groups as `::`. */
export function formatIpv6(bytes: Uint8Array, at = 0): string {
  const groups = Array.from({ length: 8 }, (_, i) => get16(bytes, at + 2 * i));
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > best.length) best = { start: i, length };
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** The text of an `ip_addr_t` at byte offset `at`. */
export function readIp(memory: Memory, at: number): string {
  return memory.u8[at + IP_ADDR.TYPE] === IPADDR_TYPE.V6
    ? formatIpv6(memory.u8, at)
    : formatIpv4(get32(memory.u8, at));
}

/** Writes an `ip_addr_t` of either family. */
export function writeIp(memory: Memory, at: number, address: IpAddress): void {
  memory.u8.fill(0, at, at + IP_ADDR.SIZE);
  memory.u8.set(address.bytes, at);
  memory.u8[at + IP_ADDR.ZONE] = address.zone;
  memory.u8[at + IP_ADDR.TYPE] = address.family === 6 ? IPADDR_TYPE.V6 : IPADDR_TYPE.V4;
}

/** Writes an IPv4 `ip_addr_t` from its number. */
export function writeIpv4(memory: Memory, at: number, address: number): void {
  memory.u8.fill(0, at, at + IP_ADDR.SIZE);
  put32(memory.u8, at, address);
}

/** Writes the "any address of any family" `ip_addr_t`. */
export function writeAnyIp(memory: Memory, at: number): void {
  memory.u8.fill(0, at, at + IP_ADDR.SIZE);
  memory.u8[at + IP_ADDR.TYPE] = IPADDR_TYPE.ANY;
}

/** The netmask of a prefix length, as a number; 33 and more count as 32 (as on L4Re). */
export function netmaskOf(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - Math.min(prefix, 32))) >>> 0;
}

/** True for 127.0.0.0/8 and ::1. */
export function isLoopback(address: IpAddress): boolean {
  if (address.family === 4) return address.bytes[0] === 127;
  return address.bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
}

/** True for fe80::/10. */
export function isLinkLocal6(address: IpAddress): boolean {
  return address.family === 6 && address.bytes[0] === 0xfe && ((address.bytes[1] as number) & 0xc0) === 0x80;
}

/** True for a port number from `least` (0 or 1) on: lwIP would take any other one modulo 65536. */
export function isPort(value: number, least: 0 | 1): boolean {
  return Number.isInteger(value) && value >= least && value <= 0xffff;
}
