import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { MockDevice } from '#common/testing/mock_device';
import { DriverQueue } from '#common/virtio/driver_queue';
import { featureSet } from '#common/virtio/features';
import { layoutQueue, queueBytes } from '#common/virtio/layout';
import { type Bench, frame, startE1000 } from '../testing/fakes.ts';
import { BURST, Forwarder } from './forwarder.ts';

const ADDRESS_OFFSET = 0x20_0000;
const HEADER = 12;
const [RX_BUFFERS, TX_BUFFERS] = [1200, 1024];

interface Setup extends Bench {
  readonly forwarder: Forwarder;
  /** The switch's half of virtqueue 1 and 0. */
  readonly toSwitch: MockDevice;
  readonly fromSwitch: MockDevice;
  readonly notified: () => number;
  readonly broken: unknown[];
}

async function setup(size = 256): Promise<Setup> {
  const bench = await startE1000({ rxBuffers: RX_BUFFERS, txBuffers: TX_BUFFERS });
  const { dma, device } = bench;
  const area = await dma.allocate(2 * queueBytes(size));
  const layouts = [
    layoutQueue(size, area.offset),
    layoutQueue(size, area.offset + queueBytes(size)),
  ] as const;
  const queue = (n: 0 | 1) => new DriverQueue(dma.memory, layouts[n], featureSet(), `queue ${n}`);
  let notified = 0;
  const broken: unknown[] = [];
  const forwarder = new Forwarder({
    device,
    memory: dma.memory,
    fromSwitch: queue(0),
    toSwitch: queue(1),
    addressOffset: ADDRESS_OFFSET,
    notify: () => {
      notified += 1;
    },
    kick: () => {},
    onBroken: (err) => broken.push(err),
  });
  const half = (n: 0 | 1) => new MockDevice(dma.memory, layouts[n], ADDRESS_OFFSET);
  return { ...bench, forwarder, toSwitch: half(1), fromSwitch: half(0), notified: () => notified, broken };
}

/** The switch takes everything that waits in virtqueue 1: copies of header and frame. */
function switchTakes({ toSwitch }: Setup, limit = 1000): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let n = 0; n < limit; n++) {
    const chain = toSwitch.take();
    if (!chain) break;
    const [piece] = chain.pieces;
    // Thousands of them: an `expect` for each takes longer than all the rest.
    if (!piece || chain.pieces.length !== 1) throw new Error(`a chain of ${chain.pieces.length} pieces`);
    frames.push(toSwitch.bytes(piece).slice());
    toSwitch.give(chain.head, 0);
  }
  return frames;
}

/** The switch sends one frame to the NIC; false when it has no buffer. */
function switchSends({ fromSwitch }: Setup, bytes: Uint8Array, used = HEADER + bytes.length): boolean {
  const chain = fromSwitch.take();
  const piece = chain?.pieces[0];
  if (!chain || !piece) return false;
  if (piece.len !== HEADER + 1518 || !piece.writable) throw new Error(`a buffer of ${piece.len} bytes`);
  fromSwitch.bytes(piece).set(bytes, HEADER);
  fromSwitch.give(chain.head, used);
  return true;
}

const numberOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4);

describe('Forwarder', () => {
  it('hands a received frame over where it lies, behind a header', async () => {
    const s = await setup();
    s.nic.receive(frame(7, 90));
    expect(s.forwarder.poll()).toBe(true);
    const [bytes] = switchTakes(s);
    expect([...(bytes as Uint8Array).subarray(0, HEADER)]).toEqual([0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect((bytes as Uint8Array).subarray(HEADER)).toEqual(frame(7, 90));
    expect(s.notified()).toBe(1);
  });

  it('sends what the switch writes, without its header', async () => {
    const s = await setup();
    s.forwarder.poll();
    switchSends(s, frame(9, 1518));
    expect(s.forwarder.poll()).toBe(true);
    expect(s.nic.sent).toEqual([frame(9, 1518)]);
    expect(s.forwarder.poll()).toBe(false);
  });

  it('does not notify a switch that asked not to be', async () => {
    const s = await setup();
    s.toSwitch.usedFlags = 1;
    s.fromSwitch.usedFlags = 1;
    s.nic.receive(frame(1));
    s.forwarder.poll();
    expect(s.notified()).toBe(0);
  });

  it('handles at most 128 frames each way in a turn', async () => {
    const s = await setup();
    s.forwarder.poll();
    for (let n = 0; n < 200; n++) {
      s.nic.receive(frame(n));
      switchSends(s, frame(n));
    }
    s.forwarder.poll();
    expect(s.forwarder.counters).toEqual({ received: BURST, sent: BURST, dropped: 0 });
  });

  it('leaves frames in the NIC while the switch takes none, and goes on when it does', async () => {
    const s = await setup(32);
    s.forwarder.disarm();
    for (let n = 0; n < 100; n++) s.nic.receive(frame(n));
    while (s.forwarder.poll());
    expect(s.toSwitch.availFlags).toBe(1);
    expect(s.forwarder.arm()).toBe(false);
    expect(s.toSwitch.availFlags).toBe(0);
    const got: number[] = [];
    for (let n = 0; n < 10; n++) {
      got.push(...switchTakes(s).map(numberOf));
      s.forwarder.poll();
    }
    expect(got).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  it.each([0, HEADER + 13])('drops a frame of used length %d', async (used) => {
    const s = await setup();
    s.forwarder.poll();
    switchSends(s, frame(1), used);
    s.forwarder.poll();
    expect(s.nic.sent).toEqual([]);
    expect(s.forwarder.counters.dropped).toBe(1);
  });

  it('stops once, and takes every buffer back, when the switch breaks the ring', async () => {
    const s = await setup();
    s.nic.receive(frame(1));
    s.forwarder.poll();
    s.fromSwitch.give(9999, 60);
    expect(s.forwarder.poll()).toBe(false);
    expect(s.forwarder.poll()).toBe(false);
    expect(s.broken).toHaveLength(1);
    s.forwarder.stop();
    expect(s.device.packets.rxPool.available).toBe(RX_BUFFERS - 256);
    expect(s.device.txPool.available).toBe(TX_BUFFERS);
  });
});

describe('Forwarder.arm()', () => {
  it('lets NIC and switch interrupt, and reads the cause first', async () => {
    const s = await setup();
    s.forwarder.poll();
    s.forwarder.disarm();
    s.nic.accesses.length = 0;
    expect(s.forwarder.arm()).toBe(false);
    expect(s.nic.accesses[0]).toBe('R ICR');
    expect(s.nic.accesses.at(-1)).toBe('W IMS 0xd4');
    expect(s.fromSwitch.availFlags).toBe(0);
    // Completions of frames that the switch got are of no interest now.
    expect(s.toSwitch.availFlags).toBe(1);
    let fired = 0;
    s.device.rebindRecvIrq(0, () => {
      fired += 1;
    });
    s.nic.receive(frame(1));
    expect(fired).toBe(1);
  });

  it('is true when work came in between', async () => {
    const s = await setup();
    s.forwarder.poll();
    s.forwarder.disarm();
    s.nic.receive(frame(1));
    expect(s.forwarder.arm()).toBe(true);
    s.forwarder.poll();
    s.forwarder.disarm();
    switchSends(s, frame(2));
    expect(s.forwarder.arm()).toBe(true);
  });

  it('does not interrupt again for frames that polling took', async () => {
    const s = await setup();
    let fired = 0;
    s.device.rebindRecvIrq(0, () => {
      fired += 1;
    });
    s.forwarder.disarm();
    for (let n = 0; n < 10; n++) s.nic.receive(frame(n));
    while (s.forwarder.poll());
    expect(s.forwarder.arm()).toBe(false);
    expect(fired).toBe(0);
  });
});

it('no frame is lost, repeated or reordered, and no buffer leaks, whatever the timing', async () => {
  const step = fc.record({ receive: fc.nat(90), take: fc.nat(90), send: fc.nat(90), transmit: fc.nat(90) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const s = await setup(64);
      s.nic.transmitting = false;
      let [received, sent] = [0, 0];
      const got: number[] = [];
      for (const { receive, take, send, transmit } of steps) {
        for (let n = 0; n < receive && s.nic.receive(frame(received)); n++) received += 1;
        s.forwarder.poll();
        got.push(...switchTakes(s, take).map(numberOf));
        for (let n = 0; n < send && switchSends(s, frame(sent)); n++) sent += 1;
        s.nic.transmit(transmit);
      }
      for (let n = 0; n < 20; n++) {
        s.forwarder.poll();
        got.push(...switchTakes(s).map(numberOf));
        s.nic.transmit();
      }
      expect(got).toEqual(Array.from({ length: received }, (_, n) => n));
      expect(s.nic.sent.map(numberOf)).toEqual(Array.from({ length: sent }, (_, n) => n));
      s.forwarder.stop();
      s.device.txRoom(0);
      expect(s.device.packets.rxPool.available).toBe(RX_BUFFERS - 256);
      expect(s.device.txPool.available).toBeGreaterThan(TX_BUFFERS - 32);
    }),
    { numRuns: 60 },
  );
});
