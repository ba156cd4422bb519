/**
 * Which received frames lwIP gets to see.
 *
 * This build of lwIP forwards packets between interfaces and loops packets to its own addresses back through a
 * thread that we do not run: one frame that claims to come from our own address would end the process. And it does
 * not look at the destination MAC, while a switch floods. A NIC's filter and L4Re's options (no forwarding, no
 * loopback) come first, then. What else would end it by an assertion does not come through either (`transport`,
 * `acceptTcp`), found by hostile.test.ts; the rest is lwIP's own business.
 */
import type { Memory } from '#common/memory';
import { get16 } from '#common/wire/bytes';
import { ETH, ETHERTYPE } from '#common/wire/ethernet';
import { IP_PROTOCOL, IPV4, IPV4_MF, IPV4_OFFSET_MASK } from '#common/wire/ipv4';
import { IPV6 } from '#common/wire/ipv6';
import { TCP, TCP_FLAG } from '#common/wire/tcp';
import { NETIF, NETIF_IP6_COUNT } from './layout.ts';

/** Its length field says how much its checksum covers, and lwIP believes it. */
const UDP_LITE = 136;
/** Extension headers of IPv6 [RFC 8200 §4]. */
const HOP_BY_HOP = 0;
const FRAGMENT = 44;
const FRAGMENT_BYTES = 8;
/** Options of TCP [RFC 9293 §3.2]. */
const OPTION = { END: 0, NOP: 1, MSS: 2 } as const;
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
  const header = ((u8[at] as number) & 0xf) * 4;
  const fragment = (get16(u8, at + IPV4.FRAGMENT) & (IPV4_MF | IPV4_OFFSET_MASK)) !== 0;
  if (!transport(u8, u8[at + IPV4.PROTOCOL] as number, at + header, at + length, fragment)) return false;
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
  if (length < IPV6.HEADER || !acceptNext(u8, at, at + length)) return false;
  const advertisement =
    u8[at + IPV6.NEXT_HEADER] === IP_PROTOCOL.ICMPV6 && u8[at + IPV6.HEADER] === NEIGHBOUR_ADVERTISEMENT;
  if (!advertisement) {
    if (isLoopback6(u8, at + IPV6.SOURCE)) return false;
    for (let i = 0; i < all.length; i++) if (isOwn6(u8, at + IPV6.SOURCE, all[i] as number)) return false;
  }
  return u8[at + IPV6.DESTINATION] === 0xff || isOwn6(u8, at + IPV6.DESTINATION, netif);
}

/**
 * What may stand behind the header of IPv6: a transport, its fragment, or hop-by-hop options with ICMPv6 (MLD). Nobody on
 * a link needs longer chains.
 */
function acceptNext(u8: Uint8Array, at: number, end: number): boolean {
  const next = u8[at + IPV6.NEXT_HEADER] as number;
  const behind = at + IPV6.HEADER;
  if (next === HOP_BY_HOP) return behind + 2 <= end && u8[behind] === IP_PROTOCOL.ICMPV6;
  if (next !== FRAGMENT) return known(next) && transport(u8, next, behind, end, false);
  const inside = u8[behind] as number;
  return behind + FRAGMENT_BYTES <= end && known(inside) && transport(u8, inside, behind, end, true);
}

function known(protocol: number): boolean {
  return protocol === IP_PROTOCOL.TCP || protocol === IP_PROTOCOL.UDP || protocol === IP_PROTOCOL.ICMPV6;
}

/** No UDP-Lite, no TCP in pieces (nobody sends it, and its options are in another one), no `acceptTcp` would refuse. */
function transport(u8: Uint8Array, protocol: number, at: number, end: number, fragment: boolean): boolean {
  if (protocol === UDP_LITE) return false;
  return protocol !== IP_PROTOCOL.TCP || (!fragment && acceptTcp(u8, at, end));
}

/**
 * A segment with its whole header, which does not change the MSS of a connection that exists: lwIP takes the option from any
 * segment, and asserts later that what it has queued is no longer.
 */
function acceptTcp(u8: Uint8Array, at: number, end: number): boolean {
  if (at + TCP.HEADER > end) return false;
  const header = ((u8[at + TCP.DATA_OFFSET] as number) >>> 4) * 4;
  if (header < TCP.HEADER || at + header > end) return false;
  const opens = ((u8[at + TCP.FLAGS] as number) & TCP_FLAG.SYN) !== 0;
  return header === TCP.HEADER || opens || !setsMss(u8, at + TCP.HEADER, at + header);
}

/** True when lwIP would find an MSS among these options; it stops at one that has no length. */
function setsMss(u8: Uint8Array, from: number, end: number): boolean {
  for (let at = from; at < end; ) {
    const kind = u8[at] as number;
    if (kind === OPTION.MSS) return true;
    if (kind === OPTION.END) return false;
    const length = kind === OPTION.NOP ? 1 : at + 1 < end ? (u8[at + 1] as number) : 0;
    if (length === 0 || (length === 1 && kind !== OPTION.NOP)) return false;
    at += length;
  }
  return false;
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
