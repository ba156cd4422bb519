/**
 * A capture in shared memory: a ring of frames that a switch fills and one reader empties.
 *
 *   0  u32 head        bytes written so far, modulo 2^32; the switch's
 *  64  u32 tail        bytes read so far; the reader's
 * 128  u32 asleep      1: the reader waits for its doorbell; set by the reader, cleared by who rings
 * 192  entries of 32 bytes, one for each interface:
 *         0 f64 seen   frames of the port, lost ones included     8 f64 lost   frames without room in the ring
 *        16 u32 ended  1: the port is gone, nothing follows
 * then, from a page boundary, the data: records, each a multiple of 8 bytes, none over the end:
 *   0 u32 size   4 u32 captured   8 u32 original   12 u16 interface   14 u8 direction   15 u8 reason (255: delivered)
 *  16 u32 seconds   20 u32 nanoseconds   24 the frame's first `captured` bytes
 * A record with `captured` 0xffffffff has no more than the first two words: what follows is at the ring's beginning.
 *
 * Neither side trusts the other's words: a record is checked by the reader, the tail by the switch.
 */

export const RING = { HEAD: 0, TAIL: 64, ASLEEP: 128, INTERFACES: 192 } as const;
export const INTERFACE = { SEEN: 0, LOST: 8, ENDED: 16, SIZE: 32 } as const;
export const RECORD = {
  SIZE: 0,
  CAPTURED: 4,
  ORIGINAL: 8,
  INTERFACE: 12,
  DIRECTION: 14,
  REASON: 15,
  SECONDS: 16,
  NANOSECONDS: 20,
  DATA: 24,
} as const;

/** `captured` of the record that fills the end of the ring. */
export const FILLER = 0xffff_ffff;
/** `reason` of a frame that was delivered. */
export const NOT_DROPPED = 255;

const PAGE = 4096;

/** Where the data begins, from the start of the ring. */
export function dataOffset(interfaces: number): number {
  return Math.ceil((RING.INTERFACES + interfaces * INTERFACE.SIZE) / PAGE) * PAGE;
}

/** Bytes of a ring with `capacity` bytes of data, a power of two. */
export function ringBytes(interfaces: number, capacity: number): number {
  return dataOffset(interfaces) + capacity;
}
