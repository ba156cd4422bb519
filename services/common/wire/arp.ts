/** ARP for IPv4 over Ethernet [RFC 826]. Offsets are from the first byte behind the Ethernet header. */

import { get16, get32, put16, put32 } from './bytes.ts';
import { ETH, ETHERTYPE, emitEthernet } from './ethernet.ts';
import { MALFORMED } from './malformed.ts';

/** Byte offsets in the ARP packet. */
export const ARP = {
  HARDWARE_TYPE: 0,
  PROTOCOL_TYPE: 2,
  HARDWARE_LENGTH: 4,
  PROTOCOL_LENGTH: 5,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_IP: 14,
  TARGET_MAC: 18,
  TARGET_IP: 24,
  SIZE: 28,
} as const;

export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
const HARDWARE_ETHERNET = 1;

/** The operation (1 request, 2 reply, ...) of a well-formed packet, or a negative `MALFORMED` reason. */
export function checkArp(bytes: Uint8Array, at: number, length: number): number {
  if (length < ARP.SIZE) return MALFORMED.TRUNCATED;
  if (get16(bytes, at + ARP.HARDWARE_TYPE) !== HARDWARE_ETHERNET) return MALFORMED.VERSION;
  if (get16(bytes, at + ARP.PROTOCOL_TYPE) !== ETHERTYPE.IPV4) return MALFORMED.VERSION;
  if (bytes[at + ARP.HARDWARE_LENGTH] !== 6 || bytes[at + ARP.PROTOCOL_LENGTH] !== 4) return MALFORMED.LENGTH;
  return get16(bytes, at + ARP.OPERATION);
}

export function arpSenderIp(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + ARP.SENDER_IP);
}

export function arpTargetIp(bytes: Uint8Array, at: number): number {
  return get32(bytes, at + ARP.TARGET_IP);
}

/** One ARP packet as values; addresses as 6 bytes and 32-bit numbers. */
export interface ArpPacket {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly senderIp: number;
  readonly targetMac: Uint8Array;
  readonly targetIp: number;
}

/** Writes a whole frame (Ethernet and ARP, 42 bytes) to `destination` at `at`. Returns its length. */
export function emitArpFrame(
  bytes: Uint8Array,
  at: number,
  destination: Uint8Array,
  packet: ArpPacket,
): number {
  const arp = emitEthernet(bytes, at, destination, packet.senderMac, ETHERTYPE.ARP);
  put16(bytes, arp + ARP.HARDWARE_TYPE, HARDWARE_ETHERNET);
  put16(bytes, arp + ARP.PROTOCOL_TYPE, ETHERTYPE.IPV4);
  bytes[arp + ARP.HARDWARE_LENGTH] = 6;
  bytes[arp + ARP.PROTOCOL_LENGTH] = 4;
  put16(bytes, arp + ARP.OPERATION, packet.operation);
  bytes.set(packet.senderMac, arp + ARP.SENDER_MAC);
  put32(bytes, arp + ARP.SENDER_IP, packet.senderIp);
  bytes.set(packet.targetMac, arp + ARP.TARGET_MAC);
  put32(bytes, arp + ARP.TARGET_IP, packet.targetIp);
  return ETH.HEADER + ARP.SIZE;
}
