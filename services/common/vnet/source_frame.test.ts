import { expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { SourceFrame } from './source_frame.ts';
import { ethernet } from './testing/mock_client.ts';

const SCRATCH = 16;

/** The frame in pieces that end at each of `cuts`; what lies behind it looks like the rest of a tag. */
function load(bytes: Uint8Array, cuts: readonly number[]): SourceFrame {
  const memory = new Memory(new ArrayBuffer(4096));
  memory.u8.fill(7);
  const frame = new SourceFrame(memory, 0);
  const ends = [...cuts, bytes.length];
  const starts = [0, ...cuts];
  const where = starts.map((start) => SCRATCH + start * 3);
  for (const [n, start] of starts.entries()) memory.u8.set(bytes.slice(start, ends[n]), where[n]);
  expect(
    frame.loadBare({ count: where.length, where, len: ends.map((end, n) => end - (starts[n] as number)) }),
  ).toBe(true);
  return frame;
}

it.each([
  ['in one piece', []],
  ['in pieces', [5, 13]],
])('SourceFrame.load() sees a tag only when all of it is there, %s', (_name, cuts) => {
  const whole = ethernet(1, 0, { vlan: 5 });
  const seen = [14, 15, 16, 60].map((length) => {
    const { tagged, tci } = load(whole.subarray(0, length), cuts);
    return [tagged, tci];
  });
  expect(seen).toEqual([
    [false, 0],
    [false, 0],
    [true, 5],
    [true, 5],
  ]);
});
