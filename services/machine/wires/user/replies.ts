/**
 * Frames that the user wire answers itself, beside libslirp: ARP, ping, TCP reset, DHCP and DNS.
 *
 * Each function reads the guest's frame and writes the reply to another place of the same memory; it returns the
 * reply's length. Headers of the guest's frame have been checked by the caller.
 */

import { ARP, ARP_REPLY, arpSenderIp, arpTargetIp, emitArpFrame } from '#common/wire/arp';
import { get16, get32, put32 } from '#common/wire/bytes';
import { pseudoSum, pseudoSum6 } from '#common/wire/checksum';
import {
  DHCP_CLIENT_PORT,
  DHCP_SERVER_PORT,
  type DhcpMessage,
  decodeDhcp,
  encodeDhcp,
} from '#common/wire/dhcp';
import { ETH, ETHERTYPE, emitEthernet, MAC_LENGTH } from '#common/wire/ethernet';
import { emitEcho, ICMP, ICMP_TYPE } from '#common/wire/icmp';
import { emitIpv4, IP_PROTOCOL, IPV4, ipv4Destination, ipv4Source, ipv4TotalLength } from '#common/wire/ipv4';
import { emitIpv6, IPV6 } from '#common/wire/ipv6';
import { MalformedError } from '#common/wire/malformed';
import { emitTcp, TCP, TCP_FLAG, tcpAcknowledgment, tcpSequence } from '#common/wire/tcp';
import { emitUdp, UDP } from '#common/wire/udp';
import { type DhcpServer, dhcpDestination } from './dhcp_server.ts';

/** MAC address of an IPv4 address of the network, as libslirp makes them: 52:55 and the address. */
export function macOf(address: number): Uint8Array {
  const mac = Uint8Array.of(0x52, 0x55, 0, 0, 0, 0);
  put32(mac, 2, address);
  return mac;
}

function macAt(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.slice(at, at + MAC_LENGTH);
}

/** Says that we have the address asked for. */
export function arpReply(bytes: Uint8Array, frame: number, out: number): number {
  const arp = frame + ETH.HEADER;
  const guest = macAt(bytes, arp + ARP.SENDER_MAC);
  const target = arpTargetIp(bytes, arp);
  return emitArpFrame(bytes, out, guest, {
    operation: ARP_REPLY,
    senderMac: macOf(target),
    senderIp: target,
    targetMac: guest,
    targetIp: arpSenderIp(bytes, arp),
  });
}

/** Ethernet and IPv4 headers of a reply to the guest's datagram with `payloadLength` bytes. Returns where the payload goes. */
function replyIpv4(
  bytes: Uint8Array,
  frame: number,
  out: number,
  protocol: number,
  payloadLength: number,
): number {
  const ip = frame + ETH.HEADER;
  const us = ipv4Destination(bytes, ip);
  const at = emitEthernet(bytes, out, macAt(bytes, frame + ETH.SOURCE), macOf(us), ETHERTYPE.IPV4);
  return emitIpv4(bytes, at, payloadLength, protocol, us, ipv4Source(bytes, ip));
}

/** Echo reply to the whole, checked echo request at `icmp`. */
export function echoReply(bytes: Uint8Array, frame: number, icmp: number, out: number): number {
  const ip = frame + ETH.HEADER;
  const length = ipv4TotalLength(bytes, ip) - (icmp - ip);
  const at = replyIpv4(bytes, frame, out, IP_PROTOCOL.ICMP, length);
  bytes.copyWithin(at + ICMP.BODY, icmp + ICMP.BODY, icmp + length);
  emitEcho(
    bytes,
    at,
    ICMP_TYPE.ECHO_REPLY,
    get16(bytes, icmp + ICMP.ID),
    get16(bytes, icmp + ICMP.SEQUENCE),
    length - ICMP.HEADER,
  );
  return at + length - out;
}

/** Reset in answer to the segment at `tcp` [RFC 9293 §3.5.2]; 0 when it is a reset itself. */
export function tcpReset(bytes: Uint8Array, frame: number, tcp: number, out: number): number {
  const ip = frame + ETH.HEADER;
  const flags = bytes[tcp + TCP.FLAGS] as number;
  if (flags & TCP_FLAG.RST) return 0;
  const header = ((bytes[tcp + TCP.DATA_OFFSET] as number) >>> 4) * 4;
  const size = ipv4TotalLength(bytes, ip) - (tcp - ip) - header;
  const occupied = size + (flags & TCP_FLAG.SYN ? 1 : 0) + (flags & TCP_FLAG.FIN ? 1 : 0);
  const acked = (flags & TCP_FLAG.ACK) !== 0;
  const at = replyIpv4(bytes, frame, out, IP_PROTOCOL.TCP, TCP.HEADER);
  const segment = {
    source: get16(bytes, tcp + TCP.DESTINATION),
    destination: get16(bytes, tcp + TCP.SOURCE),
    sequence: acked ? tcpAcknowledgment(bytes, tcp) : 0,
    acknowledgment: acked ? 0 : (tcpSequence(bytes, tcp) + occupied) >>> 0,
    flags: acked ? TCP_FLAG.RST : TCP_FLAG.RST | TCP_FLAG.ACK,
    window: 0,
  };
  const pseudo = pseudoSum(ipv4Destination(bytes, ip), ipv4Source(bytes, ip), IP_PROTOCOL.TCP, TCP.HEADER);
  emitTcp(bytes, at, segment, 0, pseudo);
  return at + TCP.HEADER - out;
}

/** Where the payload of a UDP reply over IPv4 (or IPv6) lies, from the start of the frame. */
export const UDP4_PAYLOAD = ETH.HEADER + IPV4.HEADER + UDP.HEADER;
export const UDP6_PAYLOAD = ETH.HEADER + IPV6.HEADER + UDP.HEADER;

/** Completes the reply to the datagram whose UDP header is at `udp`; its payload lies at `out + UDP4_PAYLOAD`. */
export function udpReply(
  bytes: Uint8Array,
  frame: number,
  udp: number,
  out: number,
  payloadLength: number,
): number {
  const ip = frame + ETH.HEADER;
  const length = UDP.HEADER + payloadLength;
  const at = replyIpv4(bytes, frame, out, IP_PROTOCOL.UDP, length);
  const pseudo = pseudoSum(ipv4Destination(bytes, ip), ipv4Source(bytes, ip), IP_PROTOCOL.UDP, length);
  return answer(bytes, udp, at, payloadLength, pseudo) - out;
}

/** The same over IPv6; the payload lies at `out + UDP6_PAYLOAD`. */
export function udpReply6(
  bytes: Uint8Array,
  frame: number,
  udp: number,
  out: number,
  payloadLength: number,
): number {
  const ip = frame + ETH.HEADER;
  const length = UDP.HEADER + payloadLength;
  const us = bytes.slice(ip + IPV6.DESTINATION, ip + IPV6.DESTINATION + 16);
  const guest = bytes.slice(ip + IPV6.SOURCE, ip + IPV6.SOURCE + 16);
  const at = emitEthernet(bytes, out, macAt(bytes, frame + ETH.SOURCE), macAt(bytes, frame), ETHERTYPE.IPV6);
  const header = emitIpv6(bytes, at, length, IP_PROTOCOL.UDP, us, guest);
  const pseudo = pseudoSum6(bytes, at, IP_PROTOCOL.UDP, length);
  return answer(bytes, udp, header, payloadLength, pseudo) - out;
}

/** Writes the UDP header at `at`, from the port that the datagram at `udp` went to; returns where its payload ends. */
function answer(bytes: Uint8Array, udp: number, at: number, payloadLength: number, pseudo: number): number {
  const [from, to] = [get16(bytes, udp + UDP.DESTINATION), get16(bytes, udp + UDP.SOURCE)];
  emitUdp(bytes, at, from, to, payloadLength, pseudo);
  return at + UDP.HEADER + payloadLength;
}

const BROADCAST = new Uint8Array(MAC_LENGTH).fill(0xff);

/** What `server` (at address `us`) says to the DHCP message in `length` bytes at `at`; 0: nothing. */
export function dhcpReply(
  bytes: Uint8Array,
  at: number,
  length: number,
  server: DhcpServer,
  us: number,
  out: number,
): number {
  const request = dhcpMessage(bytes, at, length);
  const reply = request && server.answer(request);
  if (request === undefined || reply === undefined) return 0;
  const size = encodeDhcp(reply, bytes, out + UDP4_PAYLOAD);
  const to = dhcpDestination(reply, request);
  const mac = to === 0xffffffff ? BROADCAST : request.chaddr;
  const ip = emitEthernet(bytes, out, mac, macOf(us), ETHERTYPE.IPV4);
  const udp = emitIpv4(bytes, ip, UDP.HEADER + size, IP_PROTOCOL.UDP, us, to);
  const pseudo = pseudoSum(us, to, IP_PROTOCOL.UDP, UDP.HEADER + size);
  emitUdp(bytes, udp, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, size, pseudo);
  return UDP4_PAYLOAD + size;
}

function dhcpMessage(bytes: Uint8Array, at: number, length: number): DhcpMessage | undefined {
  try {
    return decodeDhcp(bytes, at, length);
  } catch (err) {
    if (err instanceof MalformedError) return undefined;
    throw err;
  }
}

/**
 * SERVFAIL's frame in place of an ICMP error that slirp sent about a DNS query: `error` is that frame, the query it quotes
 * stands at `quoted` (its IPv4 header). The payload lies at `out + UDP4_PAYLOAD`.
 */
export function udpReplyToQuoted(
  bytes: Uint8Array,
  error: number,
  quoted: number,
  quotedUdp: number,
  out: number,
  payloadLength: number,
): number {
  const us = ipv4Destination(bytes, quoted);
  const guest = ipv4Source(bytes, quoted);
  const length = UDP.HEADER + payloadLength;
  const eth = emitEthernet(bytes, out, macAt(bytes, error + ETH.DESTINATION), macOf(us), ETHERTYPE.IPV4);
  const at = emitIpv4(bytes, eth, length, IP_PROTOCOL.UDP, us, guest);
  const ports = get32(bytes, quotedUdp);
  emitUdp(
    bytes,
    at,
    ports & 0xffff,
    ports >>> 16,
    payloadLength,
    pseudoSum(us, guest, IP_PROTOCOL.UDP, length),
  );
  return at + length - out;
}
