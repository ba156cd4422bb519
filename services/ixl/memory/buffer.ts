/**
 * Layout of a packet buffer (F5.9): 64 bytes of header, then 1984 bytes for the frame.
 *
 * A buffer is known by the arena offset of its first byte. The header belongs to whoever holds the
 * buffer: a driver writes LENGTH on receive, a sender before transmit. What the free list needs is not
 * kept here but in private memory (`Mempool`), since peers may map packet buffers too. The 36 bytes
 * before the data are headroom: a 12-byte virtio-net header fits right before the frame, so that a
 * received frame becomes a virtio buffer without a copy.
 */
import type { Memory } from '#common/memory';

export const BUFFER = {
  /** Bytes of a whole buffer. */
  SIZE: 2048,
  /** Where the frame starts. */
  DATA: 64,
  /** Room for the frame, in bytes. */
  ROOM: 1984,
  /** u64: address of DATA as the NIC sees it; for people who debug, nobody reads it back. */
  DMA: 0,
  /** u32: number of the buffer in its pool. */
  INDEX: 16,
  /** u32: length of the frame. */
  LENGTH: 20,
} as const;

/** Largest frame without FCS (F5.1 get_max_frame_size). */
export const MAX_FRAME = 1514;
/** An Ethernet header: nothing shorter is a frame. */
export const MIN_FRAME = 14;

/** Length of the frame in a buffer, in bytes. */
export function lengthOf(memory: Memory, buffer: number): number {
  return memory.u32[(buffer + BUFFER.LENGTH) >>> 2] as number;
}

export function setLength(memory: Memory, buffer: number, length: number): void {
  memory.u32[(buffer + BUFFER.LENGTH) >>> 2] = length;
}
