import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { INBOUND, OUTBOUND } from '#common/capture/pcapng';
import { ringBytes } from '#common/capture/ring';
import { RingReader } from '#common/capture/ring_reader';
import { RingWriter } from '#common/capture/ring_writer';
import { Memory } from '#common/memory';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import { Captures } from './capture.ts';
import { CaptureClock } from './capture_clock.ts';
import { MockSwitch } from './testing/mock_switch.ts';
import type { VlanSpec } from './vlan.ts';

const CAPACITY = 65536;
const HEADER = 12;

/** A switch, and a capture of its first ports in a memory behind its own. */
function build(
  vlans: readonly VlanSpec[],
  options: { snapLength?: number; captured?: readonly number[] } = {},
) {
  const ports = options.captured ?? vlans.map((_, n) => n);
  const bytes = ringBytes(ports.length, CAPACITY);
  const lab = new MockSwitch();
  const clients = vlans.map((vlan) => lab.add({ vlan }));
  for (const client of clients) for (let n = 0; n < 16; n++) client.give();
  // The ring lies in the memory of the frames, behind all clients.
  const at = lab.memory.buffer.byteLength - 2 ** 20;
  lab.memory.u8.fill(0, at, at + bytes);
  const writer = new RingWriter(lab.memory, at, ports.length, CAPACITY, () => {});
  const reader = new RingReader(lab.memory, at, bytes, ports.length);
  const captures = new Captures(lab.memory, lab.forwarder);
  let ended = false;
  const onEnded = () => {
    ended = true;
  };
  const stop = captures.start({ ports, snapLength: options.snapLength ?? 65536, writer, onEnded });
  const take = () => {
    const frames: { port: number; direction: number; reason: number; length: number; bytes: number[] }[] = [];
    while (reader.next()) {
      const { interfaceId, direction, reason, original, at: from, captured } = reader.record;
      const kept = [...lab.memory.u8.subarray(from, from + captured)];
      frames.push({ port: ports[interfaceId] as number, direction, reason, length: original, bytes: kept });
    }
    reader.release();
    return frames;
  };
  return { lab, clients, captures, take, stop, isEnded: () => ended };
}

function received(client: MockClient | undefined): number[][] {
  return (client as MockClient).received().map((frame) => [...frame.subarray(HEADER)]);
}

const NATIVE: VlanSpec = {};
const ACCESS: VlanSpec = { access: 7 };
const TRUNK: VlanSpec = { trunk: 'all' };

describe('Captures', () => {
  it.each([
    ['native to native', NATIVE, NATIVE, ethernet(-1, 0)],
    ['access to trunk: with a tag at the trunk only', ACCESS, TRUNK, ethernet(-1, 0)],
    ['trunk to access: with a tag at the trunk only', TRUNK, ACCESS, ethernet(-1, 0, { vlan: 7 })],
    ['trunk to trunk: with the tag that was checked', TRUNK, TRUNK, ethernet(-1, 0, { vlan: 9 })],
  ])('show what client and client exchange, %s', (_name, from, to, frame) => {
    const { lab, clients, take } = build([from, to]);
    const [a, b] = clients;
    a?.send(frame);
    lab.run(a as MockClient);
    const [got] = received(b);
    expect(take()).toEqual(
      [
        { port: 1, direction: OUTBOUND, reason: -1, length: got?.length, bytes: got },
        { port: 0, direction: INBOUND, reason: -1, length: frame.length, bytes: [...frame] },
      ].sort((x, y) => x.port - y.port),
    );
  });

  it.each([14, 15, 16, 17, 18, 30])(
    'keep %i bytes of a frame whose tag is inserted, removed or kept',
    (snapLength) => {
      for (const [from, to, frame] of [
        [ACCESS, TRUNK, ethernet(-1, 0)],
        [TRUNK, ACCESS, ethernet(-1, 0, { vlan: 7 })],
        [TRUNK, TRUNK, ethernet(-1, 0, { vlan: 7 })],
      ] as const) {
        const { lab, clients, take } = build([from, to], { snapLength });
        clients[0]?.send(frame);
        lab.run(clients[0] as MockClient);
        const [got] = received(clients[1]);
        const [inbound, outbound] = take();
        expect(inbound?.bytes).toEqual([...frame.subarray(0, snapLength)]);
        expect(outbound?.bytes).toEqual(got?.slice(0, snapLength));
        expect([inbound?.length, outbound?.length]).toEqual([frame.length, got?.length]);
      }
    },
  );

  it('tell why a frame went nowhere', () => {
    const { lab, clients, take } = build([ACCESS, ACCESS]);
    clients[1]?.port.stop();
    clients[0]?.send(ethernet(-1, 0, { vlan: 7 }));
    clients[0]?.send(ethernet(-1, 0));
    lab.run(clients[0] as MockClient);
    expect(take().map(({ port, direction, reason }) => [port, direction, reason])).toEqual([
      [0, INBOUND, DROP.VLAN],
      [0, INBOUND, -1],
      [1, OUTBOUND, DROP.NOT_READY],
    ]);
  });

  it('of the same port do not disturb one another, and end one by one', () => {
    const { lab, clients, captures, take, stop } = build([NATIVE, NATIVE], { captured: [0] });
    const memory = new Memory(new ArrayBuffer(ringBytes(1, CAPACITY)));
    const full = new RingWriter(memory, 0, 1, 1024, () => {});
    const other = captures.start({ ports: [0], snapLength: 14, writer: full, onEnded: () => {} });
    clients[0]?.send(ethernet(-1, 0));
    lab.run(clients[0] as MockClient);
    expect(take()).toHaveLength(1);
    other();
    other();
    clients[0]?.send(ethernet(-1, 1));
    lab.run(clients[0] as MockClient);
    expect(take()).toHaveLength(1);
    stop();
    clients[0]?.send(ethernet(-1, 2));
    lab.run(clients[0] as MockClient);
    expect([take(), captures.size]).toEqual([[], 0]);
  });

  it('go on without a port that is gone, and end with the last; its number is another port then', () => {
    const { lab, clients, captures, take, isEnded } = build([NATIVE, NATIVE]);
    captures.portGone(0);
    clients[0]?.send(ethernet(-1, 0));
    lab.run(clients[0] as MockClient);
    expect(take().map(({ port }) => port)).toEqual([1]);
    expect(isEnded()).toBe(false);
    captures.portGone(1);
    expect(isEnded()).toBe(true);
    clients[0]?.send(ethernet(-1, 1));
    lab.run(clients[0] as MockClient);
    expect(take()).toEqual([]);
  });
});

describe('CaptureClock', () => {
  it('tells the wall-clock time and never goes back', () => {
    const clock = new CaptureClock();
    let last = 0n;
    for (let n = 0; n < 1000; n++) {
      clock.read();
      const now = BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanoseconds);
      expect(now >= last).toBe(true);
      last = now;
    }
    expect(Math.abs(Number(last / 1_000_000n) - Date.now())).toBeLessThan(10_000);
  });
});
