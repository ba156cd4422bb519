/** Drivers that are out of their minds: whatever they write, the model stays inside of what is mapped. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { REG } from '#common/nic/e1000';
import { frame, TinyDriver } from '../testing/tiny_driver.ts';

const RINGS = 0x20000;
const RINGS_END = 0x30000;
const BUFFERS = 0x100000;
const BUFFERS_END = 0x200000;
const WIRE = 0x300000;
const GUARD = 0x5a;

/** Everything that is neither scratch, ones, mapped nor the wire's. */
const GUARDED = [
  [0x14000, RINGS],
  [RINGS_END, BUFFERS],
  [BUFFERS_END, WIRE],
  [WIRE + 0x10000, 0x400000],
] as const;

const OFFSETS = Object.values(REG).map(({ offset }) => offset);
const word = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(0x1000_0000, 0x1000_8000, 0x1020_0000, 0x102f_fff0, 0xffff_ffff),
);
/** Descriptor words that get far: plausible commands, addresses in and beside the mappings. */
const descriptor = fc.tuple(
  fc.oneof(
    word,
    fc.integer({ min: 0x1020_0000, max: 0x1030_1000 }),
    // Starts inside the buffers and runs over their end.
    fc.integer({ min: 0x102f_fc00, max: 0x1030_0000 }),
  ),
  fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, word),
  fc.oneof(
    word,
    fc
      .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 0x1fffff }))
      .map(([command, rest]) => ((command << 24) | rest) >>> 0),
  ),
  word,
);
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset: fc.constantFrom(...OFFSETS), value: word }),
  fc.record({ kind: fc.constant('wild' as const), offset: word, value: word }),
  fc.record({ kind: fc.constant('read' as const), offset: fc.constantFrom(...OFFSETS) }),
  fc.record({
    kind: fc.constant('descriptors' as const),
    at: fc.integer({ min: 0, max: 31 }),
    list: fc.array(descriptor, { maxLength: 8 }),
  }),
  fc.record({
    kind: fc.constant('frame' as const),
    length: fc.oneof(fc.integer({ min: 0, max: 17000 }), fc.integer({ min: 60, max: 1514 })),
  }),
  fc.record({ kind: fc.constant('poll' as const) }),
  fc.record({ kind: fc.constant('master' as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant('start' as const) }),
);

function perform(driver: TinyDriver, action: typeof step extends fc.Arbitrary<infer T> ? T : never): void {
  switch (action.kind) {
    case 'write':
    case 'wild':
      driver.nic.write32(action.offset, action.value);
      break;
    case 'read': {
      const value = driver.nic.read32(action.offset);
      expect(value >>> 0).toBe(value);
      break;
    }
    case 'descriptors':
      action.list.forEach((words, n) => {
        // Both rings get the same: receive at 0, transmit at half.
        const at = ((action.at + n) % 32) * 16;
        driver.memory.u32.set(words, (RINGS + at) >>> 2);
        driver.memory.u32.set(words, (RINGS + 0x8000 + at) >>> 2);
      });
      driver.nic.write32(REG.TDT.offset, (action.at + action.list.length) % 32);
      break;
    case 'frame':
      driver.offer(frame(Math.max(action.length, 14)).subarray(0, action.length));
      break;
    case 'poll':
      for (let n = 0; n < 20 && driver.nic.poll(); n++);
      driver.advance(1000);
      break;
    case 'master':
      driver.dma.enabled = action.on;
      break;
    case 'start':
      driver.start();
      break;
  }
}

/** True when all bytes from..to are `value`. */
function holdsOnly(u8: Uint8Array, from: number, to: number, value: number): boolean {
  const area = Buffer.from(u8.buffer, from, to - from);
  return area[0] === value && area.subarray(1).equals(area.subarray(0, -1));
}

describe('E1000 with a hostile driver', () => {
  it('does never throw and never write outside of the mapped memory whatever registers and descriptors hold', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
        const driver = new TinyDriver(32);
        for (const [from, to] of GUARDED) driver.memory.u8.fill(GUARD, from, to);
        driver.start();
        for (const action of steps) perform(driver, action);
        driver.run();
        for (const [from, to] of GUARDED) {
          expect(holdsOnly(driver.memory.u8, from, to, GUARD)).toBe(true);
        }
        expect(holdsOnly(driver.memory.u8, 0x10000, 0x14000, 0xff)).toBe(true);
        for (const sent of driver.sent) expect(sent.length).toBeLessThanOrEqual(16288 + 4);
      }),
      { numRuns: 150 },
    );
  });

  it('does send all ones and no neighbour bytes when a buffer was never mapped', () => {
    const driver = new TinyDriver();
    driver.start();
    driver.queue(0x7fff_0000, 0, 100 | (1 << 24) | (1 << 25), 0);
    driver.run();
    expect(driver.dma.faults).toBe(1);
    expect(driver.sent[0]?.every((byte) => byte === 0xff)).toBe(true);
  });

  it('does stop all DMA when its space is taken away', () => {
    const driver = new TinyDriver();
    driver.start();
    driver.space.unmapAll();
    expect(driver.offer(frame(60))).toBe(true);
    expect(driver.rx(0).status).toBe(0);
    expect(driver.dma.faults).toBeGreaterThan(0);
  });
});
