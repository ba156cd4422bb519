import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { DMA_ALIGN, DMA_FROM_DEVICE, DMA_TO_DEVICE, DmaSpace } from './dma_space.ts';
import { FunctionDma } from './function_dma.ts';
import { DMA_MAX } from './nic_model.ts';

describe('DmaSpace', () => {
  it('map() does give addresses that are multiples of 2 MiB with holes between them', () => {
    const space = new DmaSpace();
    const first = space.map(0x1000, DMA_ALIGN, 0);
    const second = space.map(0x50_0000, 4096, 0);
    expect([first % DMA_ALIGN, second % DMA_ALIGN]).toEqual([0, 0]);
    expect(second).toBeGreaterThan(first + DMA_ALIGN);
    expect(space.translate(first + 5, 10, true)).toBe(0x1005);
    expect(space.translate(second + 4000, 96, false)).toBe(0x50_0000 + 4000);
  });

  it('translate() does give -1 when any byte is outside or the direction is wrong', () => {
    const space = new DmaSpace();
    const at = space.map(0, 4096, 0);
    for (const address of [0, at - 1, at + 4095, at + 4096, 2 ** 52])
      expect(space.translate(address, 2, false)).toBe(-1);
    const toDevice = space.map(0x10000, 4096, DMA_TO_DEVICE);
    expect([space.translate(toDevice, 4, false), space.translate(toDevice, 4, true)]).toEqual([0x10000, -1]);
    const fromDevice = space.map(0x20000, 4096, DMA_FROM_DEVICE);
    expect([space.translate(fromDevice, 4, false), space.translate(fromDevice, 4, true)]).toEqual([
      -1, 0x20000,
    ]);
  });

  it('unmap() does end a mapping at once, also one that was just used', () => {
    const space = new DmaSpace();
    let gone = 0;
    const at = space.map(0, 8192, 0, () => gone++);
    expect(space.translate(at, 1, false)).toBe(0);
    expect(() => space.unmap(at, 4096)).toThrow(/cuts the mapping/);
    space.unmap(at, 8192);
    expect(gone).toBe(1);
    expect(space.translate(at, 1, false)).toBe(-1);
    expect(space.map(0x40000, 4096, 0)).toBe(at);
  });

  it('map() does throw EINVAL for a bad range or direction, ENOMEM when full', () => {
    const space = new DmaSpace();
    for (const [offset, size] of [
      [1, 4096],
      [0, 0],
      [0, 100],
      [-4096, 4096],
      [Number.NaN, 4096],
    ] as const)
      expect(() => space.map(offset, size, 0)).toThrow(/multiples of 4096/);
    expect(() => space.map(0, 4096, 3)).toThrow(/direction/);
    expect(() => space.map(0, 2 ** 31, 0)).toThrow(/no such free range/);
  });

  it('translate() does agree with a plain list of mappings for any sequence of calls', () => {
    const step = fc.record({
      pages: fc.integer({ min: 1, max: 600 }),
      drop: fc.boolean(),
      probe: fc.integer({ min: -5000, max: 3_000_000 }),
      edge: fc.integer({ min: -100, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const space = new DmaSpace();
        const list: { at: number; size: number; offset: number }[] = [];
        let offset = 0;
        for (const { pages, drop, probe, edge } of steps) {
          const size = pages * 4096;
          list.push({ at: space.map(offset, size, 0), size, offset });
          offset += size;
          const [victim] = list;
          if (drop && victim) {
            list.shift();
            space.unmap(victim.at, victim.size);
          }
          const last = list.at(-1);
          const start = last?.at ?? 0;
          for (const address of [
            (victim?.at ?? 0) + probe,
            start + probe,
            start + (last?.size ?? 0) + edge,
          ]) {
            const hit = list.find(({ at, size: bytes }) => address >= at && address + 64 <= at + bytes);
            expect(space.translate(address, 64, true)).toBe(hit ? hit.offset + address - hit.at : -1);
          }
        }
      }),
    );
  });
});

describe('FunctionDma', () => {
  const make = (): { dma: FunctionDma; space: DmaSpace; logs: string[]; clock: { us: number } } => {
    const logs: string[] = [];
    const clock = { us: 0 };
    const dma = new FunctionDma({
      name: '00:03.0 e1000',
      ones: 0x9000,
      now: () => clock.us,
      log: (text) => logs.push(text),
    });
    return { dma, space: new DmaSpace(), logs, clock };
  };

  it('read() and write() do count and log a fault that names device, address and length when nothing is mapped', () => {
    const { dma, space, logs } = make();
    dma.enabled = true;
    dma.assign(space);
    expect(dma.read(0xdead_0000, 16)).toBe(0x9000);
    expect(dma.write(0xdead_0000, 2048)).toBe(-1);
    expect(dma.faults).toBe(2);
    expect(logs[1]).toBe(
      '00:03.0 e1000: DMA fault: cannot write 2048 bytes at 0xdead0000 as its driver has not mapped that range so for DMA',
    );
  });

  it('write() does fault when bus mastering is off, no space is assigned or the transfer is too long', () => {
    const { dma, space, logs } = make();
    const at = space.map(0, 0x10000, 0);
    dma.assign(space);
    expect(dma.write(at, 4)).toBe(-1);
    expect(logs[0]).toContain('bus mastering is off');
    dma.enabled = true;
    expect(dma.write(at, 4)).toBe(0);
    expect(dma.write(at, DMA_MAX + 1)).toBe(-1);
    dma.assign(undefined);
    expect(dma.write(at, 4)).toBe(-1);
    expect(logs.at(-1)).toContain('no DMA space');
  });

  it('write() does log at most 5 lines a second and then their number', () => {
    const { dma, logs, clock } = make();
    for (let n = 0; n < 1000; n++) dma.write(n, 4);
    expect(logs).toHaveLength(5);
    clock.us = 2_000_000;
    dma.write(0, 4);
    expect(logs[5]).toBe('00:03.0 e1000: 995 more DMA faults');
    expect(dma.faults).toBe(1001);
  });
});
