import { expect, it } from 'vitest';
import { Memory } from '#common/memory';
import * as c from './config_page.ts';

it('lies as L4virtio has it (F4.2)', () => {
  expect([c.CONFIG.IRQ_STATUS, c.CONFIG.STATUS, c.CONFIG.DEV_FEATURES_MAP, c.CONFIG.GENERATION]).toEqual([
    0x60, 0x70, 0xc0, 0xfc,
  ]);
  // A network device's 10 bytes of config: the queue array is at 0x110.
  expect(c.queuesOffset(c.NET_CONFIG_SIZE)).toBe(0x110);
  expect([c.queuesOffset(0), c.queuesOffset(16), c.queuesOffset(17)]).toEqual([0x100, 0x110, 0x120]);
});

it('QueueEntry reads and writes byte for byte', () => {
  const memory = new Memory(new ArrayBuffer(c.CONFIG_PAGE_SIZE));
  const entry = new c.ConfigPage(memory, 0).queue(0x110, 1);
  entry.layout = { size: 256, desc: 0x20_0000, avail: 0x1_0020_1000, used: 0x20_1208 };
  entry.ready = true;
  const at = 0x110 + 40;
  expect([...memory.u8.subarray(at, at + 34)]).toEqual([
    ...[0, 0, 0, 1, 1, 0, 0, 0],
    ...[0, 0, 0x20, 0, 0, 0, 0, 0],
    ...[0, 0x10, 0x20, 0, 1, 0, 0, 0],
    ...[8, 0x12, 0x20, 0, 0, 0, 0, 0, 0, 0],
  ]);
  expect(entry.layout).toEqual({ size: 256, desc: 0x20_0000, avail: 0x1_0020_1000, used: 0x20_1208 });
  entry.reset(512);
  expect([entry.numMax, entry.ready, entry.layout.size]).toEqual([512, false, 0]);
});

it('an address of 64 bits never reads as a small one', () => {
  const memory = new Memory(new ArrayBuffer(c.CONFIG_PAGE_SIZE));
  memory.u8.fill(0xff);
  const { desc } = new c.ConfigPage(memory, 0).queue(0x110, 0).layout;
  expect(desc).toBeGreaterThanOrEqual(2 ** 63);
});

it('takeIrq() returns each reason once', () => {
  const page = new c.ConfigPage(new Memory(new ArrayBuffer(c.CONFIG_PAGE_SIZE)), 0);
  page.raiseIrq(c.IRQ_VRING);
  page.raiseIrq(c.IRQ_CONFIG);
  expect([page.takeIrq(), page.takeIrq()]).toEqual([c.IRQ_VRING | c.IRQ_CONFIG, 0]);
});
