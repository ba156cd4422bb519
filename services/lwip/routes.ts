/**
 * Which interface and next hop a destination gets, and why there is none.
 *
 * lwIP decides by itself (ip4_route, ip6_route); asking first gives a reason where lwIP only says ERR_RTE or, without a
 * gateway, nothing at all until the connection times out.
 */
import { get32 } from '#common/wire/bytes';
import { formatIpv4 } from '#common/wire/ipv4';
import { formatIpv6, type IpAddress, isLinkLocal6, isLoopback } from './address.ts';
import type { NetErrorCode } from './errors.ts';
import type { Netif } from './netif.ts';

export interface Route {
  readonly netif: Netif;
  /** The on-link IPv4 address whose MAC is needed; undefined for IPv6. */
  readonly nextHop: number | undefined;
}

export interface NoRoute {
  readonly code: NetErrorCode;
  readonly reason: string;
}

const NO_INTERFACE =
  'there is no network interface: no capability whose name starts with virtnet was given (for example caps = { virtnet = vswitch:create(0) })';

/** The route to `to`, or the reason why lwIP could not send there. */
export function routeTo(netifs: readonly Netif[], to: IpAddress): Route | NoRoute {
  const first = netifs[0];
  if (first === undefined) return { code: 'ENETUNREACH', reason: NO_INTERFACE };
  if (isLoopback(to) || isOwn(netifs, to)) {
    return {
      code: 'EADDRNOTAVAIL',
      reason: 'it is this program itself and there is no loopback interface (as on L4Re)',
    };
  }
  const route = to.family === 4 ? route4(netifs, first, get32(to.bytes, 0)) : route6(netifs, first, to);
  if ('reason' in route || route.netif.failure === undefined) return route;
  return { code: 'ENETDOWN', reason: `interface ${route.netif.name} is dead: ${route.netif.failure}` };
}

function route4(netifs: readonly Netif[], first: Netif, to: number): Route | NoRoute {
  const direct = netifs.find((n) => n.ip !== 0 && ((n.ip ^ to) & n.netmask) >>> 0 === 0);
  if (direct !== undefined) return { netif: direct, nextHop: to };
  if (first.ip === 0) {
    return {
      code: 'ENETUNREACH',
      reason: `interface ${first.name} has no IPv4 address: set IFCONFIG_IP4_${first.name} to dhcp or to an address`,
    };
  }
  if (first.gateway === 0) {
    return {
      code: 'ENETUNREACH',
      reason: `interface ${first} has no gateway and the address is not in its subnet: set IFCONFIG_IP4_${first.name} to "a.b.c.d/p via g.h.i.j"`,
    };
  }
  return { netif: first, nextHop: first.gateway };
}

function route6(netifs: readonly Netif[], first: Netif, to: IpAddress): Route | NoRoute {
  if (isLinkLocal6(to) || to.bytes[0] === 0xff) {
    return { netif: netifs.find((n) => n.index === to.zone) ?? first, nextHop: undefined };
  }
  return {
    code: 'ENETUNREACH',
    reason: `interface ${first.name} has a link-local IPv6 address only`,
  };
}

function isOwn(netifs: readonly Netif[], to: IpAddress): boolean {
  const text = to.family === 4 ? formatIpv4(get32(to.bytes, 0)) : formatIpv6(to.bytes);
  return netifs.some((n) =>
    to.family === 4 ? formatIpv4(n.ip) === text && n.ip !== 0 : n.ip6.includes(text),
  );
}
