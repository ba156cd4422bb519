/** Frames whose every byte is known from their number. */

/** To everybody, from 02:00:00:00:00:01, of the ethertype for experiments; number `n` and a pattern. */
export function numberedFrame(n: number, length: number): Uint8Array {
  const frame = new Uint8Array(length);
  frame.fill(0xff, 0, 6);
  frame.set([2, 0, 0, 0, 0, 1, 0x88, 0xb5, n >>> 24, n >>> 16, n >>> 8, n], 6);
  for (let i = 18; i < length; i++) frame[i] = n + i;
  return frame;
}
