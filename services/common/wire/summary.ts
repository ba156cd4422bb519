/**
 * One line about a frame, for people: addresses, ethertype, VLAN, length, and what ARP, IPv4, IPv6, TCP, UDP or ICMP
 * say. Takes whatever is there: a frame that was cut, or makes no sense, is told as far as it goes. Checksums are
 * not looked at: with offloads they are not there yet.
 */
import { ARP, ARP_REPLY, ARP_REQUEST, arpSenderIp, arpTargetIp } from './arp.ts';
import { get16 } from './bytes.ts';
import { ETH, ETHERTYPE, formatMac, VLAN } from './ethernet.ts';
import { ICMP, ICMP_TYPE } from './icmp.ts';
import { formatIpv4, IP_PROTOCOL, IPV4, IPV4_OFFSET_MASK, ipv4Destination, ipv4Source } from './ipv4.ts';
import { formatIpv6, IPV6 } from './ipv6.ts';
import { TCP, TCP_FLAG, tcpAcknowledgment, tcpSequence } from './tcp.ts';
import { UDP, udpDestination, udpSource } from './udp.ts';

const TYPE_NAME: Readonly<Record<number, string>> = {
  [ETHERTYPE.IPV4]: 'IPv4',
  [ETHERTYPE.ARP]: 'ARP',
  [ETHERTYPE.IPV6]: 'IPv6',
};
const CUT = '[cut]';
/** As tcpdump writes them. */
const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [TCP_FLAG.FIN, 'F'],
  [TCP_FLAG.SYN, 'S'],
  [TCP_FLAG.RST, 'R'],
  [TCP_FLAG.PSH, 'P'],
  [TCP_FLAG.ACK, '.'],
  [TCP_FLAG.URG, 'U'],
];
const ICMP_NAME: Readonly<Record<number, string>> = {
  [ICMP_TYPE.ECHO_REPLY]: 'echo reply',
  [ICMP_TYPE.UNREACHABLE]: 'unreachable',
  [ICMP_TYPE.ECHO]: 'echo request',
  [ICMP_TYPE.TIME_EXCEEDED]: 'time exceeded',
};
const ICMPV6_NAME: Readonly<Record<number, string>> = {
  1: 'unreachable',
  2: 'packet too big',
  3: 'time exceeded',
  128: 'echo request',
  129: 'echo reply',
  133: 'router solicitation',
  134: 'router advertisement',
  135: 'neighbor solicitation',
  136: 'neighbor advertisement',
};

/** `bytes` is the beginning of a frame of `length` bytes. */
export function summarize(bytes: Uint8Array, length: number): string {
  if (bytes.length < ETH.HEADER) return `length ${length}: shorter than an Ethernet header`;
  const addresses = `${formatMac(bytes, ETH.SOURCE)} > ${formatMac(bytes, ETH.DESTINATION)}`;
  const outer = get16(bytes, ETH.TYPE);
  const tagged = outer === ETHERTYPE.VLAN && bytes.length >= VLAN.HEADER;
  const type = tagged ? get16(bytes, VLAN.TYPE) : outer;
  const at = tagged ? VLAN.HEADER : ETH.HEADER;
  const vlan = tagged ? ` vlan ${vlanText(get16(bytes, VLAN.TCI))},` : '';
  const name = TYPE_NAME[type] ?? `0x${type.toString(16).padStart(4, '0')}`;
  const what = payload(type, bytes, at);
  return `${addresses},${vlan} ${name}, length ${length}${what === '' ? '' : `: ${what}`}`;
}

/** `7`, with a priority `7 p 5`. */
function vlanText(tci: number): string {
  const priority = tci >>> 13;
  return `${tci & 0xfff}${priority === 0 ? '' : ` p ${priority}`}`;
}

function payload(type: number, bytes: Uint8Array, at: number): string {
  if (type === ETHERTYPE.ARP) return arp(bytes, at);
  if (type === ETHERTYPE.IPV4) return ipv4(bytes, at);
  return type === ETHERTYPE.IPV6 ? ipv6(bytes, at) : '';
}

function arp(bytes: Uint8Array, at: number): string {
  if (bytes.length < at + ARP.SIZE) return CUT;
  const [sender, target] = [formatIpv4(arpSenderIp(bytes, at)), formatIpv4(arpTargetIp(bytes, at))];
  const operation = get16(bytes, at + ARP.OPERATION);
  if (operation === ARP_REQUEST) return `who has ${target} tell ${sender}`;
  if (operation === ARP_REPLY) return `${sender} is at ${formatMac(bytes, at + ARP.SENDER_MAC)}`;
  return `operation ${operation}`;
}

function ipv4(bytes: Uint8Array, at: number): string {
  if (bytes.length < at + IPV4.HEADER) return CUT;
  const [source, destination] = [formatIpv4(ipv4Source(bytes, at)), formatIpv4(ipv4Destination(bytes, at))];
  const header = ((bytes[at + IPV4.VERSION_IHL] as number) & 0xf) * 4;
  const total = get16(bytes, at + IPV4.TOTAL_LENGTH);
  if (header < IPV4.HEADER) return `${source} > ${destination}: bad header length ${header}`;
  const offset = (get16(bytes, at + IPV4.FRAGMENT) & IPV4_OFFSET_MASK) * 8;
  const protocol = bytes[at + IPV4.PROTOCOL] as number;
  if (offset > 0) return `${source} > ${destination}: fragment at ${offset} of protocol ${protocol}`;
  // Segmentation offload leaves no length, or one that does not say everything.
  return transport(protocol, bytes, at + header, total - header, source, destination);
}

function ipv6(bytes: Uint8Array, at: number): string {
  if (bytes.length < at + IPV6.HEADER) return CUT;
  const [source, destination] = [
    formatIpv6(bytes, at + IPV6.SOURCE),
    formatIpv6(bytes, at + IPV6.DESTINATION),
  ];
  const next = bytes[at + IPV6.NEXT_HEADER] as number;
  const length = get16(bytes, at + IPV6.PAYLOAD_LENGTH);
  return transport(next, bytes, at + IPV6.HEADER, length, source, destination);
}

function transport(
  protocol: number,
  bytes: Uint8Array,
  at: number,
  length: number,
  source: string,
  destination: string,
): string {
  const pair = `${source} > ${destination}`;
  if (protocol === IP_PROTOCOL.TCP) {
    if (bytes.length < at + TCP.HEADER) return `${pair}: TCP ${CUT}`;
    return `${source}.${get16(bytes, at + TCP.SOURCE)} > ${destination}.${get16(bytes, at + TCP.DESTINATION)}: TCP ${tcp(bytes, at, length)}`;
  }
  if (protocol === IP_PROTOCOL.UDP) {
    if (bytes.length < at + UDP.HEADER) return `${pair}: UDP ${CUT}`;
    const own = get16(bytes, at + UDP.LENGTH);
    const size = own < UDP.HEADER ? `bad length ${own}` : `${own - UDP.HEADER} bytes`;
    return `${source}.${udpSource(bytes, at)} > ${destination}.${udpDestination(bytes, at)}: UDP, ${size}`;
  }
  if (protocol === IP_PROTOCOL.ICMP) return `${pair}: ICMP ${icmp(ICMP_NAME, bytes, at)}`;
  if (protocol === IP_PROTOCOL.ICMPV6) return `${pair}: ICMPv6 ${icmp(ICMPV6_NAME, bytes, at)}`;
  return `${pair}: protocol ${protocol}`;
}

function tcp(bytes: Uint8Array, at: number, length: number): string {
  const flags = bytes[at + TCP.FLAGS] as number;
  const letters = FLAG_LETTERS.map(([bit, letter]) => (flags & bit ? letter : '')).join('');
  const header = ((bytes[at + TCP.DATA_OFFSET] as number) >>> 4) * 4;
  const acknowledged = flags & TCP_FLAG.ACK ? ` ack ${tcpAcknowledgment(bytes, at)}` : '';
  const window = get16(bytes, at + TCP.WINDOW);
  return `[${letters}] seq ${tcpSequence(bytes, at)}${acknowledged} win ${window}, ${Math.max(length - header, 0)} bytes`;
}

function icmp(names: Readonly<Record<number, string>>, bytes: Uint8Array, at: number): string {
  if (bytes.length < at + ICMP.HEADER) return CUT;
  const type = bytes[at + ICMP.TYPE] as number;
  const name = names[type] ?? `type ${type}`;
  if (!name.startsWith('echo')) return `${name} (code ${bytes[at + ICMP.CODE]})`;
  return `${name} id ${get16(bytes, at + ICMP.ID)} seq ${get16(bytes, at + ICMP.SEQUENCE)}`;
}
