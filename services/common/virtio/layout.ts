/**
 * Split virtqueue: offsets, sizes and flags [VIRTIO 1.2 §2.7]. Numbers only; no behaviour.
 *
 *   descriptor table  the driver writes   16 bytes each: addr u64, len u32, flags u16, next u16
 *   avail ring        the driver writes   flags u16, idx u16, ring u16[size], used_event u16
 *   used ring         the device writes   flags u16, idx u16, { id u32, len u32 }[size], avail_event u16
 */

export const DESC_SIZE = 16;
export const DESC_F_NEXT = 1;
export const DESC_F_WRITE = 2;
export const DESC_F_INDIRECT = 4;

export const AVAIL_F_NO_INTERRUPT = 1;
export const USED_F_NO_NOTIFY = 1;

export const DESC_ALIGN = 16;
export const AVAIL_ALIGN = 2;
export const USED_ALIGN = 4;

export const MAX_QUEUE_SIZE = 32768;

/** Where one queue's three areas lie: byte offsets in a `Memory`, or device addresses. */
export interface QueueLayout {
  /** Number of descriptors, a power of two up to 32768. */
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

export function descBytes(size: number): number {
  return DESC_SIZE * size;
}

/** Bytes of the avail ring, used_event included. */
export function availBytes(size: number): number {
  return 6 + 2 * size;
}

/** Bytes of the used ring, avail_event included. */
export function usedBytes(size: number): number {
  return 6 + 8 * size;
}

export function isQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 1 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0;
}

/** The words of a queue's rings: indices into 16-bit words, of the used ring's entries into 32-bit words. */
export interface RingWords {
  readonly availFlags: number;
  readonly availIdx: number;
  readonly availRing: number;
  readonly usedEvent: number;
  readonly usedFlags: number;
  readonly usedIdx: number;
  readonly availEvent: number;
  /** Pairs of id and length. */
  readonly usedRing: number;
}

/** Where the words of a queue are whose layout holds offsets in a `Memory`. */
export function ringWords({ size, avail, used }: QueueLayout): RingWords {
  const [availFlags, usedFlags] = [avail / 2, used / 2];
  return {
    availFlags,
    availIdx: availFlags + 1,
    availRing: availFlags + 2,
    usedEvent: availFlags + 2 + size,
    usedFlags,
    usedIdx: usedFlags + 1,
    availEvent: usedFlags + 2 + 4 * size,
    usedRing: used / 4 + 1,
  };
}

/** Lays the three areas out one after the other from `at` (16-aligned), as the stock L4Re client does. */
export function layoutQueue(size: number, at: number): QueueLayout {
  const avail = at + descBytes(size);
  return { size, desc: at, avail, used: alignUp(avail + availBytes(size), USED_ALIGN) };
}

/** Bytes that `layoutQueue` needs, rounded up so that another queue can follow. */
export function queueBytes(size: number): number {
  return alignUp(layoutQueue(size, 0).used + usedBytes(size), DESC_ALIGN);
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/**
 * True when the peer asked to hear about an index in [oldIdx, newIdx), all mod 65536: it wrote the
 * index of the entry whose writing is to wake it [VIRTIO 1.2 §2.7.7, §2.7.10].
 */
export function needsEvent(event: number, newIdx: number, oldIdx: number): boolean {
  return ((newIdx - event - 1) & 0xffff) < ((newIdx - oldIdx) & 0xffff);
}

/** Throws RangeError unless a queue can work at these offsets of a memory: a mistake of ours, not of a peer. */
export function checkLayout(layout: QueueLayout, memoryBytes: number): void {
  const { size, desc, avail, used } = layout;
  if (!isQueueSize(size)) {
    throw new RangeError(
      `Cannot use virtqueue as its size must be a power of two 1..${MAX_QUEUE_SIZE}: current value is ${size}`,
    );
  }
  checkArea('descriptor table', desc, DESC_ALIGN, descBytes(size), memoryBytes);
  checkArea('avail ring', avail, AVAIL_ALIGN, availBytes(size), memoryBytes);
  checkArea('used ring', used, USED_ALIGN, usedBytes(size), memoryBytes);
}

function checkArea(what: string, at: number, alignment: number, bytes: number, memoryBytes: number): void {
  if (!Number.isInteger(at) || at < 0 || at % alignment !== 0 || at + bytes > memoryBytes) {
    throw new RangeError(
      `Cannot use virtqueue as its ${what} of ${bytes} bytes must be ${alignment}-aligned inside ${memoryBytes} bytes: current offset is ${at}`,
    );
  }
}
