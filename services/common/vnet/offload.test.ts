import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import fc from '#common/testing/fast_check';
import * as f from '#common/virtio/features';
import { guestAbilities, hostAbilities, missingFeature, portFeatures } from './offload.ts';
import { TAG_INSERT, TAG_KEEP, TAG_REMOVE, TAG_REPLACE } from './tag.ts';
import { ethernet, type MockClient } from './testing/mock_client.ts';
import { type HubPort, MockHub, receivedFrames } from './testing/mock_hub.ts';
import {
  netHeader,
  offsets,
  read16,
  slowSegments,
  slowSum,
  type TcpFrame,
  tcpFrame,
  tsoHeader,
  withChecksums,
  withPartialChecksum,
} from './testing/tcp_frame.ts';

const HOST = [f.NET_F_CSUM, f.NET_F_HOST_TSO4, f.NET_F_HOST_TSO6, f.NET_F_HOST_ECN];
const GUEST_TSO = [f.NET_F_GUEST_TSO4, f.NET_F_GUEST_TSO6];
const BIG = 66_048;
/** A sender with room for a large frame in each of its slots. */
const SENDER: HubPort = { size: 32, slot: 16_512, features: HOST };
const FIN_PSH_ACK_CWR = 0x99;

/** Inserts or removes the tag, byte by byte. */
function retag(frame: Uint8Array<ArrayBuffer>, tag: number, tci: number): Uint8Array {
  const bytes = [...frame];
  const mine = [0x81, 0, tci >>> 8, tci & 0xff];
  if (tag === TAG_INSERT) bytes.splice(12, 0, ...mine);
  if (tag === TAG_REMOVE) bytes.splice(12, 4);
  if (tag === TAG_REPLACE) bytes.splice(12, 4, ...mine);
  return withChecksums(Uint8Array.from(bytes));
}

/** Cuts of at most a sender's slot. */
const evenCuts = (bytes: number): number[] =>
  Array.from({ length: Math.floor(bytes / 16_000) }, (_, n) => (n + 1) * 16_000);

function sendTso(
  hub: MockHub,
  from: MockClient,
  frame: Uint8Array<ArrayBuffer>,
  mss: number,
  ecn = false,
  cuts = evenCuts(frame.length),
): void {
  from.send(withPartialChecksum(frame), cuts, tsoHeader(frame, mss, ecn));
  hub.run(from);
}

/** What came in, with checksums that were left to the receiver completed. */
function completed(client: MockClient): Uint8Array<ArrayBuffer>[] {
  return receivedFrames(client).map(({ header, frame }) => {
    if (header[0] !== 1) return frame;
    const [start, offset] = [6, 8].map(
      (at) => (header[at] as number) | ((header[at + 1] as number) << 8),
    ) as [number, number];
    const sum = ~slowSum(frame.subarray(start)) & 0xffff || 0xffff;
    frame.set([sum >>> 8, sum & 0xff], start + offset);
    return frame;
  });
}

const gives = (client: MockClient, count: number, lens: number[]): void => {
  for (let n = 0; n < count; n++) client.give(lens);
};

describe('features of a port', () => {
  it('are those of the original and what a driver has to ask for', () => {
    expect(f.featureNames(portFeatures({ mac: true, mtu: true, offloads: true }))).toBe(
      'CSUM GUEST_CSUM MTU MAC GUEST_TSO4 GUEST_TSO6 GUEST_ECN HOST_TSO4 HOST_TSO6 HOST_ECN MRG_RXBUF STATUS INDIRECT_DESC EVENT_IDX',
    );
    expect(f.featureNames(portFeatures({}))).toBe('MRG_RXBUF STATUS INDIRECT_DESC EVENT_IDX');
  });

  it.each([
    [[f.NET_F_HOST_TSO4], 'HOST_TSO4 and HOST_TSO6 need CSUM'],
    [[f.NET_F_GUEST_TSO6], 'GUEST_TSO4 and GUEST_TSO6 need GUEST_CSUM'],
    [[f.NET_F_CSUM, f.NET_F_HOST_ECN], 'HOST_ECN needs HOST_TSO4 or HOST_TSO6'],
    [[f.NET_F_GUEST_CSUM, f.NET_F_GUEST_ECN], 'GUEST_ECN needs GUEST_TSO4 or GUEST_TSO6'],
    [[...HOST, f.NET_F_GUEST_CSUM, ...GUEST_TSO, f.NET_F_GUEST_ECN], undefined],
    [[], undefined],
  ])('%j: %s', (bits, missing) => {
    expect(missingFeature(f.featureSet(...bits))).toBe(missing);
  });

  it('say what either side may do', () => {
    expect(hostAbilities(f.featureSet(...HOST))).toEqual({ csum: true, tso4: true, tso6: true, ecn: true });
    expect(guestAbilities(f.featureSet(f.NET_F_GUEST_CSUM, f.NET_F_GUEST_TSO6))).toEqual({
      csum: true,
      tso4: false,
      tso6: true,
      ecn: false,
    });
  });
});

describe('a frame with NEEDS_CSUM', () => {
  const frame = tcpFrame({ payload: 777, tcpOptions: 12 });
  const { tcp } = offsets(frame);
  const header = netHeader({ flags: 1, csumStart: tcp, csumOffset: 16 });

  it('goes unchanged to a receiver with GUEST_CSUM', () => {
    const hub = new MockHub();
    const [a, b] = [hub.add(SENDER), hub.add({ features: [f.NET_F_GUEST_CSUM] })] as [MockClient, MockClient];
    b.give();
    a.send(withPartialChecksum(frame), [], header);
    hub.run(a);
    const [received] = receivedFrames(b);
    expect(received?.frame).toEqual(withPartialChecksum(frame));
    expect([...(received?.header ?? [])]).toEqual([...header.subarray(0, 10), 1, 0]);
  });

  it.each([
    ['in one piece', []],
    ['in pieces', [12, 30, 31, 63, 64, 65, 100, 333]],
  ])('is finished for one without, %s', (_name, cuts) => {
    const hub = new MockHub();
    const [a, b] = [hub.add(SENDER), hub.add()] as [MockClient, MockClient];
    b.give([40, 27, 1, 1500]);
    a.send(withPartialChecksum(frame), cuts, header);
    hub.run(a);
    const [received] = receivedFrames(b);
    expect(received?.frame).toEqual(frame);
    expect([...(received?.header ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  });

  it.each([
    ['inserted', TAG_INSERT, []],
    ['removed', TAG_REMOVE, [[0x8100, 5]]],
    ['replaced', TAG_REPLACE, [[0x8100, 5]]],
  ] as const)('has csum_start moved when its tag is %s', (_name, tag, tags) => {
    const source = tcpFrame({ payload: 300, tags });
    const at = offsets(source).tcp;
    const hub = new MockHub();
    const a = hub.add(SENDER);
    const receivers = [[], [f.NET_F_GUEST_CSUM]].map((features) => hub.add({ features, tag, tci: 0xe007 }));
    for (const client of receivers) client.give();
    a.send(withPartialChecksum(source), [], netHeader({ flags: 1, csumStart: at, csumOffset: 16 }));
    hub.run(a);
    for (const client of receivers) expect(completed(client)).toEqual([retag(source, tag, 0xe007)]);
  });

  it('is finished when a tag moves csum_start beyond what a header can say', () => {
    const csumStart = 0xfffe;
    const source = new Uint8Array(csumStart + 8).fill(1, 14);
    const hub = new MockHub();
    const a = hub.add(SENDER);
    const b = hub.add({ features: [f.NET_F_GUEST_CSUM], mergeable: true, tag: TAG_INSERT, tci: 5 });
    gives(b, 50, [1526]);
    a.send(source, evenCuts(source.length), netHeader({ flags: 1, csumStart, csumOffset: 2 }));
    hub.run(a);
    const [received] = receivedFrames(b);
    expect([...(received?.header.subarray(0, 10) ?? [])]).toEqual(new Array(10).fill(0));
    const sum = ~slowSum(source.subarray(csumStart)) & 0xffff;
    expect([...(received?.frame.subarray(csumStart + 4) ?? [])]).toEqual([
      ...[1, 1, sum >>> 8, sum & 0xff],
      ...[1, 1, 1, 1],
    ]);
  });

  it('is not waited for when the receiver has no buffer, or one that is too small', () => {
    const hub = new MockHub();
    const [a, b] = [hub.add(SENDER), hub.add()] as [MockClient, MockClient];
    a.send(withPartialChecksum(frame), [], header);
    hub.run(a);
    b.give([300]);
    a.send(withPartialChecksum(frame), [], header);
    hub.run(a);
    expect(hub.fabric.delivered).toEqual([
      [1, ~DROP.NO_DESCRIPTOR],
      [1, ~DROP.TOO_LONG],
    ]);
  });

  it('may be any protocol: the sum is stored where csum_offset says, 0xffff instead of 0', () => {
    const hub = new MockHub();
    const [a, b] = [hub.add(SENDER), hub.add()] as [MockClient, MockClient];
    b.give();
    const bytes = new Uint8Array(60).fill(0, 14);
    bytes.set([0xff, 0xff], 20);
    a.send(bytes, [], netHeader({ flags: 1, csumStart: 14, csumOffset: 40 }));
    hub.run(a);
    const [received] = receivedFrames(b);
    expect(read16(received?.frame as Uint8Array, 54)).toBe(0xffff);
  });
});

describe('a frame to be segmented', () => {
  it('goes unchanged to a receiver that segments', () => {
    for (const ipv6 of [false, true]) {
      const frame = tcpFrame({ payload: 60_000, ipv6, flags: FIN_PSH_ACK_CWR });
      const hub = new MockHub();
      const features = [f.NET_F_GUEST_CSUM, ...GUEST_TSO, f.NET_F_GUEST_ECN];
      const big = hub.add(SENDER);
      const whole = hub.add({ features, size: 8, slot: BIG });
      const merging = hub.add({ features, mergeable: true });
      whole.give([BIG]);
      gives(merging, 50, [1526]);
      sendTso(hub, big, frame, 1448, true);
      for (const client of [whole, merging]) {
        const [received] = receivedFrames(client);
        expect(received?.frame).toEqual(withPartialChecksum(frame));
        expect(received?.header.subarray(0, 10)).toEqual(tsoHeader(frame, 1448, true).subarray(0, 10));
      }
    }
  });

  it('is cut for everybody else of one flood, each as it can take it', () => {
    const frame = tcpFrame({
      payload: 30_001,
      tcpOptions: 12,
      flags: FIN_PSH_ACK_CWR,
      sequence: 0xffff_f000,
      id: 0xfffa,
    });
    const hub = new MockHub(8);
    const a = hub.add(SENDER);
    const whole = hub.add({
      features: [f.NET_F_GUEST_CSUM, ...GUEST_TSO, f.NET_F_GUEST_ECN],
      mergeable: true,
    });
    const cut = [
      hub.add(),
      hub.add({ features: [f.NET_F_GUEST_CSUM] }),
      hub.add({ features: [f.NET_F_GUEST_CSUM, f.NET_F_GUEST_TSO6] }),
      // CWR in the frame, which it must not see in one of several.
      hub.add({ features: [f.NET_F_GUEST_CSUM, ...GUEST_TSO], mergeable: true }),
      // No buffer that takes the frame, and no leave to use several.
      hub.add({ features: [f.NET_F_GUEST_CSUM, ...GUEST_TSO, f.NET_F_GUEST_ECN] }),
      hub.add({ nic: true }),
    ];
    for (const client of [whole, ...cut]) gives(client, 40, [1526]);
    sendTso(hub, a, frame, 1448, true);
    const expected = slowSegments(frame, 1448);
    expect(receivedFrames(whole).map((one) => one.frame)).toEqual([withPartialChecksum(frame)]);
    for (const client of cut) expect(completed(client)).toEqual(expected);
    expect(hub.fabric.losses).toEqual([]);
  });

  it('arrives as the slow implementation cuts it: any size, segment size, options, tags, fragmentation, receiver', () => {
    const receiver = fc.record({
      csum: fc.boolean(),
      mergeable: fc.boolean(),
      small: fc.boolean(),
      offset: fc.nat(7),
      tag: fc.boolean(),
    });
    const spec = fc.record({
      ipv6: fc.boolean(),
      vlan: fc.constantFrom('none', 'one', 'two'),
      options: fc.nat(3),
      tcpOptions: fc.nat(10),
      flags: fc.nat(255).map((flags) => flags & ~0x06),
      sequence: fc.nat(0xffff_ffff),
      id: fc.nat(0xffff),
      payload: fc.oneof(
        fc.integer({ min: 1, max: 3000 }),
        fc.integer({ min: 1, max: 12_000 }),
        fc.constantFrom(48_000, 65_000),
      ),
      seed: fc.nat(255),
    });
    const cuts = fc.array(fc.integer({ min: 13, max: 3000 }), { maxLength: 12 });
    fc.assert(
      fc.property(spec, fc.integer({ min: 8, max: 1600 }), receiver, cuts, (one, wanted, to, some) => {
        const tags = (
          {
            none: [],
            one: [[0x8100, 77]],
            two: [
              [0x8100, 77],
              [0x8100, 5],
            ],
          } as const
        )[one.vlan];
        const description: TcpFrame = {
          ...one,
          tags,
          ipOptions: one.options * 8,
          tcpOptions: one.tcpOptions * 4,
        };
        const frame = tcpFrame(description);
        // At most as many segments as the receiver has buffers.
        const mss = Math.min(Math.max(wanted, Math.ceil(one.payload / 200)), frame.length);
        const tag = !to.tag ? TAG_KEEP : one.vlan === 'none' ? TAG_INSERT : TAG_REMOVE;
        const hub = new MockHub(2);
        const a = hub.add(SENDER);
        const features = to.csum ? [f.NET_F_GUEST_CSUM] : [];
        const b = hub.add({ features, mergeable: to.mergeable, offset: to.offset, tag, tci: 0x6123 });
        const pieces = to.mergeable && to.small ? [900] : to.small ? [12, 14, 301, 1480] : [1930];
        gives(b, to.small && !to.mergeable ? 64 : 256, pieces);
        const sorted = [...new Set([...some, ...evenCuts(frame.length)])].sort((x, y) => x - y);
        sendTso(hub, a, frame, mss, false, sorted);
        const expected = slowSegments(frame, mss).map((segment) => retag(segment, tag, 0x6123));
        const got = completed(b);
        expect(hub.fabric.refused).toEqual([]);
        const differs = got.findIndex((bytes, n) => Buffer.compare(bytes, expected[n] as Uint8Array) !== 0);
        expect(differs).toBe(-1);
        const all = hub.fabric.losses.length === 0;
        expect(got.length === expected.length).toBe(all);
        expect(got.length).toBeGreaterThan(0);
      }),
      { numRuns: 120 },
    );
  });

  it('that fits one segment needs its checksum only', () => {
    const frame = tcpFrame({ payload: 500, flags: 0x18 });
    const hub = new MockHub();
    const [a, b, c] = [hub.add(SENDER), hub.add(), hub.add({ features: [f.NET_F_GUEST_CSUM] })] as [
      MockClient,
      MockClient,
      MockClient,
    ];
    b.give();
    c.give();
    sendTso(hub, a, frame, 500);
    expect(receivedFrames(b).map((one) => one.frame)).toEqual([frame]);
    expect([...(receivedFrames(c)[0]?.header.subarray(0, 2) ?? [])]).toEqual([1, 0]);
  });

  it('loses the segments that find no buffer, and says so once', () => {
    const frame = tcpFrame({ payload: 10_000 });
    const hub = new MockHub();
    const [a, b] = [hub.add(SENDER), hub.add()] as [MockClient, MockClient];
    sendTso(hub, a, frame, 1000);
    gives(b, 4, [1526]);
    sendTso(hub, a, frame, 1000);
    expect(completed(b)).toEqual(slowSegments(frame, 1000).slice(0, 4));
    expect(hub.fabric.delivered[0]).toEqual([1, ~DROP.NO_DESCRIPTOR]);
    expect(hub.fabric.losses).toEqual([[1, DROP.NO_DESCRIPTOR]]);
    gives(b, 1, [1526]);
    a.send(ethernet(1, 0));
    hub.run(a);
    expect(completed(b)).toEqual([ethernet(1, 0)]);
  });

  it('is too long when a segment is: for a NIC, for an MTU that was promised, for small buffers', () => {
    const frame = tcpFrame({ payload: 8000 });
    const hub = new MockHub(4);
    const a = hub.add(SENDER);
    const all = [hub.add({ nic: true }), hub.add({ mtu: 1000 }), hub.add()];
    for (const client of all) gives(client, 8, [1526]);
    sendTso(hub, a, frame, 2000);
    expect(hub.fabric.delivered.map(([, bytes]) => bytes)).toEqual([
      ~DROP.TOO_LONG,
      ~DROP.TOO_LONG,
      ~DROP.TOO_LONG,
    ]);
    for (const client of all) expect(client.received()).toEqual([]);
  });

  it('may be longer than a promised MTU by its tag, not by more', () => {
    const lens = [1000, 1001].map((mtu) => {
      const hub = new MockHub();
      const a = hub.add(SENDER);
      const b = hub.add({ mtu, tag: TAG_INSERT, tci: 5 });
      gives(b, 8, [1526]);
      sendTso(hub, a, tcpFrame({ payload: 4000 }), 961);
      a.send(ethernet(1, 0, { length: 1015 }));
      hub.run(a);
      return b.received().length;
    });
    expect(lens).toEqual([0, 6]);
  });

  it('costs its sender a share of the burst that fits its size and its segments', () => {
    const hub = new MockHub();
    const a = hub.add({ ...SENDER, size: 64, slot: 8192 });
    const b = hub.add();
    gives(b, 256, [1526]);
    const frame = tcpFrame({ payload: 8000 });
    for (let n = 0; n < 20; n++) a.send(withPartialChecksum(frame), [], tsoHeader(frame, 500));
    // 16 segments, 1 for the frame and 1 for its 8 KiB.
    expect(hub.run(a, 128)).toBe(Math.ceil(128 / 18));
  });
});

describe('headers of those who have not asked for offloads', () => {
  const lies = netHeader({ flags: 3, gsoType: 1, hdrLen: 9, gsoSize: 10, csumStart: 2000, csumOffset: 2000 });

  it('pass as they are between two of them, as in the original', () => {
    const hub = new MockHub();
    const [a, b] = [hub.add({ size: 8 }), hub.add()] as [MockClient, MockClient];
    b.give();
    a.send(ethernet(1, 0), [], lies);
    hub.run(a);
    expect(receivedFrames(b)[0]?.header.subarray(0, 10)).toEqual(lies.subarray(0, 10));
  });

  it('never reach one that would act on them', () => {
    const hub = new MockHub();
    const [a, b] = [hub.add({ size: 8 }), hub.add({ features: [f.NET_F_GUEST_CSUM] })] as [
      MockClient,
      MockClient,
    ];
    for (const tag of [TAG_KEEP, TAG_INSERT]) {
      hub.fabric.ports[1] = { tag, tci: 1 };
      b.give();
      a.send(ethernet(1, 0), [], lies);
      hub.run(a);
      expect([...(receivedFrames(b)[0]?.header.subarray(0, 2) ?? [])]).toEqual([0, 0]);
    }
  });

  it('DATA_VALID is for the device to say: it is taken out of what a driver with CSUM sends', () => {
    const hub = new MockHub();
    const a = hub.add(SENDER);
    const all = [hub.add(), hub.add({ features: [f.NET_F_GUEST_CSUM] })];
    for (const client of all) client.give();
    a.send(ethernet(1, 0), [], netHeader({ flags: 2 }));
    hub.run(a);
    for (const client of all) expect(receivedFrames(client)[0]?.header[0]).toBe(0);
  });
});
