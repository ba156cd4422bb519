/**
 * The DHCP server of a user network [RFC 2131]: a message in, the reply or nothing out.
 *
 * Stands in for libslirp's, whose 16 addresses are never freed. Same addresses, same options. Where it differs from
 * the RFC: it is the only server of its network and says so. An address that a client without record asks for is given
 * when free, and refused when not (§4.3.2 wants silence), so that guests that outlive a lab need not wait. A client is its
 * hardware address, whatever its client identifier. Relays and plain BOOTP get no answer: neither exists on a NIC's cable.
 */

import { get16, get32 } from '#common/wire/bytes';
import { BOOTREPLY, BOOTREQUEST, DHCP_OPTION, DHCP_TYPE, type DhcpMessage } from '#common/wire/dhcp';
import { dhcpType, optionU32, textOption, u8Option, u32Option } from '#common/wire/dhcp_options';
import { formatMac } from '#common/wire/ethernet';
import { formatIpv4 } from '#common/wire/ipv4';
import type { WireLease } from '../../wire.ts';
import { type Clock, DhcpLeases } from './dhcp_leases.ts';
import type { UserNetwork } from './network.ts';

/** A day, as libslirp's. */
export const LEASE_SECONDS = 86_400;
/** How long an offer is kept for the client's request. */
const OFFER_MS = 60_000;
/** How long an address that was found in use is left alone. */
const DECLINE_MS = 600_000;

const LIMITED_BROADCAST = 0xffffffff;

export class DhcpServer {
  readonly #network: UserNetwork;
  readonly #leases: DhcpLeases;
  readonly #warn: (text: string) => void;

  /** `taken`: addresses that are no guest's (gateway and DNS need not be named). `now` in milliseconds. */
  constructor(network: UserNetwork, taken: Iterable<number>, now: Clock, warn: (text: string) => void) {
    this.#network = network;
    this.#warn = warn;
    this.#leases = new DhcpLeases(poolOf(network, new Set(taken)), now);
  }

  /** What is leased now, by address. */
  leases(): WireLease[] {
    return this.#leases.leased();
  }

  /** The reply to a well-formed message; undefined when there is none to give. */
  answer(request: DhcpMessage): DhcpMessage | undefined {
    if (request.op !== BOOTREQUEST || request.giaddr !== 0 || !isClient(request.chaddr)) return undefined;
    const client = keyOf(request.chaddr);
    const server = request.options.has(DHCP_OPTION.SERVER_ID)
      ? optionU32(request, DHCP_OPTION.SERVER_ID)
      : this.#network.gateway;
    const forUs = server === this.#network.gateway;
    switch (dhcpType(request)) {
      case DHCP_TYPE.DISCOVER:
        return this.#discover(request, client);
      case DHCP_TYPE.REQUEST:
        if (forUs) return this.#request(request, client);
        this.#leases.withdraw(client);
        return undefined;
      case DHCP_TYPE.DECLINE:
        if (forUs) this.#decline(request, client);
        return undefined;
      case DHCP_TYPE.RELEASE:
        if (forUs) this.#leases.release(client, request.ciaddr);
        return undefined;
      case DHCP_TYPE.INFORM:
        // [RFC 2131 §4.3.5] No address, no lease time.
        return this.#isLocal(request.ciaddr) ? this.#reply(request, DHCP_TYPE.ACK, 0) : undefined;
      default:
        return undefined;
    }
  }

  #discover(request: DhcpMessage, client: number): DhcpMessage | undefined {
    const wanted = optionU32(request, DHCP_OPTION.REQUESTED_IP) ?? 0;
    const address = this.#leases.offer(client, wanted, OFFER_MS);
    if (address !== undefined) return this.#reply(request, DHCP_TYPE.OFFER, address);
    this.#warn(
      'Cannot lease an address to a guest as one of the network must be free: ' +
        `all ${this.#leases.size} are leased for up to ${LEASE_SECONDS} s, or until a guest releases its own`,
    );
    return undefined;
  }

  /** [RFC 2131 §4.3.2] Selecting and init-reboot name the address in an option, renewing and rebinding in ciaddr. */
  #request(request: DhcpMessage, client: number): DhcpMessage | undefined {
    const address = optionU32(request, DHCP_OPTION.REQUESTED_IP) ?? request.ciaddr;
    if (address === 0) return undefined;
    return this.#leases.lease(client, address, LEASE_SECONDS * 1000)
      ? this.#reply(request, DHCP_TYPE.ACK, address)
      : this.#refuse(request);
  }

  #decline(request: DhcpMessage, client: number): void {
    const address = optionU32(request, DHCP_OPTION.REQUESTED_IP) ?? 0;
    if (!this.#leases.decline(client, address, DECLINE_MS)) return;
    this.#warn(
      `Guest ${formatMac(request.chaddr)} declined ${formatIpv4(address)} as somebody else uses it: ` +
        `not leased for ${DECLINE_MS / 1000} s`,
    );
  }

  #isLocal(address: number): boolean {
    const { network, mask } = this.#network;
    return ((address & mask) | 0) === (network | 0);
  }

  /** OFFER or ACK with libslirp's options; without lease time when no address is given. */
  #reply(request: DhcpMessage, type: number, yiaddr: number): DhcpMessage {
    const { gateway, mask, dns, hostName } = this.#network;
    const options = new Map([
      [DHCP_OPTION.MESSAGE_TYPE as number, u8Option(type)],
      [DHCP_OPTION.SERVER_ID, u32Option(gateway)],
      [DHCP_OPTION.SUBNET_MASK, u32Option(mask)],
      [DHCP_OPTION.ROUTER, u32Option(gateway)],
      [DHCP_OPTION.DNS_SERVER, u32Option(dns)],
    ]);
    if (yiaddr !== 0) options.set(DHCP_OPTION.LEASE_TIME, u32Option(LEASE_SECONDS));
    if (hostName !== '') options.set(DHCP_OPTION.HOST_NAME, textOption(hostName));
    const ciaddr = type === DHCP_TYPE.OFFER ? 0 : request.ciaddr;
    return { ...request, op: BOOTREPLY, secs: 0, ciaddr, yiaddr, siaddr: gateway, options };
  }

  #refuse(request: DhcpMessage): DhcpMessage {
    const options = new Map([
      [DHCP_OPTION.MESSAGE_TYPE as number, u8Option(DHCP_TYPE.NAK)],
      [DHCP_OPTION.SERVER_ID, u32Option(this.#network.gateway)],
      [DHCP_OPTION.MESSAGE, textOption('requested address not available')],
    ]);
    return { ...request, op: BOOTREPLY, secs: 0, ciaddr: 0, yiaddr: 0, siaddr: 0, options };
  }
}

/** Where `reply` goes [RFC 2131 §4.1]: an IPv4 address; the broadcast address also stands for the Ethernet one. */
export function dhcpDestination(reply: DhcpMessage, request: DhcpMessage): number {
  if (dhcpType(reply) === DHCP_TYPE.NAK) return LIMITED_BROADCAST;
  if (request.ciaddr !== 0) return request.ciaddr;
  return reply.broadcast ? LIMITED_BROADCAST : reply.yiaddr;
}

/** From dhcpStart to the last host address, without those that have an owner. */
function poolOf(network: UserNetwork, taken: ReadonlySet<number>): number[] {
  const broadcast = (network.network | ~network.mask) >>> 0;
  const pool: number[] = [];
  for (let address = network.dhcpStart; address < broadcast; address++) {
    if (address !== network.gateway && address !== network.dns && !taken.has(address)) pool.push(address);
  }
  return pool;
}

/** A MAC address that one guest can have: no group address, not all zeros. */
function isClient(mac: Uint8Array): boolean {
  return ((mac[0] as number) & 1) === 0 && keyOf(mac) !== 0;
}

function keyOf(mac: Uint8Array): number {
  return get16(mac, 0) * 2 ** 32 + get32(mac, 2);
}
