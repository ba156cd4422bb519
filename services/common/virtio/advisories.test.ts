/** Where others fell: each published weakness of a virtqueue is a test of its name. */
import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { BASE, MockDriver } from '#common/testing/mock_driver';
import { DeviceQueue } from './device_queue.ts';
import { DriverQueue } from './driver_queue.ts';
import type { RingErrorCode } from './errors.ts';
import { F_INDIRECT_DESC, featureSet } from './features.ts';
import { DESC_F_INDIRECT, DESC_F_NEXT, DESC_SIZE, layoutQueue, queueBytes } from './layout.ts';

const SIZE = 8;
const ROOM = 1526;

/** A driver half with four chains of one receive buffer each, and what its device writes. */
function driverHalf() {
  const layout = layoutQueue(SIZE, 0);
  const memory = new Memory(new ArrayBuffer(queueBytes(SIZE)));
  const queue = new DriverQueue(memory, layout, featureSet(), 'rx');
  for (let n = 0; n < 4; n++) queue.add(BASE + n * 2048, ROOM, true);
  queue.flush();
  const use = (n: number, id: number, len: number): void => {
    memory.u32[layout.used / 4 + 1 + 2 * n] = id;
    memory.u32[layout.used / 4 + 2 + 2 * n] = len;
  };
  const show = (idx: number): void => {
    memory.u16[layout.used / 2 + 1] = idx;
  };
  return { memory, layout, queue, use, show };
}

/** A device half and the driver that it does not trust. */
function deviceHalf(features: number[] = []) {
  const driver = new MockDriver(SIZE);
  const queue = new DeviceQueue(driver.memory, driver.layout, featureSet(...features), driver.regions, 'tx');
  return { driver, queue, chain: queue.newChain() };
}

const code = (value: RingErrorCode) => expect.objectContaining({ name: 'RingError', code: value });

describe('RT-Thread #11327: ids and lengths of the used ring trusted by the driver half', () => {
  it.each<[string, number, number, RingErrorCode]>([
    ['an id behind the table', SIZE, 60, 'VIRTIO_DESCRIPTOR'],
    ['the largest id', 0xffff_ffff, 60, 'VIRTIO_DESCRIPTOR'],
    ['an id whose low half is one of ours', 0x1_0002, 60, 'VIRTIO_DESCRIPTOR'],
    ['an id that the device does not have', 5, 60, 'VIRTIO_DESCRIPTOR'],
    ['a length of one byte more than the buffer', 2, ROOM + 1, 'VIRTIO_LENGTH'],
    ['the largest length', 2, 0xffff_ffff, 'VIRTIO_LENGTH'],
  ])('%s', (_name, id, len, wanted) => {
    const { queue, use, show } = driverHalf();
    use(0, 1, ROOM);
    use(1, id, len);
    show(2);
    expect([queue.pop(), queue.usedLength]).toEqual([1, ROOM]);
    expect(() => queue.pop()).toThrow(code(wanted));
    // It is said once and for all: nothing is read from such a device any more.
    use(1, 2, 60);
    expect(() => queue.pop()).toThrow(code(wanted));
    expect(queue.broken).toEqual(code(wanted));
  });

  it('an id given back twice', () => {
    const { queue, use, show } = driverHalf();
    use(0, 3, 60);
    use(1, 3, 60);
    show(2);
    queue.pop();
    expect(() => queue.pop()).toThrow(code('VIRTIO_DESCRIPTOR'));
  });

  it('more used entries than there are chains', () => {
    const { queue, show } = driverHalf();
    show(5);
    expect(() => queue.pop()).toThrow(code('VIRTIO_INDEX'));
  });

  it('an entry that changes between check and use: id and length are read once', () => {
    const { memory, layout, use, show } = driverHalf();
    const reads = new Map<number, number>();
    const spied = new Memory(memory.buffer);
    const used = layout.used / 4;
    const u32 = new Proxy(memory.u32, {
      get: (target, key) => {
        const index = typeof key === 'string' ? Number(key) : Number.NaN;
        const value = Reflect.get(target, key, target) as unknown;
        if (index > used) {
          reads.set(index, (reads.get(index) ?? 0) + 1);
          target[index] = 0xdead_beef;
        }
        return value;
      },
    });
    Object.defineProperty(spied, 'u32', { value: u32 });
    const queue = new DriverQueue(spied, layout, featureSet(), 'rx');
    queue.add(BASE, ROOM, true);
    queue.flush();
    use(0, 0, 60);
    show(1);
    expect([queue.pop(), queue.usedLength]).toEqual([0, 60]);
    expect([...reads.values()]).toEqual([1, 1]);
  });
});

describe('MigTD #935: descriptors read twice', () => {
  /** Counts the reads of each byte through the view, and makes each word hostile as soon as it has been read. */
  class Hostile extends DataView<ArrayBuffer> {
    readonly reads = new Map<number, number>();
    override getUint16(at: number, little?: boolean): number {
      return this.#read(at, 2, super.getUint16(at, little));
    }
    override getUint32(at: number, little?: boolean): number {
      return this.#read(at, 4, super.getUint32(at, little));
    }
    #read(at: number, bytes: number, value: number): number {
      for (let n = at; n < at + bytes; n++) {
        this.reads.set(n, (this.reads.get(n) ?? 0) + 1);
        super.setUint8(n, 0xff);
      }
      return value;
    }
  }

  it.each([
    ['in the table', false],
    ['in an indirect table', true],
  ])('%s: each word is read once, what was checked is what is used', (_name, indirect) => {
    const driver = new MockDriver(SIZE);
    const pieces = [{ len: 12 }, { len: 100 }, { len: 1514, writable: true }];
    if (indirect) driver.offerIndirect(driver.buffers, pieces);
    else driver.offer(pieces);
    const addresses = [0, 1, 2].map((i) => driver.slot(i) - BASE);
    const view = new Hostile(driver.memory.buffer);
    Object.defineProperty(driver.memory, 'view', { value: view });
    const features = featureSet(F_INDIRECT_DESC);
    const queue = new DeviceQueue(driver.memory, driver.layout, features, driver.regions, 'tx');
    const chain = queue.newChain();
    expect(queue.pop(chain)).toBe(true);
    expect([...chain.where.subarray(0, 3)]).toEqual(addresses);
    expect([...chain.len.subarray(0, 3)]).toEqual([12, 100, 1514]);
    expect([...chain.writable.subarray(0, 3)]).toEqual([0, 0, 1]);
    expect(new Set(view.reads.values())).toEqual(new Set([1]));
    expect(view.reads.size).toBe((indirect ? 4 : 3) * DESC_SIZE);
  });
});

describe('openvmm #2780, SPDK #3860: avail indices unchecked', () => {
  it.each([
    ['one more than the queue has', SIZE + 1],
    ['half of all numbers', 0x8000],
    ['behind where it was', 0xffff],
  ])('avail idx: %s', (_name, idx) => {
    const { driver, queue, chain } = deviceHalf();
    driver.offer([{ len: 60 }]);
    driver.availIdx = idx;
    expect(() => queue.pop(chain)).toThrow(code('VIRTIO_INDEX'));
    expect(() => queue.available()).toThrow(code('VIRTIO_INDEX'));
  });

  it('avail idx that goes back, or runs over chains that are still with the device', () => {
    for (const idx of [1, SIZE + 1]) {
      const { driver, queue, chain } = deviceHalf();
      for (let n = 0; n < 2; n++) driver.offer([{ len: 60 }]);
      queue.pop(chain);
      queue.pop(chain);
      driver.availIdx = idx;
      expect(() => queue.pop(chain)).toThrow(code('VIRTIO_INDEX'));
    }
  });

  it.each([SIZE, 0x7fff, 0xffff])('a head that is no descriptor: %i', (head) => {
    const { driver, queue, chain } = deviceHalf();
    driver.makeAvailable(head);
    expect(() => queue.pop(chain)).toThrow(code('VIRTIO_DESCRIPTOR'));
  });

  it('the same head in every entry is the driver’s own affair: each is served, none leaves the table', () => {
    const { driver, queue, chain } = deviceHalf();
    driver.offer([{ len: 60 }]);
    for (let n = 1; n < SIZE; n++) driver.makeAvailable(0);
    for (let n = 0; n < SIZE; n++) {
      expect(queue.pop(chain)).toBe(true);
      expect(chain.head).toBe(0);
    }
    expect(queue.pop(chain)).toBe(false);
  });
});

describe('an indirect table that nests for ever', () => {
  const refuses = (build: (driver: MockDriver, table: number) => void, wanted: RingErrorCode): void => {
    const { driver, queue, chain } = deviceHalf([F_INDIRECT_DESC]);
    driver.offerIndirect(driver.buffers, [{ len: 12 }, { len: 60 }]);
    build(driver, driver.buffers);
    expect(() => queue.pop(chain)).toThrow(code(wanted));
  };

  it('a table whose first entry is itself', () => {
    refuses((d, at) => d.writeDesc(at, BASE + at, 2 * DESC_SIZE, DESC_F_INDIRECT, 0), 'VIRTIO_INDIRECT');
  });

  it('a table whose last entry is itself', () => {
    refuses((d, at) => d.writeDesc(at + DESC_SIZE, BASE + at, 32, DESC_F_INDIRECT, 0), 'VIRTIO_INDIRECT');
  });

  it('two tables that name each other', () => {
    refuses((d, at) => {
      d.writeDesc(at, BASE + at + 64, 16, DESC_F_INDIRECT, 0);
      d.writeDesc(at + 64, BASE + at, 16, DESC_F_INDIRECT, 0);
    }, 'VIRTIO_INDIRECT');
  });

  it('a table that is the descriptor table', () => {
    refuses((d) => d.setDesc(0, BASE, SIZE * DESC_SIZE, DESC_F_INDIRECT, 0), 'VIRTIO_INDIRECT');
  });

  it('a table whose entries follow each other in a circle', () => {
    refuses((d, at) => d.writeDesc(at + DESC_SIZE, BASE, 1, DESC_F_NEXT, 0), 'VIRTIO_CHAIN');
  });
});
