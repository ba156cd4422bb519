/**
 * Frames as they are on a wire, for receivers that know no offloads: the buffers of a NIC, the datagrams of a tunnel.
 *
 * Checksums that the sender has left to do are done; a frame that the sender has left to segment is taken from a
 * `Segmenter`, one segment at a time. Nothing is allocated.
 */
import type { Memory } from '#common/memory';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { checksumOf, storeSum, sumBytes } from './checksum.ts';
import { copyBytes } from './copy.ts';
import { FRAME_CSUM } from './offload.ts';
import type { Segmenter } from './segmenter.ts';
import type { SourceFrame } from './source_frame.ts';
import { growth, TAG_INSERT, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from './tag.ts';

/** Copies a frame of any kind but FRAME_TSO to `to`, with that change of its tag. Returns its bytes. */
export function copyPlain(memory: Memory, frame: SourceFrame, to: number, tag: number, tci: number): number {
  copyTagged(memory, frame, to, tag, tci);
  const shift = growth(tag);
  const length = frame.length + shift;
  if (frame.kind !== FRAME_CSUM) return length;
  // In the copy, which its sender cannot change.
  const start = frame.offload.csumStart + shift;
  const sum = sumBytes(memory, to + start, length - start);
  storeSum(memory, to + start + frame.offload.csumOffset, checksumOf(sum));
  return length;
}

/** Copies the present segment of `segmenter` to `to`. Returns its bytes. */
export function copySegment(memory: Memory, frame: SourceFrame, segmenter: Segmenter, to: number): number {
  const { header, headerBytes, from, to: end } = segmenter;
  copyBytes(memory, to, header + NET_HDR_SIZE, headerBytes);
  frame.copyTo(to + headerBytes, from, end);
  return headerBytes + end - from;
}

function copyTagged(memory: Memory, frame: SourceFrame, to: number, tag: number, tci: number): void {
  if (tag === TAG_KEEP) {
    frame.copyTo(to, 0, frame.length);
    return;
  }
  const before = Math.min(TAG_OFFSET, frame.length);
  frame.copyTo(to, 0, before);
  const written = tag === TAG_REMOVE ? before : before + TAG_SIZE;
  if (tag !== TAG_REMOVE) writeTag(memory, to + before, tci);
  const after = tag === TAG_INSERT ? before : TAG_OFFSET + TAG_SIZE;
  if (after < frame.length) frame.copyTo(to + written, after, frame.length);
}
