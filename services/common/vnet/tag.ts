/**
 * The 802.1Q tag of a frame: 4 bytes behind the two MAC addresses, 0x8100, then PCP/DEI/id, both big-endian.
 * [IEEE 802.1Q §9.6]
 */
import type { Memory } from '#common/memory';

export const TAG_SIZE = 4;
/** Byte offset of the tag, or of the ethertype, in a frame. */
export const TAG_OFFSET = 12;
/** 0x8100 as a little-endian load of the wire's bytes sees it. */
export const TPID_LE = 0x0081;

/** What to do with the tag of a frame between two ports. */
export const TAG_KEEP = 0;
export const TAG_INSERT = 1;
export const TAG_REMOVE = 2;
export const TAG_REPLACE = 3;

/** Writes a tag with that control information (PCP, DEI, id) at `where`. */
export function writeTag(memory: Memory, where: number, tci: number): void {
  const { u8 } = memory;
  u8[where] = 0x81;
  u8[where + 1] = 0x00;
  u8[where + 2] = tci >>> 8;
  u8[where + 3] = tci & 0xff;
}

/** By how many bytes a frame grows. */
export function growth(tag: number): number {
  if (tag === TAG_INSERT) return TAG_SIZE;
  return tag === TAG_REMOVE ? -TAG_SIZE : 0;
}

/** Has a frame a tag afterwards? */
export function isTagged(before: boolean, tag: number): boolean {
  return tag === TAG_INSERT || (before && tag !== TAG_REMOVE);
}
