/**
 * Socket addresses in memory, struct sockaddr_in and sockaddr_in6 [ip(7), ipv6(7)]: family in host order, the rest as on the
 * wire but for the scope. Each has a slot of SOCKADDR_SLOT bytes, so that the data plane copies and compares words.
 */
import type { Memory } from '../memory.ts';
import { type Family, familyOf, type IpAddress } from './address.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
/** Bytes between two socket addresses. */
export const SOCKADDR_SLOT = 32;
const WORDS = SOCKADDR_SLOT / 4;

const FAMILY = 0;
const PORT = 2;
const ADDRESS4 = 4;
const ADDRESS6 = 8;
const SCOPE6 = 24;
const BYTES4 = 16;
const BYTES6 = 28;

/** Bytes that the kernel reads and writes. */
export function sockaddrBytes(family: Family): number {
  return family === 4 ? BYTES4 : BYTES6;
}

export function familyNumber(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** Where the address begins, from the start of the slot. */
export function addressOffset(family: Family): number {
  return family === 4 ? ADDRESS4 : ADDRESS6;
}

/** Writes a slot. `scope` is the number of the interface that an IPv6 address belongs to; 0: none. */
export function writeSockaddr(memory: Memory, at: number, address: IpAddress, port: number, scope = 0): void {
  const family = familyOf(address);
  memory.u8.fill(0, at, at + SOCKADDR_SLOT);
  memory.view.setUint16(at + FAMILY, familyNumber(family), true);
  setSockaddrPort(memory, at, port);
  memory.u8.set(address, at + addressOffset(family));
  if (family === 6) memory.view.setUint32(at + SCOPE6, scope, true);
}

export function copySockaddr(memory: Memory, to: number, from: number): void {
  const { u32 } = memory;
  for (let n = 0; n < WORDS; n++) u32[(to >>> 2) + n] = u32[(from >>> 2) + n] as number;
}

export function sockaddrFamily(memory: Memory, at: number): number {
  return memory.u16[(at + FAMILY) >>> 1] as number;
}

export function sockaddrPort(memory: Memory, at: number): number {
  return memory.view.getUint16(at + PORT, false);
}

export function setSockaddrPort(memory: Memory, at: number, port: number): void {
  memory.view.setUint16(at + PORT, port, false);
}

/** The address in a slot. For messages and tests: it is a copy. */
export function sockaddrIp(memory: Memory, at: number): IpAddress {
  const [offset, bytes] = sockaddrFamily(memory, at) === AF_INET6 ? [ADDRESS6, 16] : [ADDRESS4, 4];
  return memory.u8.slice(at + offset, at + offset + bytes);
}
