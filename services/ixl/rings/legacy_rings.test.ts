import { describe, expect, it } from 'vitest';
import { REG } from '#common/nic/e1000';
import fc from '#common/testing/fast_check';
import { BUFFER, lengthOf, setLength } from '../memory/buffer.ts';
import { type Bench, frame, startE1000 } from '../testing/fakes.ts';

function receiveAll(bench: Bench, from: number, count: number): void {
  for (let n = 0; n < count; n++) if (!bench.nic.receive(frame(from + n))) throw new Error('no descriptor');
}

/** Takes at most `count` packets and gives their numbers; the buffers go back. */
function take({ device, dma }: Bench, count: number): number[] {
  const buffers = new Int32Array(count);
  const taken = device.rxBatch(0, buffers, count);
  return [...buffers.subarray(0, taken)].map((buffer) => {
    const end = buffer + BUFFER.DATA + lengthOf(dma.memory, buffer);
    const number = dma.memory.view.getUint32(end - 4);
    device.freeBuffer(buffer);
    return number;
  });
}

function numbers(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, n) => from + n);
}

function send({ device, dma }: Bench, from: number, count: number): number {
  const buffers = new Int32Array(count);
  for (let n = 0; n < count; n++) {
    const buffer = device.txPool.alloc();
    const bytes = frame(from + n);
    dma.memory.u8.set(bytes, buffer + BUFFER.DATA);
    setLength(dma.memory, buffer, bytes.length);
    buffers[n] = buffer;
  }
  const queued = device.txBatch(0, buffers, count);
  for (let n = queued; n < count; n++) device.freeBuffer(buffers[n] as number);
  return queued;
}

const sentNumbers = ({ nic }: Bench): number[] =>
  nic.sent.map((bytes) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4));

describe('LegacyRxRing.batch()', () => {
  it('takes packets in order, writes RDT once, one behind, and reads no register', async () => {
    const bench = await startE1000();
    receiveAll(bench, 0, 5);
    bench.nic.accesses.length = 0;
    expect(take(bench, 32)).toEqual([0, 1, 2, 3, 4]);
    expect(bench.nic.accesses).toEqual(['W RDT 0x4']);
    expect(take(bench, 32)).toEqual([]);
    expect(bench.nic.accesses).toEqual(['W RDT 0x4']);
  });

  it('reads RDH behind RDT in the Wait mode', async () => {
    const bench = await startE1000({ irqTimeoutMs: 1000 });
    receiveAll(bench, 0, 2);
    bench.nic.accesses.length = 0;
    take(bench, 1);
    expect(bench.nic.accesses).toEqual(['W RDT 0x0', 'R RDH']);
  });

  it('goes around the ring without losing or repeating a packet', async () => {
    const bench = await startE1000();
    for (let n = 0; n < 3000; n += 60) {
      receiveAll(bench, n, 60);
      expect([...take(bench, 32), ...take(bench, 32)]).toEqual(numbers(n, 60));
    }
  });

  it('lets 255 packets wait, and the 256th finds no descriptor', async () => {
    const bench = await startE1000();
    receiveAll(bench, 0, 255);
    expect(bench.nic.receive(frame(255))).toBe(false);
    expect(take(bench, 256)).toEqual(numbers(0, 255));
  });

  it('leaves packets in the ring while the pool is empty', async () => {
    const bench = await startE1000({ rxBuffers: 512 });
    const { device, log } = bench;
    const held = new Int32Array(256);
    receiveAll(bench, 0, 250);
    expect(device.rxBatch(0, held, 256)).toBe(250);
    receiveAll(bench, 250, 20);
    expect(take(bench, 6)).toEqual(numbers(250, 6));
    while (device.packets.rxPool.alloc() >= 0);
    expect(take(bench, 32)).toEqual([]);
    expect(device.rxPending(0)).toBe(true);
    expect(log.lines.at(-1)).toMatch(/^\[WARN \] No free packet buffer/);
    device.freeBuffer(held[0] as number);
    expect(take(bench, 1)).toEqual([256]);
  });

  it.each([
    ['longer than the buffer', { length: 1985 }],
    ['shorter than an Ethernet header', { length: 17 }],
    ['as long as a u16 can say', { length: 0xffff }],
  ])('gives up a packet whose length is %s', async (_, lie) => {
    const bench = await startE1000();
    bench.nic.receive(frame(1), lie);
    receiveAll(bench, 2, 1);
    expect(take(bench, 32)).toEqual([2]);
    expect(bench.log.lines.at(-1)).toMatch(/^\[ERROR\] Cannot take received packet as its length/);
    expect(bench.device.packets.rxPool.available).toBe(600 - 256);
  });

  it('gives up a packet over several descriptors as a whole', async () => {
    const bench = await startE1000();
    bench.nic.receive(frame(1), { status: 1 });
    bench.nic.receive(frame(2), { status: 1 });
    bench.nic.receive(frame(3));
    receiveAll(bench, 4, 1);
    expect(take(bench, 32)).toEqual([4]);
    expect(bench.log.lines.at(-1)).toMatch(/multi-segment/);
  });
});

describe('LegacyTxRing.batch()', () => {
  it('sends in order with one TDT write per batch, also when nothing is queued', async () => {
    const bench = await startE1000();
    bench.nic.accesses.length = 0;
    expect(send(bench, 0, 3)).toBe(3);
    expect(sentNumbers(bench)).toEqual([0, 1, 2]);
    bench.device.txBatch(0, new Int32Array(0), 0);
    expect(bench.nic.accesses).toEqual(['W TDT 0x3', 'W TDT 0x3']);
  });

  it('sets EOP, IFCS and RS and nothing else', async () => {
    const bench = await startE1000();
    bench.nic.transmitting = false;
    send(bench, 0, 1);
    const desc = bench.dma.resolve(bench.nic.get(REG.TDBAL) + 2 ** 32, 16);
    expect(bench.dma.memory.u32[(desc + 8) >>> 2]).toBe((0x0b00_0000 | 60) >>> 0);
  });

  it('reclaims 32 at a time, and only when the 32nd is done', async () => {
    const bench = await startE1000();
    const { txPool } = bench.device;
    bench.nic.transmitting = false;
    send(bench, 0, 40);
    bench.nic.transmit(31);
    expect(bench.device.txRoom(0)).toBe(255 - 40);
    expect(txPool.available).toBe(300 - 40);
    bench.nic.transmit(1);
    expect(bench.device.txRoom(0)).toBe(255 - 8);
    expect(txPool.available).toBe(300 - 8);
  });

  it('takes 255 frames, then none until 32 are done', async () => {
    const bench = await startE1000();
    bench.nic.transmitting = false;
    expect(send(bench, 0, 260)).toBe(255);
    expect(send(bench, 255, 5)).toBe(0);
    bench.nic.transmit(32);
    expect(send(bench, 255, 40)).toBe(32);
    bench.nic.transmit();
    expect(sentNumbers(bench)).toEqual(numbers(0, 287));
  });

  it.each([0, 1985, 0xffff_ffff])('frees a frame of length %d unsent', async (length) => {
    const bench = await startE1000();
    const buffer = bench.device.txPool.alloc();
    setLength(bench.dma.memory, buffer, length);
    expect(bench.device.txBatch(0, Int32Array.of(buffer), 1)).toBe(1);
    expect(bench.nic.sent).toEqual([]);
    expect(bench.device.txPool.available).toBe(300);
  });

  it('sends a received buffer and gives it back to the receive pool', async () => {
    const bench = await startE1000();
    const buffers = new Int32Array(1);
    for (let n = 0; n < 200; n++) {
      receiveAll(bench, n, 1);
      expect(bench.device.rxBatch(0, buffers, 1)).toBe(1);
      expect(bench.device.txBatch(0, buffers, 1)).toBe(1);
    }
    expect(sentNumbers(bench)).toEqual(numbers(0, 200));
    expect(bench.device.packets.rxPool.available).toBeGreaterThanOrEqual(600 - 256 - 32);
  });

  it('txBatchBusyWait() waits until all are queued', async () => {
    const bench = await startE1000();
    bench.nic.transmitting = false;
    const buffers = new Int32Array(290);
    for (let n = 0; n < 290; n++) {
      buffers[n] = bench.device.txPool.alloc();
      setLength(bench.dma.memory, buffers[n] as number, 60);
    }
    const all = bench.device.txBatchBusyWait(0, buffers, 290);
    setImmediate(() => bench.nic.transmit());
    expect(await all).toBe(290);
  });
});

it('any mix of receiving, taking, sending and stalling keeps order and loses no buffer', async () => {
  const step = fc.record({ receive: fc.nat(80), take: fc.nat(80), send: fc.nat(80), transmit: fc.nat(80) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const bench = await startE1000();
      bench.nic.transmitting = false;
      let [received, sent] = [0, 0];
      const got: number[] = [];
      for (const { receive, take: n, send: m, transmit } of steps) {
        for (let i = 0; i < receive && bench.nic.receive(frame(received)); i++) received += 1;
        got.push(...take(bench, n));
        sent += send(bench, sent, Math.min(m, bench.device.txPool.available));
        bench.nic.transmit(transmit);
      }
      got.push(...take(bench, 256));
      bench.nic.transmit();
      expect(got).toEqual(numbers(0, received));
      expect(sentNumbers(bench)).toEqual(numbers(0, sent));
      expect(bench.device.packets.rxPool.available).toBe(600 - 256);
      bench.device.txRoom(0);
      expect(bench.device.txPool.available).toBeGreaterThanOrEqual(300 - 31);
    }),
    { numRuns: 60 },
  );
});
