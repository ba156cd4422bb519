/**
 * DHCP and ARP frames below lwIP: lwIP drops everything on an interface without an address, and its UDP could not say which
 * interface to use. So the client sends whole frames and sees received ones first (`Netif.tap`).
 */
import type { Memory } from '#common/memory';
import { ARP, ARP_REPLY, ARP_REQUEST, arpSenderIp, checkArp, emitArpFrame } from '#common/wire/arp';
import { pseudoSum } from '#common/wire/checksum';
import {
  DHCP_CLIENT_PORT,
  DHCP_SERVER_PORT,
  type DhcpMessage,
  decodeDhcp,
  encodeDhcp,
} from '#common/wire/dhcp';
import { ETH, ETHERTYPE, emitEthernet, etherType, MAX_FRAME } from '#common/wire/ethernet';
import {
  checkIpv4,
  emitIpv4,
  IP_PROTOCOL,
  IPV4,
  ipv4ChecksumOk,
  ipv4Destination,
  ipv4Source,
  ipv4TotalLength,
  isFragment,
} from '#common/wire/ipv4';
import { checkUdp, emitUdp, UDP, udpChecksumOk, udpDestination, udpSource } from '#common/wire/udp';

export const BROADCAST_MAC = new Uint8Array(6).fill(0xff);
export const BROADCAST_IP = 0xffffffff;

/** Where a message goes: to everybody, or to the server that gave the lease (by the MAC its ACK came from). */
export interface Destination {
  readonly mac: Uint8Array;
  readonly ip: number;
}

/** The whole frame for a client's message. */
export function dhcpFrame(message: DhcpMessage, mac: Uint8Array, to: Destination): Uint8Array {
  const frame = new Uint8Array(MAX_FRAME);
  const ip = emitEthernet(frame, 0, to.mac, mac, ETHERTYPE.IPV4);
  const udp = ip + IPV4.HEADER;
  const length = encodeDhcp(message, frame, udp + UDP.HEADER);
  emitIpv4(frame, ip, UDP.HEADER + length, IP_PROTOCOL.UDP, message.ciaddr, to.ip);
  const pseudo = pseudoSum(message.ciaddr, to.ip, IP_PROTOCOL.UDP, UDP.HEADER + length);
  emitUdp(frame, udp, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, length, pseudo);
  return frame.subarray(0, udp + UDP.HEADER + length);
}

/** An ARP probe [RFC 5227 §2.1.1]: who has `ip`? asked by nobody. */
export function probeFrame(ip: number, mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETH.HEADER + ARP.SIZE);
  emitArpFrame(frame, 0, BROADCAST_MAC, {
    operation: ARP_REQUEST,
    senderMac: mac,
    senderIp: 0,
    targetMac: new Uint8Array(6),
    targetIp: ip,
  });
  return frame;
}

/** What the client hears. */
export interface Heard {
  /** A well-formed message for port 68; `sender` is the frame's source MAC. */
  message(message: DhcpMessage, sender: Uint8Array): void;
  /** Something for port 68 that is no DHCP message. */
  malformed(reason: string): void;
  /** Somebody else sent ARP with this address as its own. */
  arp(ip: number): void;
}

/** A tap for `Netif`: passes DHCP and ARP frames to `heard`. True for DHCP frames: lwIP need not see them. */
export function dhcpTap(
  memory: Memory,
  mac: Uint8Array,
  heard: Heard,
): (offset: number, length: number) => boolean {
  const { u8 } = memory;
  return (at, length) => {
    if (length < ETH.HEADER + ARP.SIZE) return false;
    const type = etherType(u8, at);
    const body = at + ETH.HEADER;
    if (type === ETHERTYPE.ARP) {
      const operation = checkArp(u8, body, length - ETH.HEADER);
      const known = operation === ARP_REQUEST || operation === ARP_REPLY;
      const own = mac.every((byte, i) => u8[body + ARP.SENDER_MAC + i] === byte);
      if (known && !own) heard.arp(arpSenderIp(u8, body));
      return false;
    }
    if (type !== ETHERTYPE.IPV4) return false;
    const payload = dhcpPayload(u8, body, length - ETH.HEADER);
    if (payload < 0) return false;
    const forUs = u8[at] === 0xff || mac.every((byte, i) => u8[at + i] === byte);
    if (!forUs) return true;
    try {
      const size = udpPayloadLength(u8, payload);
      heard.message(decodeDhcp(u8, payload, size), u8.slice(at + ETH.SOURCE, at + ETH.SOURCE + 6));
    } catch (err) {
      heard.malformed(err instanceof Error ? err.message : String(err));
    }
    return true;
  };
}

/** Offset of the UDP payload when the datagram goes from port 67 to port 68 and is whole; otherwise -1. */
function dhcpPayload(u8: Uint8Array, ip: number, length: number): number {
  const header = checkIpv4(u8, ip, length);
  if (header < 0 || u8[ip + IPV4.PROTOCOL] !== IP_PROTOCOL.UDP || isFragment(u8, ip)) return -1;
  const udp = ip + header;
  if (checkUdp(u8, udp, ipv4TotalLength(u8, ip) - header) < 0) return -1;
  if (udpSource(u8, udp) !== DHCP_SERVER_PORT || udpDestination(u8, udp) !== DHCP_CLIENT_PORT) return -1;
  if (!ipv4ChecksumOk(u8, ip, header)) return -1;
  return udpChecksumOk(u8, udp, ipv4Source(u8, ip), ipv4Destination(u8, ip)) ? udp + UDP.HEADER : -1;
}

function udpPayloadLength(u8: Uint8Array, payload: number): number {
  return checkUdp(u8, payload - UDP.HEADER, 0xffff);
}
