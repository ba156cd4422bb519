/** Where the two processes of `event_idx.test.ts` have their rings and slots: device addresses and offsets in one memory. */
import { queueBytes } from '#common/virtio/layout';

export const SLOT_BYTES = 128;
/** So many parts the frames have: before the next one begins, all of the last are back and the driver has slept. */
export const DRAINS = 500;

/** `entries` of each queue; receive slots first, then as many to send. */
export function echoLayout(entries: number): { rx: number; tx: number; slots: number; bytes: number } {
  const tx = queueBytes(entries);
  const slots = tx + queueBytes(entries);
  return { rx: 0, tx, slots, bytes: slots + 2 * entries * SLOT_BYTES };
}
