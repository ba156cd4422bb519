import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { INBOUND, OUTBOUND } from '#common/capture/pcapng';
import type { Endpoint } from '#common/vnet/endpoint';
import type { SourceFrame } from '#common/vnet/source_frame';
import { TAG_KEEP, TAG_REMOVE } from '#common/vnet/tag';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import { MockSwitch } from './testing/mock_switch.ts';
import type { VlanSpec } from './vlan.ts';

const HEADER = new Uint8Array(12);

function withHeader(frame: Uint8Array): Uint8Array {
  const header = HEADER.slice();
  header[10] = 1;
  return Uint8Array.from([...header, ...frame]);
}

function insertTag(frame: Uint8Array, vlan: number): Uint8Array {
  return Uint8Array.from([...frame.subarray(0, 12), 0x81, 0, vlan >>> 8, vlan & 0xff, ...frame.subarray(12)]);
}

function removeTag(frame: Uint8Array): Uint8Array {
  return Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]);
}

function build(...vlans: (VlanSpec | undefined)[]): { lab: MockSwitch; clients: MockClient[] } {
  const lab = new MockSwitch();
  const clients = vlans.map((vlan) => lab.add(vlan ? { vlan } : {}));
  for (const client of clients) for (let n = 0; n < 16; n++) client.give();
  return { lab, clients };
}

function sendAll(lab: MockSwitch, from: MockClient, ...frames: Uint8Array[]): void {
  for (const frame of frames) from.send(frame);
  lab.run(from);
}

describe('Forwarder.forward()', () => {
  it('floods what it does not know and delivers to one port what it has learned', () => {
    const { lab, clients } = build(undefined, undefined, undefined);
    const [a, b, c] = clients as [MockClient, MockClient, MockClient];
    const first = ethernet(1, 0);
    sendAll(lab, a, first);
    expect([a.received(), b.received(), c.received()]).toEqual([
      [],
      [withHeader(first)],
      [withHeader(first)],
    ]);
    const answer = ethernet(0, 1);
    sendAll(lab, b, answer);
    expect([a.received(), b.received(), c.received()]).toEqual([[withHeader(answer)], [], []]);
  });

  it('floods broadcast although it knows every port', () => {
    const { lab, clients } = build(undefined, undefined, undefined);
    const [a, b, c] = clients as [MockClient, MockClient, MockClient];
    sendAll(lab, b, ethernet(0, 1));
    sendAll(lab, c, ethernet(0, 2));
    for (const client of clients) client.received();
    sendAll(lab, a, ethernet(-1, 0));
    expect(clients.map((client) => client.received().length)).toEqual([0, 1, 1]);
  });

  it('drops silently what is for its own source port', () => {
    const { lab, clients } = build(undefined, undefined);
    const [a, b] = clients as [MockClient, MockClient];
    sendAll(lab, a, ethernet(5, 0), ethernet(0, 5));
    expect(b.received()).toHaveLength(1);
    expect(lab.forwarder.counters.txDropped[0]).toBe(0);
  });

  it('follows a station that moves to another port', () => {
    const { lab, clients } = build(undefined, undefined, undefined);
    const [a, b, c] = clients as [MockClient, MockClient, MockClient];
    sendAll(lab, b, ethernet(-1, 9));
    sendAll(lab, c, ethernet(-1, 9));
    for (const client of clients) client.received();
    sendAll(lab, a, ethernet(9, 0));
    expect(clients.map((client) => client.received().length)).toEqual([0, 0, 1]);
  });

  it('forgets the addresses of a port that goes and serves the others', () => {
    const { lab, clients } = build(undefined, undefined, undefined);
    const [a, b, c] = clients as [MockClient, MockClient, MockClient];
    sendAll(lab, b, ethernet(-1, 1));
    c.received();
    lab.forwarder.disconnect(1);
    lab.scheduler.forget(1);
    sendAll(lab, a, ethernet(1, 0));
    expect(c.received()).toHaveLength(1);
    expect(lab.forwarder.macs.size).toBe(1);
  });
});

const NATIVE: VlanSpec = {};
const ACCESS: VlanSpec = { access: 7 };
const TRUNK: VlanSpec = { trunk: [7, 8] };
const ALL: VlanSpec = { trunk: 'all' };

describe('VLAN truth table of a broadcast', () => {
  const untagged = ethernet(-1, 0);
  const tagged = ethernet(-1, 0, { vlan: 7 });
  const cases: [string, VlanSpec, Uint8Array, VlanSpec, Uint8Array | undefined][] = [
    ['native -> native', NATIVE, untagged, NATIVE, untagged],
    ['native -> access', NATIVE, untagged, ACCESS, undefined],
    ['native -> trunk', NATIVE, untagged, TRUNK, undefined],
    ['native -> trunk=all stays untagged [Q]', NATIVE, untagged, ALL, untagged],
    ['native, tagged -> access keeps the tag [Q]', NATIVE, tagged, ACCESS, tagged],
    ['native, tagged -> native', NATIVE, tagged, NATIVE, undefined],
    ['access -> same access', ACCESS, untagged, ACCESS, untagged],
    ['access -> other access', ACCESS, untagged, { access: 8 }, undefined],
    ['access -> native', ACCESS, untagged, NATIVE, undefined],
    ['access -> trunk inserts', ACCESS, untagged, TRUNK, insertTag(untagged, 7)],
    ['access -> trunk=all inserts', ACCESS, untagged, ALL, insertTag(untagged, 7)],
    ['access -> trunk of others', ACCESS, untagged, { trunk: [8] }, undefined],
    ['access, tagged is refused', ACCESS, tagged, ALL, undefined],
    ['access, priority tag is refused', ACCESS, ethernet(-1, 0, { vlan: 0 }), ALL, undefined],
    ['trunk -> access removes', TRUNK, tagged, ACCESS, removeTag(tagged)],
    ['trunk -> trunk', TRUNK, tagged, TRUNK, tagged],
    ['trunk -> native', TRUNK, tagged, NATIVE, undefined],
    ['trunk, untagged is refused', TRUNK, untagged, ALL, undefined],
    ['trunk, foreign id is refused', TRUNK, ethernet(-1, 0, { vlan: 9 }), ALL, undefined],
    ['trunk=all, untagged reaches trunks only', ALL, untagged, TRUNK, untagged],
    ['trunk=all, untagged does not reach native', ALL, untagged, NATIVE, undefined],
    [
      'trunk=all keeps priority bits',
      ALL,
      ethernet(-1, 0, { vlan: 0xa007 }),
      TRUNK,
      ethernet(-1, 0, { vlan: 0xa007 }),
    ],
  ];
  it.each(cases)('%s', (_name, from, frame, to, expected) => {
    const { lab, clients } = build(from, to);
    const [a, b] = clients as [MockClient, MockClient];
    sendAll(lab, a, frame);
    expect(b.received()).toEqual(expected ? [withHeader(expected)] : []);
  });

  it('counts what a port may not send', () => {
    const { lab, clients } = build(ACCESS, ALL);
    sendAll(lab, clients[0] as MockClient, tagged);
    expect(lab.forwarder.counters.txDropped[0]).toBe(1);
    expect(lab.forwarder.macs.size).toBe(0);
  });

  it('keeps the same address in two VLANs apart', () => {
    const { lab, clients } = build({ access: 7 }, { access: 8 }, { trunk: 'all' });
    const [a, b, trunk] = clients as [MockClient, MockClient, MockClient];
    sendAll(lab, a, ethernet(-1, 1));
    sendAll(lab, b, ethernet(-1, 1));
    sendAll(lab, trunk, ethernet(1, 2, { vlan: 8 }));
    expect([a.received().length, b.received().length]).toEqual([0, 1]);
  });

  it('strips a tag between trunk and native for an address that is known in that VLAN', () => {
    const { lab, clients } = build(NATIVE, TRUNK);
    const [native, trunk] = clients as [MockClient, MockClient];
    sendAll(lab, native, ethernet(-1, 0, { vlan: 7 }));
    const frame = ethernet(0, 1, { vlan: 7 });
    sendAll(lab, trunk, frame);
    expect(native.received()).toEqual([withHeader(removeTag(frame))]);
  });
});

it('a tag that was checked cannot be changed before the next port gets the frame', () => {
  const lab = new MockSwitch();
  const trunk = lab.add({ vlan: { trunk: [7] } });
  const target = lab.add({ vlan: { trunk: 'all' } });
  target.give();
  const frame = ethernet(-1, 0, { vlan: 7 });
  lab.forwarder.disconnect(1);
  lab.forwarder.connect(2, new Meddler(lab, trunk), { access: 7 });
  lab.forwarder.connect(1, target.port, { trunk: 'all' });
  sendAll(lab, trunk, frame);
  expect(target.received()).toEqual([withHeader(frame)]);
});

describe('Forwarder.tap()', () => {
  it('shows what a port sent and got, and why a frame was dropped', () => {
    const { lab, clients } = build({ trunk: [7] }, { access: 7 });
    const [trunk, access] = clients as [MockClient, MockClient];
    const seen: unknown[] = [];
    const tap = {
      frame: (
        port: number,
        direction: number,
        frame: SourceFrame,
        tag: number,
        tci: number,
        reason: number,
      ) => seen.push([port, direction, frame.length, tag, tci, reason]),
    };
    lab.forwarder.tap(0, tap);
    lab.forwarder.tap(1, tap);
    sendAll(lab, trunk, ethernet(-1, 0, { vlan: 7 }), ethernet(-1, 0, { vlan: 8 }));
    lab.forwarder.tap(0, undefined);
    access.port.stop();
    sendAll(lab, trunk, ethernet(-1, 0, { vlan: 7 }));
    expect(seen).toEqual([
      [0, INBOUND, 60, TAG_KEEP, 7, -1],
      [1, OUTBOUND, 60, TAG_REMOVE, 7, -1],
      [0, INBOUND, 60, TAG_KEEP, 8, DROP.VLAN],
      [1, OUTBOUND, 60, TAG_REMOVE, 7, DROP.NOT_READY],
    ]);
    expect(lab.forwarder.counters.droppedFor(1, DROP.NOT_READY)).toBe(1);
  });
});

/** Stands for a sender that rewrites its frame's tag to VLAN 9 while the switch works on it. */
class Meddler implements Endpoint {
  readonly #lab: MockSwitch;
  readonly #sender: MockClient;

  constructor(lab: MockSwitch, sender: MockClient) {
    this.#lab = lab;
    this.#sender = sender;
  }
  deliver(): number {
    const tag = this.#sender.slot(256) + 12 + 12;
    this.#lab.memory.u8.set([0x81, 0, 0, 9], tag);
    return ~DROP.NO_DESCRIPTOR;
  }
  handle = () => 0;
  publish = () => false;
  interrupt = () => {};
  enableNotifications = () => false;
  disableNotifications = () => {};
}

describe('checksum offset', () => {
  it.each([
    ['grows with an inserted tag', ACCESS, ethernet(-1, 0), 38],
    ['shrinks with a removed tag', TRUNK, ethernet(-1, 0, { vlan: 7 }), 30],
  ])('%s', (_name, from, frame, expected) => {
    const { lab, clients } = build(from, from === ACCESS ? TRUNK : ACCESS);
    const [a, b] = clients as [MockClient, MockClient];
    a.send(frame, [], Uint8Array.from([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]));
    lab.run(a);
    expect([...(b.received()[0] as Uint8Array).subarray(0, 12)]).toEqual([
      1,
      0,
      0,
      0,
      0,
      0,
      expected,
      0,
      16,
      0,
      1,
      0,
    ]);
  });
});

describe('monitor port', () => {
  it('gets one copy of every forwarded frame, access frames tagged, and is no target of flooding', () => {
    const { lab, clients } = build(ACCESS, ACCESS, NATIVE);
    const [a, b, native] = clients as [MockClient, MockClient, MockClient];
    const monitor = lab.addMonitor();
    for (let n = 0; n < 8; n++) monitor.give();
    sendAll(lab, a, ethernet(-1, 0));
    sendAll(lab, b, ethernet(0, 1));
    sendAll(lab, native, ethernet(-1, 2));
    expect(monitor.received()).toEqual([
      withHeader(insertTag(ethernet(-1, 0), 7)),
      withHeader(insertTag(ethernet(0, 1), 7)),
      withHeader(ethernet(-1, 2)),
    ]);
    sendAll(lab, a, ethernet(0, 5));
    expect(monitor.received()).toEqual([]);
  });

  it('has what it sends completed and dropped', () => {
    const { lab, clients } = build(NATIVE);
    const monitor = lab.addMonitor();
    monitor.send(ethernet(-1, 1));
    lab.scheduler.activate(lab.forwarder.monitor);
    while (lab.scheduler.poll());
    expect(monitor.tx.take()).toEqual({ id: 0, len: 0 });
    expect((clients[0] as MockClient).received()).toEqual([]);
  });
});
