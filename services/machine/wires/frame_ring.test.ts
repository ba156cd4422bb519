import { describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import fc from '#common/testing/fast_check';
import { FrameRing, SLOT_SIZE } from './frame_ring.ts';

const arena = new Arena(2 ** 20);

describe('FrameRing', () => {
  it('keeps order and loses nothing, whatever the NIC takes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(6), fc.nat(6)), { maxLength: 40 }), (steps) => {
        const ring = new FrameRing(arena, 4);
        let sent = 0;
        let seen = 0;
        for (const [offers, room] of steps) {
          for (let n = 0; n < offers; n++) {
            const slot = ring.slot();
            expect(slot < 0).toBe(sent - seen === 4);
            if (slot < 0) break;
            arena.u8[slot] = sent;
            ring.commit(60 + (sent % 100));
            sent += 1;
          }
          let left = room;
          const before = seen;
          const took = ring.deliver({
            receive: (offset, length) => {
              if (left === 0) return false;
              left -= 1;
              expect([arena.u8[offset], length]).toEqual([seen & 0xff, 60 + (seen % 100)]);
              seen += 1;
              return true;
            },
            linkChanged: () => undefined,
          });
          expect([took, ring.count, ring.free]).toEqual([seen > before, sent - seen, 4 - (sent - seen)]);
        }
        ring.close();
      }),
    );
  });

  it('starts again at its first slot when it has run empty', () => {
    const ring = new FrameRing(arena, 4);
    const first = ring.slot();
    ring.commit(60);
    expect(ring.slot()).toBe(first + SLOT_SIZE);
    ring.deliver({ receive: () => true, linkChanged: () => undefined });
    expect(ring.slot()).toBe(first);
    ring.close();
  });

  it('refuses a size that is no power of two', () => {
    expect(() => new FrameRing(arena, 3)).toThrow(/slots must be a power of 2: current value is 3/);
  });
});
