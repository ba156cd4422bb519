/** TCP segments without data, as frames that a test makes up. */
import { put16, put32 } from '#common/wire/bytes';
import { finish, pseudoSum, sumOf } from '#common/wire/checksum';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { emitIpv4, IP_PROTOCOL, IPV4 } from '#common/wire/ipv4';

export const TCP_FLAG = { FIN: 0x01, SYN: 0x02, RST: 0x04, ACK: 0x10 } as const;

/** Where the TCP header begins in a frame whose IPv4 header has no options. */
export const TCP_AT = 34;
const TCP_HEADER = 20;

export interface Segment {
  readonly fromMac: Uint8Array;
  readonly toMac: Uint8Array;
  readonly fromIp: number;
  readonly toIp: number;
  readonly fromPort: number;
  readonly toPort: number;
  readonly flags: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  /** 64 KiB unless given. */
  readonly window?: number;
}

/** The whole frame. */
export function segmentFrame(segment: Segment): Uint8Array {
  const frame = new Uint8Array(TCP_AT + TCP_HEADER);
  const ip = emitEthernet(frame, 0, segment.toMac, segment.fromMac, ETHERTYPE.IPV4);
  emitIpv4(frame, ip, TCP_HEADER, IP_PROTOCOL.TCP, segment.fromIp, segment.toIp);
  const tcp = ip + IPV4.HEADER;
  put16(frame, tcp, segment.fromPort);
  put16(frame, tcp + 2, segment.toPort);
  put32(frame, tcp + 4, (segment.sequence ?? 0) >>> 0);
  put32(frame, tcp + 8, (segment.acknowledgement ?? 0) >>> 0);
  put16(frame, tcp + 12, (5 << 12) | segment.flags);
  put16(frame, tcp + 14, segment.window ?? 0xffff);
  const pseudo = pseudoSum(segment.fromIp, segment.toIp, IP_PROTOCOL.TCP, TCP_HEADER);
  put16(frame, tcp + 16, finish(pseudo + sumOf(frame, tcp, TCP_HEADER)));
  return frame;
}

/** The flags of the segment in a frame at this offset. */
export function flagsOf(u8: Uint8Array, at = 0): number {
  return u8[at + TCP_AT + 13] as number;
}
