import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { BASE, MockDriver } from '#common/testing/mock_driver';
import { DeviceQueue } from './device_queue.ts';
import { RingError } from './errors.ts';
import { F_EVENT_IDX, F_INDIRECT_DESC, featureSet } from './features.ts';
import { DESC_F_INDIRECT, DESC_F_NEXT } from './layout.ts';

function setup(size = 8, features: number[] = [], options: { writable?: boolean; bytes?: number } = {}) {
  const driver = new MockDriver(size, options);
  const queue = new DeviceQueue(driver.memory, driver.layout, featureSet(...features), driver.regions, 'rx');
  return { driver, queue, chain: queue.newChain() };
}

describe('DeviceQueue.pop()', () => {
  it('returns false while the avail ring is empty', () => {
    const { queue, chain } = setup();
    expect(queue.pop(chain)).toBe(false);
    expect(queue.available()).toBe(0);
  });

  it('reads a descriptor byte for byte', () => {
    const { driver, queue, chain } = setup(2);
    // addr 0x200800, len 0x5f6, flags WRITE, next 0; avail: flags 0, idx 1, ring[0] = 0
    driver.memory.u8.set([0x00, 0x08, 0x20, 0, 0, 0, 0, 0, 0xf6, 0x05, 0, 0, 2, 0, 0, 0]);
    driver.memory.u8.set([0, 0, 1, 0, 0, 0], driver.layout.avail);
    expect(queue.pop(chain)).toBe(true);
    expect({ ...chain, where: chain.where[0], len: chain.len[0], writable: chain.writable[0] }).toEqual({
      head: 0,
      count: 1,
      bytes: 1526,
      where: 0x800,
      len: 1526,
      writable: 1,
    });
  });

  it('follows NEXT links in order and tells which may be written', () => {
    const { driver, queue, chain } = setup();
    driver.offer([{ len: 12 }, { len: 1514 }, { len: 1, writable: true }]);
    expect(queue.pop(chain)).toBe(true);
    expect([...chain.len.subarray(0, chain.count)]).toEqual([12, 1514, 1]);
    expect([...chain.where.subarray(0, 3)]).toEqual([0, 1, 2].map((i) => driver.slot(i) - BASE));
    expect([[...chain.writable.subarray(0, 3)], chain.bytes]).toEqual([[0, 0, 1], 1527]);
  });

  it('accepts a chain of all descriptors and an empty piece', () => {
    const { driver, queue, chain } = setup(8);
    driver.offer(Array.from({ length: 8 }, () => ({ len: 0 })));
    expect(queue.pop(chain)).toBe(true);
    expect(chain.count).toBe(8);
  });

  it.each<[string, string, (driver: MockDriver) => void]>([
    ['VIRTIO_CHAIN', 'a chain that loops', (d) => d.setDesc(3, BASE, 64, DESC_F_NEXT, 3)],
    ['VIRTIO_DESCRIPTOR', 'a next outside of the table', (d) => d.setDesc(3, BASE, 64, DESC_F_NEXT, 8)],
    [
      'VIRTIO_INDIRECT',
      'an indirect table never negotiated',
      (d) => d.setDesc(3, BASE, 64, DESC_F_INDIRECT, 0),
    ],
    ['VIRTIO_ADDRESS', 'a buffer before the memory', (d) => d.setDesc(3, BASE - 1, 64, 0, 0)],
    [
      'VIRTIO_ADDRESS',
      'a buffer behind the memory',
      (d) => d.setDesc(3, BASE + d.memory.u8.length - 63, 64, 0, 0),
    ],
    ['VIRTIO_ADDRESS', 'an address of more than 53 bits', (d) => d.setDesc(3, 2 ** 63, 64, 0, 0)],
    ['VIRTIO_ADDRESS', 'a length of 4 GiB - 1', (d) => d.setDesc(3, BASE, 2 ** 32 - 1, 0, 0)],
  ])('throws %s for %s and takes nothing', (code, _, breakRule) => {
    const { driver, queue, chain } = setup(8);
    breakRule(driver);
    driver.makeAvailable(3);
    expect(() => queue.pop(chain)).toThrow(expect.objectContaining({ name: 'RingError', code }));
    expect(queue.inFlight).toBe(0);
  });

  it('throws VIRTIO_RIGHTS for a buffer to be written in read-only memory', () => {
    const { driver, queue, chain } = setup(8, [], { writable: false });
    driver.offer([{ len: 64 }]);
    driver.offer([{ len: 64, writable: true }]);
    expect(queue.pop(chain)).toBe(true);
    expect(() => queue.pop(chain)).toThrow(
      /Cannot pop chain 1 from rx as a buffer to be written must lie in writable memory/,
    );
  });

  it('throws when a head is outside of the table', () => {
    const { driver, queue, chain } = setup(4);
    driver.makeAvailable(4);
    expect(() => queue.pop(chain)).toThrow(/a descriptor must be 0..3: current value is 4/);
  });

  it('throws when the avail index is more than a queue ahead, chains in flight included', () => {
    const { driver, queue, chain } = setup(4);
    driver.availIdx = 5;
    expect(() => queue.pop(chain)).toThrow(/at most 4 ahead of 0: current value is 5/);
    driver.availIdx = 0;
    for (let n = 0; n < 4; n++) driver.offer([{ len: 1 }]);
    expect(queue.available()).toBe(4);
    queue.pop(chain);
    expect(queue.inFlight).toBe(1);
    driver.availIdx = 5;
    expect(() => queue.available()).toThrow(/at most 3 ahead of 1/);
    driver.availIdx = 0;
    expect(() => queue.available()).toThrow(RingError);
  });

  it('refuses a chain of more than 2^32 bytes', () => {
    const { driver, queue, chain } = setup(8);
    driver.regions.clear();
    // As if 2 GiB - 4 KiB were mapped: pop() never touches the buffers.
    driver.regions.add(BASE, 2 ** 31 - 4096, 0, true);
    driver.offer(Array.from({ length: 3 }, () => ({ address: BASE, len: 2 ** 31 - 4096 })));
    expect(() => queue.pop(chain)).toThrow(/2\^32 bytes/);
  });
});

describe('DeviceQueue.pop() with INDIRECT_DESC', () => {
  const features = [F_INDIRECT_DESC];

  it.each([0, 2, 3])('reads a table at any alignment: %i', (misaligned) => {
    const { driver, queue, chain } = setup(4, features);
    const head = driver.offerIndirect(driver.buffers + misaligned, [
      { len: 12 },
      { len: 100, writable: true },
    ]);
    expect(queue.pop(chain)).toBe(true);
    expect([chain.head, chain.count, [...chain.writable.subarray(0, 2)], chain.bytes]).toEqual([
      head,
      2,
      [0, 1],
      112,
    ]);
  });

  it.each<[string, (d: MockDriver, table: number) => void]>([
    ['must not have NEXT', (d, t) => d.setDesc(0, BASE + t, 32, DESC_F_INDIRECT | DESC_F_NEXT, 1)],
    ['multiple of 16: current value is 0', (d, t) => d.setDesc(0, BASE + t, 0, DESC_F_INDIRECT, 0)],
    ['multiple of 16: current value is 17', (d, t) => d.setDesc(0, BASE + t, 17, DESC_F_INDIRECT, 0)],
    [
      'inside one registered region',
      (d) => d.setDesc(0, BASE + d.memory.u8.length - 16, 32, DESC_F_INDIRECT, 0),
    ],
    ['must not name another one', (d, t) => d.writeDesc(t, BASE, 16, DESC_F_INDIRECT, 0)],
    ['must be 0..1: current value is 2', (d, t) => d.writeDesc(t, BASE, 16, DESC_F_NEXT, 2)],
    ['at most 4 descriptors', (d, t) => d.writeDesc(t, BASE, 16, DESC_F_NEXT, 0)],
    [
      'at most 4 descriptors',
      (d, t) => {
        for (const n of [0, 1, 2]) d.setDesc(n, BASE, 16, DESC_F_NEXT, n + 1);
        d.setDesc(3, BASE + t, 32, DESC_F_INDIRECT, 0);
      },
    ],
  ])('throws: %s', (message, breakRule) => {
    const { driver, queue, chain } = setup(4, features);
    driver.offerIndirect(driver.buffers, [{ len: 1 }, { len: 1 }]);
    breakRule(driver, driver.buffers);
    expect(() => queue.pop(chain)).toThrow(message);
  });

  it('follows a chain whose last descriptor names a table', () => {
    const { driver, queue, chain } = setup(4, features);
    driver.offerIndirect(driver.buffers, [{ len: 100 }, { len: 200, writable: true }]);
    driver.setDesc(0, BASE, 12, DESC_F_NEXT, 1);
    driver.setDesc(1, BASE + driver.buffers, 32, DESC_F_INDIRECT, 0);
    expect(queue.pop(chain)).toBe(true);
    expect([chain.head, [...chain.len.subarray(0, chain.count)], chain.bytes]).toEqual([
      0,
      [12, 100, 200],
      312,
    ]);
    expect([...chain.writable.subarray(0, 3)]).toEqual([0, 0, 1]);
  });

  it('refuses a chain longer than the queue', () => {
    const { driver, queue, chain } = setup(4, features);
    driver.offerIndirect(
      driver.buffers,
      Array.from({ length: 5 }, (_, i) => ({ len: 1, address: BASE + i })),
    );
    expect(() => queue.pop(chain)).toThrow(/at most 4 descriptors/);
  });
});

describe('DeviceQueue.rewind()', () => {
  it('gives the last chains back, to be popped again', () => {
    const { driver, queue, chain } = setup(8);
    for (let n = 0; n < 3; n++) driver.offer([{ len: 60 + n, writable: true }]);
    for (let n = 0; n < 3; n++) queue.pop(chain);
    queue.push(0, 60);
    queue.rewind(2);
    expect(queue.available()).toBe(2);
    expect(queue.pop(chain)).toBe(true);
    expect(chain.len[0]).toBe(61);
  });

  it('throws when more are given back than were taken', () => {
    const { queue } = setup(8);
    expect(() => queue.rewind(1)).toThrow(RangeError);
  });
});

describe('DeviceQueue.push()', () => {
  it('throws when nothing is in flight: a mistake of ours', () => {
    const { queue } = setup(8);
    expect(() => queue.push(0, 0)).toThrow(RangeError);
  });

  it('writes used entries byte for byte, seen only after flush()', () => {
    const { driver, queue, chain } = setup(2);
    driver.offer([{ len: 64, writable: true }]);
    queue.pop(chain);
    queue.push(0, 0x1234);
    expect(driver.usedIdx).toBe(0);
    queue.flush();
    const { used } = driver.layout;
    expect([...driver.memory.u8.subarray(used, used + 12)]).toEqual([
      0, 0, 1, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0,
    ]);
  });
});

describe('DeviceQueue.flush()', () => {
  it('asks for an interrupt unless the driver set NO_INTERRUPT', () => {
    const { driver, queue, chain } = setup(8);
    expect(queue.flush()).toBe(false);
    const once = () => {
      driver.offer([{ len: 60 }]);
      queue.pop(chain);
      queue.push(chain.head, 0);
      return queue.flush();
    };
    expect(once()).toBe(true);
    driver.availFlags = 1;
    expect(once()).toBe(false);
    driver.availFlags = 0;
    expect(once()).toBe(true);
  });

  it('with EVENT_IDX interrupts once, on the push that passes used_event, also at the 16-bit wrap', () => {
    const { driver, queue, chain } = setup(8, [F_EVENT_IDX]);
    const raisedAt: number[] = [];
    driver.usedEvent = 65534;
    driver.availFlags = 1; // to be ignored
    for (let n = 0; n < 65540; n++) {
      driver.offer([{ len: 60 }]);
      queue.pop(chain);
      queue.push(chain.head, 60);
      if (queue.flush()) raisedAt.push(n);
    }
    expect(raisedAt).toEqual([65534]);
    expect(driver.usedIdx).toBe(4);
  });
});

describe('DeviceQueue.enableNotifications()', () => {
  it('sets and clears NO_NOTIFY, and tells of chains that came meanwhile', () => {
    const { driver, queue, chain } = setup(8);
    queue.disableNotifications();
    expect(driver.usedFlags).toBe(1);
    driver.offer([{ len: 1 }]);
    expect(queue.enableNotifications()).toBe(true);
    expect(driver.usedFlags).toBe(0);
    queue.pop(chain);
    expect(queue.enableNotifications()).toBe(false);
  });

  it('with EVENT_IDX writes avail_event and leaves the flag 0', () => {
    const { driver, queue, chain } = setup(8, [F_EVENT_IDX]);
    driver.offer([{ len: 1 }]);
    queue.pop(chain);
    expect(queue.enableNotifications()).toBe(false);
    expect([driver.availEvent, driver.usedFlags]).toEqual([1, 0]);
    queue.disableNotifications();
    expect([driver.availEvent, driver.usedFlags]).toEqual([0, 0]);
  });
});

describe('DeviceQueue against any driver', () => {
  const heads = fc.uniqueArray(fc.nat(7), { minLength: 1, maxLength: 8 });

  it('returns every chain once, in order, whatever the batching', () => {
    fc.assert(
      fc.property(fc.array(heads, { maxLength: 50 }), (batches) => {
        const { driver, queue, chain } = setup(8);
        for (const batch of batches) {
          for (const head of batch) {
            driver.setDesc(head, driver.slot(head), 60 + head, 0, 0);
            driver.makeAvailable(head);
          }
          const from = driver.usedIdx;
          while (queue.pop(chain)) queue.push(chain.head, chain.len[0] as number);
          queue.flush();
          expect(batch.map((_, i) => driver.used(from + i))).toEqual(
            batch.map((id) => ({ id, len: 60 + id })),
          );
        }
      }),
    );
  });

  // Addresses near the edges of the memory, flags and links of all kinds.
  const bytes = 8192;
  const address = fc.oneof(
    fc.integer({ min: BASE - 64, max: BASE + 64 }),
    fc.integer({ min: BASE + bytes - 64, max: BASE + bytes + 64 }),
    fc.integer({ min: BASE, max: BASE + bytes }),
    fc.constantFrom(0, 2 ** 32, 2 ** 53, 2 ** 63),
  );
  const desc = fc.record({
    address,
    len: fc.oneof(fc.nat(80), fc.constantFrom(16, 32, 48, bytes, 2 ** 31, 2 ** 32 - 1)),
    flags: fc.oneof(fc.nat(7), fc.nat(65535)),
    next: fc.nat(9),
  });
  const input = fc.record({
    table: fc.array(desc, { minLength: 24, maxLength: 24 }),
    ring: fc.array(fc.nat(9), { maxLength: 9 }),
    features: fc.subarray([F_EVENT_IDX, F_INDIRECT_DESC]),
    writable: fc.boolean(),
  });

  it('never hangs, throws anything but RingError, or names memory outside of the regions', () => {
    fc.assert(
      fc.property(input, ({ table, ring, features, writable }) => {
        const { driver, queue, chain } = setup(8, features, { writable, bytes });
        // The first 8 are the table; the others lie where indirect tables may well point to.
        for (const [i, d] of table.entries()) {
          driver.writeDesc(i < 8 ? i * 16 : 4096 + (i - 8) * 16, d.address, d.len, d.flags, d.next);
        }
        for (const head of ring) driver.makeAvailable(head);
        try {
          while (queue.pop(chain)) {
            expect(chain.count).toBeGreaterThan(0);
            expect(chain.count).toBeLessThanOrEqual(8);
            for (let i = 0; i < chain.count; i++) {
              const at = chain.where[i] as number;
              expect(at).toBeGreaterThanOrEqual(0);
              expect(at + (chain.len[i] as number)).toBeLessThanOrEqual(bytes);
              if (!writable) expect(chain.writable[i]).toBe(0);
            }
            queue.push(chain.head, 0);
          }
        } catch (err) {
          expect(err).toBeInstanceOf(RingError);
        }
        queue.flush();
      }),
      { numRuns: 3000 },
    );
  });
});
