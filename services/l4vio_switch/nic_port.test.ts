import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { NET_F_CSUM, NET_F_HOST_TSO4, NET_F_HOST_TSO6 } from '#common/virtio/features';
import { type ClientOptions, ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import {
  netHeader,
  offsets,
  slowSegments,
  tcpFrame,
  tsoHeader,
  withChecksums,
  withPartialChecksum,
} from '#common/vnet/testing/tcp_frame';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { BUFFER, lengthOf, setLength } from '#ixl/ixl';
import { type NicDevice, NicPort } from './nic_port.ts';
import { MockSwitch } from './testing/mock_switch.ts';
import type { VlanSpec } from './vlan.ts';

/** A NIC whose packet buffers lie in the switch's memory; buffers are numbered from 0. */
class MockNic implements NicDevice {
  readonly sent: Uint8Array[] = [];
  readonly waiting: number[] = [];
  readonly free: number[] = [];
  txBatches = 0;
  room = 64;
  irqMasked = true;
  irqPending = false;
  readonly txPool = { alloc: () => this.free.pop() ?? -1 };
  readonly #lab: MockSwitch;

  constructor(lab: MockSwitch, base: number, buffers: number) {
    this.#lab = lab;
    for (let n = 0; n < buffers; n++) this.free.push(base + n * BUFFER.SIZE);
  }

  /** A frame comes in on the wire. */
  receive(frame: Uint8Array): void {
    const buffer = this.free.pop() as number;
    this.#lab.memory.u8.set(frame, buffer + BUFFER.DATA);
    setLength(this.#lab.memory, buffer, frame.length);
    this.waiting.push(buffer);
  }

  rxBatch(_queue: number, buffers: Int32Array | Uint32Array, count: number): number {
    const taken = this.waiting.splice(0, count);
    buffers.set(taken);
    return taken.length;
  }
  rxPending(): boolean {
    return this.waiting.length > 0;
  }
  txBatch(_queue: number, buffers: Int32Array | Uint32Array, count: number): number {
    if (count > 0) this.txBatches += 1;
    for (let n = 0; n < count; n++) {
      const buffer = buffers[n] as number;
      const at = buffer + BUFFER.DATA;
      this.sent.push(this.#lab.memory.u8.slice(at, at + lengthOf(this.#lab.memory, buffer)));
      this.free.push(buffer);
    }
    return count;
  }
  txRoom(): number {
    return this.room;
  }
  freeBuffer(buffer: number): void {
    this.free.push(buffer);
  }
  checkRecvIrq(): boolean {
    return this.irqPending;
  }
  ackRecvIrq(): void {
    this.irqMasked = false;
  }
  disableRecvIrq(): void {
    this.irqMasked = true;
  }
}

const BUFFERS = 256;

function setup(
  vlan: VlanSpec = {},
  options: ClientOptions = {},
): { lab: MockSwitch; client: MockClient; nic: MockNic; port: NicPort } {
  const lab = new MockSwitch();
  const client = lab.add({ ...options, vlan });
  const { size = 256 } = options;
  for (let n = 0; n < Math.min(size, 200); n++) client.give();
  // The memory of port 5 is not used by a client.
  const nic = new MockNic(lab, 6 * 2 * 1024 * 1024, BUFFERS);
  const { memory, forwarder } = lab;
  const port = new NicPort({ number: 1, memory, scratch: SCRATCH_BYTES, forwarder, nic });
  forwarder.connect(1, port, {});
  return { lab, client, nic, port };
}

describe('NicPort', () => {
  it('switches what the NIC received, with a plain header, and gives the buffers back', () => {
    const { lab, client, nic } = setup();
    for (let n = 0; n < 100; n++) nic.receive(ethernet(0, 9, { length: 60 + n, seed: n }));
    lab.scheduler.activate(1);
    while (lab.scheduler.poll());
    const frames = client.received();
    expect(frames).toHaveLength(100);
    expect([...(frames[7] as Uint8Array).subarray(0, 12)]).toEqual([0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect((frames[7] as Uint8Array).subarray(12)).toEqual(ethernet(0, 9, { length: 67, seed: 7 }));
    expect(nic.free).toHaveLength(BUFFERS);
  });

  it('never reads beyond a packet buffer, whatever length the device has written into it since', () => {
    const { lab, client, nic } = setup();
    const lies = [BUFFER.ROOM + 1, 60_000, 0xffff_ffff, 0];
    for (const lie of lies) {
      nic.receive(ethernet(0, 9));
      setLength(lab.memory, nic.waiting.at(-1) as number, lie);
    }
    nic.receive(ethernet(0, 9));
    lab.scheduler.activate(1);
    while (lab.scheduler.poll());
    expect(client.received().map((frame) => frame.subarray(12))).toEqual([ethernet(0, 9)]);
    expect(lab.forwarder.counters.droppedFor(1, DROP.MALFORMED)).toBe(lies.length);
    expect(nic.free).toHaveLength(BUFFERS);
  });

  it('takes at most the budget', () => {
    const { nic, port } = setup();
    for (let n = 0; n < 150; n++) nic.receive(ethernet(0, 9));
    expect(port.handle(128)).toBe(128);
    expect(port.handle(128)).toBe(22);
  });

  it('sends what clients send, in one batch per port, counted without the header', () => {
    const { lab, client, nic } = setup();
    for (let n = 0; n < 40; n++)
      client.send(ethernet(9, 0, { length: 60, seed: n }), n % 2 ? [12, 20, 33] : []);
    lab.run(client);
    expect(nic.sent).toEqual(Array.from({ length: 40 }, (_, n) => ethernet(9, 0, { length: 60, seed: n })));
    expect([nic.txBatches, lab.forwarder.counters.txBytes[1]]).toEqual([1, 2400]);
  });

  it.each([
    ['no descriptor', { room: 3 }, 3],
    ['no buffer', { buffers: 5 }, 5],
  ])(
    'drops and counts when there is %s',
    (_name, { room = 64, buffers = BUFFERS }: { room?: number; buffers?: number }, left) => {
      const { lab, client, nic } = setup();
      nic.room = room;
      nic.free.splice(buffers);
      for (let n = 0; n < 10; n++) client.send(ethernet(9, 0));
      lab.run(client);
      expect([nic.sent.length, lab.forwarder.counters.txDropped[1]]).toEqual([left, 10 - left]);
    },
  );

  it('drops what does not fit a packet buffer', () => {
    const { lab, client, nic } = setup();
    client.send(ethernet(9, 0, { length: BUFFER.ROOM + 1 }));
    client.send(ethernet(9, 0, { length: BUFFER.ROOM }));
    lab.run(client);
    expect(nic.sent.map(({ length }) => length)).toEqual([BUFFER.ROOM]);
    expect(lab.forwarder.counters.droppedFor(1, DROP.TOO_LONG)).toBe(1);
  });

  it('gets frames of a trunk without their tag', () => {
    const { lab, client, nic } = setup({ trunk: [7] });
    lab.forwarder.macs.learn(0x0900_0000, 0x0002 | (7 << 16), 1);
    const frame = ethernet(9, 0, { vlan: 7 });
    client.send(frame);
    client.send(frame, [12, 26]);
    lab.run(client);
    const untagged = Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]);
    expect(nic.sent).toEqual([untagged, untagged]);
  });

  it('masks the interrupt while it polls, and does not sleep over a frame', () => {
    const { lab, nic, port } = setup();
    nic.irqMasked = false;
    lab.scheduler.activate(1);
    expect(nic.irqMasked).toBe(true);
    nic.receive(ethernet(0, 9));
    expect([lab.scheduler.arm(), nic.irqMasked]).toEqual([true, true]);
    while (lab.scheduler.poll());
    expect([lab.scheduler.arm(), nic.irqMasked]).toEqual([false, false]);
    expect(port.onInterrupt()).toBe(false);
    nic.irqPending = true;
    expect(port.onInterrupt()).toBe(true);
  });
});

describe('NicPort, for clients that leave work to it', () => {
  const OFFLOADS: ClientOptions = {
    size: 16,
    slot: 16_512,
    features: [NET_F_CSUM, NET_F_HOST_TSO4, NET_F_HOST_TSO6],
  };

  it.each([
    ['native', {}, []],
    ['trunk, whose tag is removed', { trunk: [7] }, [[0x8100, 7]]],
  ] as const)('finishes checksums: %s', (_name, vlan, tags) => {
    const { lab, client, nic } = setup(vlan, OFFLOADS);
    if (tags.length > 0) lab.forwarder.macs.learn(0x0100_0000, 0x0002 | (7 << 16), 1);
    const frame = tcpFrame({ payload: 900, tags });
    const header = netHeader({ flags: 1, csumStart: offsets(frame).tcp, csumOffset: 16 });
    client.send(withPartialChecksum(frame), [], header);
    client.send(withPartialChecksum(frame), [12, 26, 77], header);
    lab.run(client);
    const untagged =
      tags.length > 0 ? Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]) : frame;
    expect(nic.sent).toEqual([withChecksums(untagged), withChecksums(untagged)]);
  });

  it.each([false, true])('segments (IPv6 %s)', (ipv6) => {
    const { lab, client, nic } = setup({}, OFFLOADS);
    const frame = tcpFrame({ payload: 30_000, ipv6, flags: 0x99 });
    client.send(withPartialChecksum(frame), [12, 99, 16_000, 30_000], tsoHeader(frame, 1448));
    lab.run(client);
    const expected = slowSegments(frame, 1448);
    expect(nic.sent).toEqual(expected);
    expect(lab.forwarder.counters.txBytes[1]).toBe(expected.reduce((sum, { length }) => sum + length, 0));
    expect(nic.free).toHaveLength(BUFFERS);
  });

  it('loses the segments that find no buffer, drops what does not fit one', () => {
    const { lab, client, nic } = setup({}, OFFLOADS);
    const frame = tcpFrame({ payload: 10_000 });
    nic.room = 4;
    client.send(withPartialChecksum(frame), [], tsoHeader(frame, 1000));
    client.send(withPartialChecksum(frame), [], tsoHeader(frame, 1000));
    client.send(withPartialChecksum(frame), [], tsoHeader(frame, 3000));
    lab.run(client);
    expect(nic.sent).toEqual(slowSegments(frame, 1000).slice(0, 4));
    const { counters } = lab.forwarder;
    expect([counters.droppedFor(1, DROP.NO_DESCRIPTOR), counters.droppedFor(1, DROP.TOO_LONG)]).toEqual([
      2, 1,
    ]);
  });
});
