/**
 * Which received frames lwIP gets to see.
 *
 * This build of lwIP forwards packets between interfaces and loops packets to its own addresses back through a
 * thread that we do not run: one frame that claims to come from our own address would end the process. And it does
 * not look at the destination MAC, while a switch floods. A NIC's filter and L4Re's options (no forwarding, no
 * loopback) come first, then; the rest is lwIP's own business.
 */
import type { Memory } from '#common/memory';
import { get16 } from '#common/wire/bytes';
import { ETH, ETHERTYPE } from '#common/wire/ethernet';
import { IPV4 } from '#common/wire/ipv4';
import { NETIF, NETIF_IP6_COUNT } from './layout.ts';

const IPV6_HEADER = 40;
const IPV6_NEXT_HEADER = 6;
const IPV6_SOURCE = 8;
const IPV6_DESTINATION = 24;
const ICMPV6 = 58;
/** A neighbour advertisement may carry our own address as its source: that is how a duplicate is noticed. */
const NEIGHBOUR_ADVERTISEMENT = 136;

/**
 * True when the frame is for us and is nothing that lwIP must not see. `netif` is the offset of the receiving struct
 * netif, `all` those of all of them. About 20 ns for IPv4.
 */
export function acceptFrame(
  memory: Memory,
  at: number,
  length: number,
  netif: number,
  all: readonly number[],
): boolean {
  const { u8 } = memory;
  if (length < ETH.HEADER) return false;
  if (((u8[at] as number) & 1) === 0 && !sameBytes(u8, at, netif + NETIF.HWADDR, 6)) return false;
  const type = get16(u8, at + ETH.TYPE);
  if (type === ETHERTYPE.IPV4) return acceptIpv4(u8, at + ETH.HEADER, length - ETH.HEADER, netif, all);
  if (type === ETHERTYPE.IPV6) return acceptIpv6(u8, at + ETH.HEADER, length - ETH.HEADER, netif, all);
  return type === ETHERTYPE.ARP;
}

function acceptIpv4(
  u8: Uint8Array,
  at: number,
  length: number,
  netif: number,
  all: readonly number[],
): boolean {
  if (length < IPV4.HEADER || u8[at + IPV4.SOURCE] === 127) return false;
  for (let i = 0; i < all.length; i++) {
    if (sameBytes(u8, at + IPV4.SOURCE, (all[i] as number) + NETIF.IP, 4)) return false;
  }
  const destination = at + IPV4.DESTINATION;
  if (sameBytes(u8, destination, netif + NETIF.IP, 4)) return true;
  return (u8[destination] as number) >= 224 || isSubnetBroadcast(u8, destination, netif);
}

/** True when all host bits of the address are ones. */
function isSubnetBroadcast(u8: Uint8Array, at: number, netif: number): boolean {
  for (let i = 0; i < 4; i++) {
    const mask = u8[netif + NETIF.NETMASK + i] as number;
    const want = ((u8[netif + NETIF.IP + i] as number) & mask) | (~mask & 0xff);
    if (u8[at + i] !== want) return false;
  }
  return true;
}

function acceptIpv6(
  u8: Uint8Array,
  at: number,
  length: number,
  netif: number,
  all: readonly number[],
): boolean {
  if (length < IPV6_HEADER) return false;
  const advertisement =
    u8[at + IPV6_NEXT_HEADER] === ICMPV6 && u8[at + IPV6_HEADER] === NEIGHBOUR_ADVERTISEMENT;
  if (!advertisement) {
    if (isLoopback6(u8, at + IPV6_SOURCE)) return false;
    for (let i = 0; i < all.length; i++) if (isOwn6(u8, at + IPV6_SOURCE, all[i] as number)) return false;
  }
  return u8[at + IPV6_DESTINATION] === 0xff || isOwn6(u8, at + IPV6_DESTINATION, netif);
}

function isOwn6(u8: Uint8Array, at: number, netif: number): boolean {
  for (let i = 0; i < NETIF_IP6_COUNT; i++) {
    if (u8[netif + NETIF.IP6_STATE + i] === 0) continue;
    if (sameBytes(u8, at, netif + NETIF.IP6 + 24 * i, 16)) return true;
  }
  return false;
}

function isLoopback6(u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < 15; i++) if (u8[at + i] !== 0) return false;
  return u8[at + 15] === 1;
}

function sameBytes(u8: Uint8Array, a: number, b: number, count: number): boolean {
  for (let i = 0; i < count; i++) if (u8[a + i] !== u8[b + i]) return false;
  return true;
}
