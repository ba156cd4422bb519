/** The messages of a DHCP client [RFC 2131 §4.4, table 5], and which ones of others it looks at. */
import { BOOTREPLY, BOOTREQUEST, DHCP_OPTION, DHCP_TYPE, type DhcpMessage } from '#common/wire/dhcp';
import { textOption, u8Option, u16Option, u32Option } from '#common/wire/dhcp_options';
import { formatMac } from '#common/wire/ethernet';
import type { Lease } from './lease.ts';

/** What is to be said; RENEW and REBIND are REQUESTs without server identifier. */
export interface Intent {
  readonly verb: 'DISCOVER' | 'REQUEST' | 'RENEW' | 'REBIND' | 'DECLINE' | 'RELEASE';
  readonly xid: number;
  readonly secs: number;
  readonly lease?: Lease | undefined;
}

const TYPE_OF = {
  DISCOVER: DHCP_TYPE.DISCOVER,
  REQUEST: DHCP_TYPE.REQUEST,
  RENEW: DHCP_TYPE.REQUEST,
  REBIND: DHCP_TYPE.REQUEST,
  DECLINE: DHCP_TYPE.DECLINE,
  RELEASE: DHCP_TYPE.RELEASE,
} as const;

const WANTED = [
  DHCP_OPTION.SUBNET_MASK,
  DHCP_OPTION.ROUTER,
  DHCP_OPTION.DNS_SERVER,
  DHCP_OPTION.DOMAIN_NAME,
  DHCP_OPTION.INTERFACE_MTU,
  DHCP_OPTION.RENEWAL_TIME,
  DHCP_OPTION.REBINDING_TIME,
];
/** Longest answer we take: an Ethernet frame's worth. */
const MAX_MESSAGE = 1472;
const HTYPE_ETHERNET = 1;

/** The message for `intent` from the client with this MAC. `hostname` may be empty. */
export function messageFor(intent: Intent, mac: Uint8Array, hostname: string): DhcpMessage {
  const { verb, lease } = intent;
  const options = new Map<number, Uint8Array>([
    [DHCP_OPTION.MESSAGE_TYPE, u8Option(TYPE_OF[verb])],
    [DHCP_OPTION.CLIENT_ID, Uint8Array.of(HTYPE_ETHERNET, ...mac)],
  ]);
  if (lease !== undefined && (verb === 'REQUEST' || verb === 'DECLINE')) {
    options.set(DHCP_OPTION.REQUESTED_IP, u32Option(lease.ip));
  }
  if (lease !== undefined && (verb === 'REQUEST' || verb === 'DECLINE' || verb === 'RELEASE')) {
    options.set(DHCP_OPTION.SERVER_ID, u32Option(lease.server));
  }
  if (verb !== 'DECLINE' && verb !== 'RELEASE') {
    options.set(DHCP_OPTION.PARAMETER_LIST, Uint8Array.from(WANTED));
    options.set(DHCP_OPTION.MAX_MESSAGE_SIZE, u16Option(MAX_MESSAGE));
    if (hostname !== '') options.set(DHCP_OPTION.HOST_NAME, textOption(hostname));
  }
  const bound = verb === 'RENEW' || verb === 'REBIND' || verb === 'RELEASE';
  return {
    op: BOOTREQUEST,
    xid: intent.xid,
    secs: verb === 'DECLINE' || verb === 'RELEASE' ? 0 : intent.secs,
    // Without an address we can take unicast frames all the same: we read them below IP.
    broadcast: false,
    ciaddr: bound ? (lease?.ip ?? 0) : 0,
    yiaddr: 0,
    siaddr: 0,
    giaddr: 0,
    chaddr: mac,
    options,
  };
}

/** Why a received message is not for us, as a clause; undefined when it is. */
export function refusal(message: DhcpMessage, xid: number, mac: Uint8Array): string | undefined {
  if (message.op !== BOOTREPLY) return 'a message was a request, not a reply';
  if (message.xid !== xid) {
    return `a reply had transaction id ${hex(message.xid)}, not ${hex(xid)}`;
  }
  if (!message.chaddr.every((byte, i) => byte === mac[i])) {
    return `a reply was for ${formatMac(message.chaddr)}, not for ${formatMac(mac)}`;
  }
  return undefined;
}

function hex(xid: number): string {
  return `0x${xid.toString(16).padStart(8, '0')}`;
}
