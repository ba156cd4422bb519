/** What an OFFER or ACK promises [RFC 2132], checked: a server's nonsense becomes a reason, never a configuration. */
import { DHCP_OPTION, type DhcpMessage } from '#common/wire/dhcp';
import { optionAddresses, optionText, optionU16, optionU32 } from '#common/wire/dhcp_options';
import { formatIpv4 } from '#common/wire/ipv4';

export interface Lease {
  readonly ip: number;
  readonly netmask: number;
  /** 0 = none. */
  readonly gateway: number;
  readonly dns: readonly number[];
  readonly domain: string | undefined;
  readonly mtu: number | undefined;
  /** Server identifier. */
  readonly server: number;
  /** Times in ms on the machine's clock: T1, T2 and the end; Infinity for a lease without end. */
  readonly renewAt: number;
  readonly rebindAt: number;
  readonly expiresAt: number;
}

const INFINITE = 0xffffffff;
/** Shorter leases would make us talk all the time. */
const MIN_LEASE_S = 10;
/** Smallest MTU of IPv4 [RFC 2132 §5.1]. */
const MIN_MTU = 68;

/** The lease in `message`, counted from `from` (ms); or why it cannot be used, as a clause. */
export function leaseOf(message: DhcpMessage, from: number): Lease | string {
  const ip = message.yiaddr;
  const server = optionU32(message, DHCP_OPTION.SERVER_ID);
  if (server === undefined || server === 0) return 'it names no server (option 54)';
  if (!isHost(ip)) return `server ${formatIpv4(server)} offered ${formatIpv4(ip)}, which is no host address`;
  const netmask = optionU32(message, DHCP_OPTION.SUBNET_MASK) ?? classMask(ip);
  if (!isMask(netmask))
    return `server ${formatIpv4(server)} gave the netmask ${formatIpv4(netmask)}, which is none`;
  const seconds = optionU32(message, DHCP_OPTION.LEASE_TIME);
  if (seconds === undefined) return `server ${formatIpv4(server)} gave no lease time (option 51)`;
  const gateway = optionAddresses(message, DHCP_OPTION.ROUTER).find(isHost) ?? 0;
  const mtu = optionU16(message, DHCP_OPTION.INTERFACE_MTU);
  return {
    ip,
    netmask,
    gateway,
    dns: optionAddresses(message, DHCP_OPTION.DNS_SERVER).filter(isHost),
    domain: optionText(message, DHCP_OPTION.DOMAIN_NAME),
    mtu: mtu !== undefined && mtu >= MIN_MTU ? mtu : undefined,
    server,
    ...times(message, seconds, from),
  };
}

/** T1 and T2 default to 1/2 and 7/8 of the lease [RFC 2131 §4.4.5]; ones out of order are not used. */
function times(
  message: DhcpMessage,
  seconds: number,
  from: number,
): Pick<Lease, 'renewAt' | 'rebindAt' | 'expiresAt'> {
  if (seconds === INFINITE) {
    const never = Number.POSITIVE_INFINITY;
    return { renewAt: never, rebindAt: never, expiresAt: never };
  }
  const lease = Math.max(seconds, MIN_LEASE_S);
  let t1 = optionU32(message, DHCP_OPTION.RENEWAL_TIME) ?? lease / 2;
  let t2 = optionU32(message, DHCP_OPTION.REBINDING_TIME) ?? (lease * 7) / 8;
  if (!(t1 > 0 && t1 < t2 && t2 < lease)) [t1, t2] = [lease / 2, (lease * 7) / 8];
  return { renewAt: from + t1 * 1000, rebindAt: from + t2 * 1000, expiresAt: from + lease * 1000 };
}

/** Not 0.x, 127.x, multicast or reserved. */
function isHost(ip: number): boolean {
  const first = ip >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** Ones, then zeros; at least one of each kind but 255.255.255.255. */
function isMask(mask: number): boolean {
  const host = ~mask >>> 0;
  return mask !== 0 && (host & (host + 1)) === 0;
}

function classMask(ip: number): number {
  if (ip >>> 31 === 0) return 0xff000000;
  return ip >>> 30 === 2 ? 0xffff0000 : 0xffffff00;
}
