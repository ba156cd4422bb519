import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import fc from '#common/testing/fast_check';
import { MockDevice } from '#common/testing/mock_device';
import { DriverQueue } from './driver_queue.ts';
import { RingError } from './errors.ts';
import { F_EVENT_IDX, featureSet } from './features.ts';
import { layoutQueue, queueBytes } from './layout.ts';
import { Pieces } from './pieces.ts';

function setup(size = 8, features: number[] = []) {
  const layout = layoutQueue(size, 0);
  const memory = new Memory(new ArrayBuffer(queueBytes(size) + 64));
  memory.u8.fill(0xa5);
  const queue = new DriverQueue(memory, layout, featureSet(...features), 'tx');
  return { memory, layout, queue, device: new MockDevice(memory, layout), pieces: new Pieces(size + 1) };
}

describe('DriverQueue.add()', () => {
  it('writes a descriptor and the avail ring byte for byte, and nothing else', () => {
    const { memory, layout, queue } = setup(2);
    expect(queue.add(0x1_2345_6000, 1526, true)).toBe(0);
    expect(queue.flush()).toBe(true);
    expect([...memory.u8.subarray(0, 16)]).toEqual([
      0, 0x60, 0x45, 0x23, 1, 0, 0, 0, 0xf6, 5, 0, 0, 2, 0, 0, 0,
    ]);
    expect([...memory.u8.subarray(layout.avail, layout.avail + 6)]).toEqual([0, 0, 1, 0, 0, 0]);
    expect(memory.u8.subarray(queueBytes(2)).every((byte) => byte === 0xa5)).toBe(true);
  });

  it('returns -1 when all descriptors are with the device', () => {
    const { queue } = setup(2);
    expect([queue.add(0, 1, false), queue.add(0, 1, false), queue.add(0, 1, false)]).toEqual([0, 1, -1]);
    expect(queue.free).toBe(0);
  });
});

describe('DriverQueue.exhausted', () => {
  it('is true from the last buffer that the device used until it is given another', () => {
    const { queue, device } = setup(4);
    expect(queue.exhausted).toBe(false);
    for (let n = 0; n < 2; n++) queue.add(0x1000, 64, true);
    queue.flush();
    expect(queue.exhausted).toBe(false);
    device.give(device.take()?.head ?? -1, 1);
    expect(queue.exhausted).toBe(false);
    device.give(device.take()?.head ?? -1, 1);
    expect(queue.exhausted).toBe(true);
    queue.pop();
    expect(queue.exhausted).toBe(true);
    queue.add(0x1000, 64, true);
    expect(queue.exhausted).toBe(true);
    queue.flush();
    expect(queue.exhausted).toBe(false);
  });
});

describe('DriverQueue.addChain()', () => {
  it('links the pieces in order', () => {
    const { queue, device, pieces } = setup(8);
    pieces.push(0x1000, 12, false).push(0x2000, 1514, false).push(0x3000, 1, true);
    const head = queue.addChain(pieces);
    queue.flush();
    expect(device.take()).toEqual({
      head,
      pieces: [
        { address: 0x1000, len: 12, writable: false },
        { address: 0x2000, len: 1514, writable: false },
        { address: 0x3000, len: 1, writable: true },
      ],
    });
    expect(queue.free).toBe(5);
  });

  it('returns -1 and takes nothing when too few descriptors are free', () => {
    const { queue, pieces } = setup(2);
    queue.add(0, 1, false);
    expect(queue.addChain(pieces.push(0, 1, false).push(0, 1, false))).toBe(-1);
    expect(queue.free).toBe(1);
    expect(() => queue.addChain(pieces.clear())).toThrow(RangeError);
  });
});

describe('DriverQueue.flush()', () => {
  it('asks for a notification unless the device set NO_NOTIFY', () => {
    const { queue, device } = setup(8);
    expect(queue.flush()).toBe(false);
    queue.add(0, 1, false);
    device.usedFlags = 1;
    expect(queue.flush()).toBe(false);
    queue.add(0, 1, false);
    device.usedFlags = 0;
    expect(queue.flush()).toBe(true);
  });

  it('with EVENT_IDX notifies once, on the chain that passes avail_event, also at the 16-bit wrap', () => {
    const { queue, device } = setup(8, [F_EVENT_IDX]);
    device.availEvent = 65533;
    device.usedFlags = 1; // to be ignored
    const notifiedAt: number[] = [];
    for (let n = 0; n < 65540; n++) {
      queue.add(0x1000, 60, true);
      if (queue.flush()) notifiedAt.push(n);
      device.give(device.take()?.head as number, 0);
      queue.pop();
    }
    expect(notifiedAt).toEqual([65533]);
    expect(device.availIdx).toBe(4);
  });
});

describe('DriverQueue.pop()', () => {
  it('gives chains back with their lengths in whatever order the device chose', () => {
    const { queue, device, pieces } = setup(8);
    const one = queue.add(0x1000, 100, true);
    const two = queue.addChain(pieces.push(0x2000, 50, true).push(0x3000, 50, true));
    queue.flush();
    expect(queue.pop()).toBe(-1);
    device.give(two, 77);
    device.give(one, 0);
    expect([queue.pop(), queue.usedLength]).toEqual([two, 77]);
    expect([queue.pop(), queue.usedLength, queue.pop()]).toEqual([one, 0, -1]);
    expect(queue.free).toBe(8);
  });

  it.each<[string, string, (device: MockDevice) => void]>([
    ['VIRTIO_DESCRIPTOR', 'an id outside of the table', (d) => d.give(8, 0)],
    ['VIRTIO_DESCRIPTOR', 'an id of 32 bits', (d) => d.give(0x10000, 0)],
    ['VIRTIO_DESCRIPTOR', 'a chain that was never given', (d) => d.give(5, 0)],
    ['VIRTIO_DESCRIPTOR', 'the middle of a chain', (d) => d.give(2, 0)],
    ['VIRTIO_DESCRIPTOR', 'a chain that was added and not published', (d) => d.give(3, 0)],
    ['VIRTIO_LENGTH', 'more bytes than there is room for', (d) => d.give(0, 101)],
    ['VIRTIO_LENGTH', 'bytes written into a buffer that is only read', (d) => d.give(1, 1)],
    [
      'VIRTIO_INDEX',
      'more used chains than are with the device',
      (d) => {
        d.usedIdx = 3;
      },
    ],
    [
      'VIRTIO_INDEX',
      'a used index that runs backwards',
      (d) => {
        d.usedIdx = 65535;
      },
    ],
  ])('throws %s for %s, and again whenever it is called', (code, _, breakRule) => {
    const { queue, device, pieces } = setup(8);
    queue.add(0x1000, 100, true); // 0
    queue.addChain(pieces.push(0x2000, 50, false).push(0x3000, 50, false)); // 1, 2
    queue.flush();
    queue.add(0x1000, 100, true); // 3
    breakRule(device);
    expect(() => queue.pop()).toThrow(expect.objectContaining({ name: 'RingError', code }));
    expect(queue.broken?.message).toMatch(/^Cannot take chain from tx as used /);
    device.usedIdx = 0;
    expect(() => queue.pop()).toThrow(queue.broken as RingError);
  });

  it.each([8, 0xffff_ffff])('names the ids that there are when it meets %i', (id) => {
    const { queue, device } = setup(8);
    queue.add(0x1000, 100, true);
    queue.flush();
    device.give(id, 0);
    expect(() => queue.pop()).toThrow(`used id must be 0..7: current value is ${id}`);
  });

  it('refuses the same chain twice', () => {
    const { queue, device } = setup(8);
    queue.add(0x1000, 100, true);
    queue.add(0x1000, 100, true);
    queue.flush();
    device.give(0, 0);
    device.give(0, 0);
    expect(queue.pop()).toBe(0);
    expect(() => queue.pop()).toThrow(/must name a chain that the device has: current value is 0/);
  });

  it('does not trust descriptors that the device has overwritten', () => {
    const { memory, queue, device, pieces } = setup(4);
    queue.addChain(pieces.push(0, 1, false).push(0, 1, false).push(0, 1, false));
    queue.flush();
    device.give(0, 0);
    memory.u8.fill(0xff, 0, 64);
    expect(queue.pop()).toBe(0);
    expect(
      new Set([
        queue.add(0, 1, false),
        queue.add(0, 1, false),
        queue.add(0, 1, false),
        queue.add(0, 1, false),
      ]),
    ).toEqual(new Set([0, 1, 2, 3]));
  });
});

describe('DriverQueue.enableInterrupts()', () => {
  it('sets and clears NO_INTERRUPT, and tells of chains that came meanwhile', () => {
    const { queue, device } = setup(8);
    queue.add(0, 1, false);
    queue.flush();
    queue.disableInterrupts();
    expect(device.availFlags).toBe(1);
    device.give(0, 0);
    expect(queue.enableInterrupts()).toBe(true);
    expect(device.availFlags).toBe(0);
    queue.pop();
    expect(queue.enableInterrupts()).toBe(false);
  });

  it('with EVENT_IDX writes used_event and leaves the flag 0', () => {
    const { queue, device } = setup(8, [F_EVENT_IDX]);
    queue.add(0, 1, false);
    queue.flush();
    device.give(0, 0);
    queue.pop();
    expect(queue.enableInterrupts()).toBe(false);
    expect([device.usedEvent, device.availFlags]).toEqual([1, 0]);
    queue.disableInterrupts();
    expect([device.usedEvent, device.availFlags]).toEqual([0, 0]);
  });
});

it('never hangs, throws anything but RingError, or loses a descriptor, whatever the device writes', () => {
  const used = fc.record({
    id: fc.oneof(fc.nat(9), fc.constantFrom(0xffff, 0x10000, 0xffff_ffff)),
    len: fc.oneof(fc.nat(120), fc.constant(0xffff_ffff)),
  });
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('add' as const),
      count: fc.integer({ min: 1, max: 4 }),
      writable: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('flush' as const) }),
    fc.record({ kind: fc.constant('give' as const), used }),
    fc.record({ kind: fc.constant('idx' as const), idx: fc.nat(65535) }),
    fc.record({ kind: fc.constant('pop' as const) }),
    fc.record({ kind: fc.constant('scribble' as const), at: fc.nat(queueBytes(8) - 1), byte: fc.nat(255) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { memory, queue, device, pieces } = setup(8);
      const out = new Map<number, { count: number; room: number }>();
      for (const s of steps) {
        if (s.kind === 'add') {
          pieces.clear();
          for (let i = 0; i < s.count; i++) pieces.push(0x1000 * i, 10, s.writable);
          const head = queue.addChain(pieces);
          if (head < 0) continue;
          expect(out.has(head)).toBe(false);
          out.set(head, { count: s.count, room: s.writable ? 10 * s.count : 0 });
        } else if (s.kind === 'flush') queue.flush();
        else if (s.kind === 'give') device.give(s.used.id, s.used.len);
        else if (s.kind === 'idx') device.usedIdx = s.idx;
        else if (s.kind === 'scribble') memory.u8[s.at] = s.byte;
        else {
          try {
            for (let head = queue.pop(); head >= 0; head = queue.pop()) {
              expect(queue.usedLength).toBeLessThanOrEqual(out.get(head)?.room as number);
              out.delete(head);
            }
          } catch (err) {
            expect(err).toBeInstanceOf(RingError);
            expect(queue.broken).toBe(err);
          }
        }
        const busy = [...out.values()].reduce((sum, chain) => sum + chain.count, 0);
        expect(queue.free).toBe(8 - busy);
      }
      expect(memory.u8.subarray(queueBytes(8)).every((byte) => byte === 0xa5)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});
