/** Drivers that are out of their minds: whatever they write, the model stays inside of what is mapped. */

import { describe, expect, it } from 'vitest';
import {
  REG,
  TX_CMD_DEXT,
  TX_CMD_EOP,
  TX_CMD_IFCS,
  TX_CMD_TSE,
  TX_DTYP_DATA,
  TX_TUCMD_IP,
  TX_TUCMD_TCP,
} from '#common/nic/e1000';
import fc from '#common/testing/fast_check';
import { frame, packet, TinyDriver } from '../testing/tiny_driver.ts';

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
/** Contexts and data of segmentations, each of which may come in the middle of another. */
const segmentation = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 100, 1460, 16_000, 0xffff))
    .map(([header, mss]): [number, number, number, number] => [
      14 | (24 << 8) | (33 << 16),
      34 | (50 << 8),
      TX_CMD_DEXT | TX_CMD_TSE | TX_TUCMD_TCP | TX_TUCMD_IP,
      ((header << 8) | (mss << 16)) >>> 0,
    ]),
  fc
    .tuple(fc.integer({ min: 1, max: 0x12000 }), fc.boolean())
    .map(([length, last]): [number, number, number, number] => [
      0x1020_0000,
      0,
      TX_CMD_DEXT | TX_DTYP_DATA | TX_CMD_TSE | length | (last ? TX_CMD_EOP : 0),
      0x0300,
    ]),
);
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset: fc.constantFrom(...OFFSETS), value: word }),
  fc.record({ kind: fc.constant('wild' as const), offset: word, value: word }),
  fc.record({ kind: fc.constant('read' as const), offset: fc.constantFrom(...OFFSETS) }),
  fc.record({
    kind: fc.constant('descriptors' as const),
    at: fc.integer({ min: 0, max: 31 }),
    list: fc.oneof(fc.array(descriptor, { maxLength: 8 }), fc.array(segmentation, { maxLength: 16 })),
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

  it('does keep to what a segmentation began with when a context comes in the middle of it', () => {
    const driver = new TinyDriver();
    driver.memory.u8.fill(GUARD, 0x14000, RINGS);
    driver.start();
    const at = driver.place(packet({ payload: new Uint8Array(1000) }));
    const ip = 14 | (24 << 8) | (33 << 16);
    const transport = 34 | (50 << 8);
    const context = TX_CMD_DEXT | TX_CMD_TSE | TX_TUCMD_TCP | TX_TUCMD_IP;
    const data = TX_CMD_DEXT | TX_DTYP_DATA | TX_CMD_TSE | TX_CMD_IFCS;
    driver.queue(ip, transport, context, (54 << 8) | (500 << 16));
    driver.queue(at, 0, data | 154, 0);
    // A longer header and segments of 65535 bytes: more than the NIC has room for.
    driver.queue(ip, transport, context, (255 << 8) | 0xffff_0000);
    driver.queue(at, 0, data | 100_000, 0);
    driver.queue(at, 0, data | TX_CMD_EOP | 900, 0);
    driver.run();
    expect(holdsOnly(driver.memory.u8, 0x10000, 0x14000, 0xff)).toBe(true);
    const lengths = driver.sent.map(({ length }) => length);
    expect(lengths).toEqual([...new Array(Math.floor(101_000 / 500)).fill(554)]);
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
