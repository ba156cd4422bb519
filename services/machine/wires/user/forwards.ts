/**
 * Guest-forwards: guest-side addresses that lead to host addresses, by translation in front of libslirp.
 *
 * TCP and UDP to IP:PORT get the host's address and port before slirp sees them, replies of those flows get
 * IP:PORT back; checksums are updated incrementally [RFC 1624]. slirp's own `guestfwd` was no alternative: it
 * moves each connection through a callback or a Unix socket, one connection per guestfwd and callback at a time, with
 * a copy and a wake-up more.
 */

import { get16, get32, put16, put32 } from '#common/wire/bytes';
import { finish, sumOf, update16At, update32At } from '#common/wire/checksum';
import { ETH } from '#common/wire/ethernet';
import { ICMP, ICMP_TYPE } from '#common/wire/icmp';
import { checkIpv4, IP_PROTOCOL, IPV4, ipv4TotalLength, isFragment } from '#common/wire/ipv4';
import { TCP } from '#common/wire/tcp';
import { UDP } from '#common/wire/udp';
import { FlowTable } from './flow_table.ts';

/** One forward, addresses as 32-bit numbers. */
export interface ForwardRule {
  readonly guestIp: number;
  readonly guestPort: number;
  readonly hostIp: number;
  readonly hostPort: number;
}

/** Answers of `Forwards.match`, besides the index of a forward. */
export const NOT_FORWARDED = -1;
/** To a forwarded address, but to no forwarded port. */
export const NO_SUCH_PORT = -2;

export class Forwards {
  readonly #rules: readonly ForwardRule[];
  /** Distinct addresses on both sides, signed as typed arrays keep them. */
  readonly #guestIps: Int32Array;
  readonly #hostIps: Int32Array;
  readonly #flows = new FlowTable();

  constructor(rules: readonly ForwardRule[]) {
    this.#rules = rules;
    this.#guestIps = Int32Array.from(new Set(rules.map(({ guestIp }) => guestIp | 0)));
    this.#hostIps = Int32Array.from(new Set(rules.map(({ hostIp }) => hostIp | 0)));
  }

  get size(): number {
    return this.#rules.length;
  }

  /** Guest-side addresses, each once. */
  get guestAddresses(): number[] {
    return Array.from(this.#guestIps, (address) => address >>> 0);
  }

  /** True when `address` is the guest-side address of a forward. */
  has(address: number): boolean {
    return contains(this.#guestIps, address | 0);
  }

  /** Index of the forward that the whole IPv4 datagram at `ip` (checked, header of `header` bytes) is for, or one of the constants. */
  match(bytes: Uint8Array, ip: number, header: number): number {
    const address = get32(bytes, ip + IPV4.DESTINATION);
    if (!this.has(address)) return NOT_FORWARDED;
    const protocol = bytes[ip + IPV4.PROTOCOL];
    if (protocol !== IP_PROTOCOL.TCP && protocol !== IP_PROTOCOL.UDP) return NOT_FORWARDED;
    if (ipv4TotalLength(bytes, ip) < header + smallestHeader(protocol)) return NOT_FORWARDED;
    const port = get16(bytes, ip + header + TCP.DESTINATION);
    for (let i = 0; i < this.#rules.length; i++) {
      const rule = this.#rules[i] as ForwardRule;
      if (rule.guestPort === port && rule.guestIp === address) return i;
    }
    return NO_SUCH_PORT;
  }

  /** Sends the datagram of forward `index` to its host address: rewrites it in place and remembers the flow. */
  outbound(bytes: Uint8Array, ip: number, header: number, index: number): void {
    const rule = this.#rules[index] as ForwardRule;
    const segment = ip + header;
    const guestPort = get16(bytes, segment + TCP.SOURCE);
    const protocol = bytes[ip + IPV4.PROTOCOL] as number;
    this.#flows.put(protocol, get32(bytes, ip + IPV4.SOURCE), guestPort, rule.hostIp, rule.hostPort, index);
    rewrite(bytes, ip, header, IPV4.DESTINATION, TCP.DESTINATION, rule.hostIp, rule.hostPort);
  }

  /** A frame of `length` bytes from slirp: if it belongs to a forwarded flow, gives it back its guest-side source. */
  inbound(bytes: Uint8Array, frame: number, length: number): void {
    const ip = frame + ETH.HEADER;
    const header = checkIpv4(bytes, ip, length - ETH.HEADER);
    if (header < 0 || isFragment(bytes, ip)) return;
    const protocol = bytes[ip + IPV4.PROTOCOL] as number;
    const segment = ip + header;
    if (protocol === IP_PROTOCOL.ICMP) {
      this.#inboundError(bytes, segment, ipv4TotalLength(bytes, ip) - header);
      return;
    }
    const source = get32(bytes, ip + IPV4.SOURCE);
    if (!contains(this.#hostIps, source | 0)) return;
    if (protocol !== IP_PROTOCOL.TCP && protocol !== IP_PROTOCOL.UDP) return;
    if (ipv4TotalLength(bytes, ip) < header + smallestHeader(protocol)) return;
    const guestIp = get32(bytes, ip + IPV4.DESTINATION);
    const guestPort = get16(bytes, segment + TCP.DESTINATION);
    const index = this.#flows.get(protocol, guestIp, guestPort, source, get16(bytes, segment + TCP.SOURCE));
    if (index < 0) return;
    const rule = this.#rules[index] as ForwardRule;
    rewrite(bytes, ip, header, IPV4.SOURCE, TCP.SOURCE, rule.guestIp, rule.guestPort);
  }

  /** An ICMP error quotes the datagram as slirp knew it: the guest must find its own in there [RFC 5508 §4.2]. */
  #inboundError(bytes: Uint8Array, icmp: number, length: number): void {
    if (length < ICMP.BODY + IPV4.HEADER + UDP.HEADER || bytes[icmp + ICMP.TYPE] !== ICMP_TYPE.UNREACHABLE)
      return;
    const ip = icmp + ICMP.BODY;
    const first = bytes[ip] as number;
    const header = (first & 0xf) * 4;
    if (first >>> 4 !== 4 || header < IPV4.HEADER || length < ICMP.BODY + header + UDP.HEADER) return;
    const protocol = bytes[ip + IPV4.PROTOCOL] as number;
    const hostIp = get32(bytes, ip + IPV4.DESTINATION);
    const guestPort = get16(bytes, ip + header + TCP.SOURCE);
    const hostPort = get16(bytes, ip + header + TCP.DESTINATION);
    const index = this.#flows.get(protocol, get32(bytes, ip + IPV4.SOURCE), guestPort, hostIp, hostPort);
    if (index < 0) return;
    const rule = this.#rules[index] as ForwardRule;
    update32At(bytes, ip + IPV4.CHECKSUM, hostIp, rule.guestIp);
    put32(bytes, ip + IPV4.DESTINATION, rule.guestIp);
    put16(bytes, ip + header + TCP.DESTINATION, rule.guestPort);
    put16(bytes, icmp + ICMP.CHECKSUM, 0);
    put16(bytes, icmp + ICMP.CHECKSUM, finish(sumOf(bytes, icmp, length)));
  }
}

/** As `includes`, which leaves compiled code: once for each frame that is felt. */
function contains(addresses: Int32Array, address: number): boolean {
  for (let n = 0; n < addresses.length; n++) if (addresses[n] === address) return true;
  return false;
}

function smallestHeader(protocol: number): number {
  return protocol === IP_PROTOCOL.TCP ? TCP.HEADER : UDP.HEADER;
}

/** Exchanges one address and one port; ports stand at the same offsets in TCP and UDP. */
function rewrite(
  bytes: Uint8Array,
  ip: number,
  header: number,
  addressField: number,
  portField: number,
  address: number,
  port: number,
): void {
  const segment = ip + header;
  const addressBefore = get32(bytes, ip + addressField);
  const portBefore = get16(bytes, segment + portField);
  update32At(bytes, ip + IPV4.CHECKSUM, addressBefore, address);
  put32(bytes, ip + addressField, address);
  put16(bytes, segment + portField, port);
  const udp = bytes[ip + IPV4.PROTOCOL] === IP_PROTOCOL.UDP;
  const field = segment + (udp ? UDP.CHECKSUM : TCP.CHECKSUM);
  // [RFC 768] A UDP checksum of 0 means none was made: it stays so.
  if (udp && get16(bytes, field) === 0) return;
  update32At(bytes, field, addressBefore, address);
  update16At(bytes, field, portBefore, port);
  if (udp && get16(bytes, field) === 0) put16(bytes, field, 0xffff);
}
