/**
 * The 12-byte header before each frame [VIRTIO 1.2 §5.1.6], little-endian.
 *
 * With VERSION_1 it always has num_buffers, MRG_RXBUF or not. Accessors take the `Memory` and the
 * header's byte offset in it, at any alignment: a driver may place it anywhere.
 */
import type { Memory } from '#common/memory';

export const NET_HDR_SIZE = 12;
export const NET_HDR = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HDR_LEN: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
  NUM_BUFFERS: 10,
} as const;

/** The checksum from csum_start on is still to be computed and stored at csum_start + csum_offset. */
export const NET_HDR_F_NEEDS_CSUM = 1;
/** The checksum has been checked. */
export const NET_HDR_F_DATA_VALID = 2;

export const NET_HDR_GSO_NONE = 0;
export const NET_HDR_GSO_TCPV4 = 1;
export const NET_HDR_GSO_UDP = 3;
export const NET_HDR_GSO_TCPV6 = 4;
/** May be added to a TCP type. */
export const NET_HDR_GSO_ECN = 0x80;

export function flags(memory: Memory, at: number): number {
  return memory.u8[at + NET_HDR.FLAGS] as number;
}

export function gsoType(memory: Memory, at: number): number {
  return memory.u8[at + NET_HDR.GSO_TYPE] as number;
}

export function hdrLen(memory: Memory, at: number): number {
  return read16(memory.u8, at + NET_HDR.HDR_LEN);
}

export function gsoSize(memory: Memory, at: number): number {
  return read16(memory.u8, at + NET_HDR.GSO_SIZE);
}

export function csumStart(memory: Memory, at: number): number {
  return read16(memory.u8, at + NET_HDR.CSUM_START);
}

export function csumOffset(memory: Memory, at: number): number {
  return read16(memory.u8, at + NET_HDR.CSUM_OFFSET);
}

/** Number of chains that hold the frame; 1 unless MRG_RXBUF was negotiated. */
export function numBuffers(memory: Memory, at: number): number {
  return read16(memory.u8, at + NET_HDR.NUM_BUFFERS);
}

export function setNumBuffers(memory: Memory, at: number, count: number): void {
  memory.u8[at + NET_HDR.NUM_BUFFERS] = count;
  memory.u8[at + NET_HDR.NUM_BUFFERS + 1] = count >>> 8;
}

/** Writes the header of a frame without offloads: all zero but hdr_len and num_buffers. */
export function writePlainHeader(memory: Memory, at: number, headerLength: number, buffers: number): void {
  const { u8 } = memory;
  for (let i = 0; i < NET_HDR_SIZE; i++) u8[at + i] = 0;
  u8[at + NET_HDR.HDR_LEN] = headerLength;
  u8[at + NET_HDR.HDR_LEN + 1] = headerLength >>> 8;
  u8[at + NET_HDR.NUM_BUFFERS] = buffers;
  u8[at + NET_HDR.NUM_BUFFERS + 1] = buffers >>> 8;
}

function read16(u8: Uint8Array, at: number): number {
  return (u8[at] as number) | ((u8[at + 1] as number) << 8);
}
