/** Offload headers that lie: dropped with a reason, forwarded to nobody, and never a byte read beyond the frame. */

import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import fc from '#common/testing/fast_check';
import * as f from '#common/virtio/features';
import { MIN_GSO_SIZE } from './offload_check.ts';
import { ethernet, type MockClient } from './testing/mock_client.ts';
import { type HubPort, MockHub, receivedFrames } from './testing/mock_hub.ts';
import { type Header, netHeader, offsets, type TcpFrame, tcpFrame, tsoHeader } from './testing/tcp_frame.ts';

const HOST = [f.NET_F_CSUM, f.NET_F_HOST_TSO4, f.NET_F_HOST_TSO6];
const GUEST = [f.NET_F_GUEST_CSUM, f.NET_F_GUEST_TSO4, f.NET_F_GUEST_TSO6, f.NET_F_GUEST_ECN];
const RECEIVERS: HubPort[] = [{}, { features: GUEST, mergeable: true }, { nic: true }];

interface Lab {
  readonly hub: MockHub;
  readonly sender: MockClient;
  readonly receivers: MockClient[];
}

function lab(features: readonly number[] = HOST): Lab {
  const hub = new MockHub();
  const sender = hub.add({ features, size: 16, slot: 16_512 });
  const receivers = RECEIVERS.map((options) => hub.add(options));
  for (const client of receivers) for (let n = 0; n < 32; n++) client.give([1900]);
  return { hub, sender, receivers };
}

/** Sends the frame, which must be refused with a sentence that has these words, and then a good one, which must arrive. */
function expectRefused(
  { hub, sender, receivers }: Lab,
  frame: Uint8Array,
  header: Uint8Array,
  words: string,
  cuts: number[] = [],
): void {
  sender.send(frame, cuts, header);
  hub.run(sender);
  expect(hub.fabric.refused).toEqual([DROP.OFFLOAD]);
  expect(hub.fabric.delivered).toEqual([]);
  expect(sender.reasons).toEqual([expect.stringContaining(words)]);
  for (const client of receivers) expect(client.received()).toEqual([]);
  sender.send(ethernet(1, 0));
  hub.run(sender);
  for (const client of receivers)
    expect(receivedFrames(client).map((one) => one.frame)).toEqual([ethernet(1, 0)]);
  for (const client of [sender, ...receivers]) expect(client.errors).toEqual([]);
}

/** A frame that could be segmented, but for one thing. */
function tso(
  spec: Partial<TcpFrame>,
  change: { header?: Header; patch?: [at: number, bytes: number[]] } = {},
): [Uint8Array, Uint8Array] {
  const frame = tcpFrame({ payload: 4000, ...spec });
  const header = tsoHeader(frame, 1000);
  const { tcp, payload, ipv6 } = offsets(frame);
  const good = {
    flags: 1,
    gsoType: ipv6 ? 4 : 1,
    hdrLen: payload,
    gsoSize: 1000,
    csumStart: tcp,
    csumOffset: 16,
  };
  if (change.patch) frame.set(change.patch[1], change.patch[0]);
  return [frame, change.header ? netHeader({ ...good, ...change.header }) : header];
}

describe('CVE-2024-11614 (DPDK vhost): checksum offsets that point past the frame', () => {
  const frame = tcpFrame({ payload: 100 });
  it.each([
    ['csum_start at its end', { csumStart: frame.length, csumOffset: 0 }],
    ['csum_start far behind it', { csumStart: 0xffff, csumOffset: 0 }],
    ['csum_offset behind it', { csumStart: 34, csumOffset: frame.length - 34 }],
    ['a checksum of which one byte is inside', { csumStart: 34, csumOffset: frame.length - 34 - 1 }],
    ['a sum of both that would wrap at 16 bits', { csumStart: 0xfff0, csumOffset: 0x20 }],
  ])('%s', (_name, offset) => {
    expectRefused(lab(), frame, netHeader({ flags: 1, ...offset }), 'must lie inside the frame');
    expectRefused(lab(), ...tso({}, { header: offset }), 'must');
  });

  it('the last two bytes are inside', () => {
    const { hub, sender, receivers } = lab();
    sender.send(frame, [], netHeader({ flags: 1, csumStart: 34, csumOffset: frame.length - 34 - 2 }));
    hub.run(sender);
    for (const client of receivers) expect(client.received()).toHaveLength(1);
  });
});

describe('a checksum in the Ethernet header', () => {
  it.each([0, 6, 13])('csum_start %d', (csumStart) => {
    expectRefused(
      lab(),
      tcpFrame({ payload: 9 }),
      netHeader({ flags: 1, csumStart, csumOffset: 16 }),
      'behind the Ethernet',
    );
  });

  it('csum_start in the tag, where it would be moved with it', () => {
    const frame = tcpFrame({ payload: 9, tags: [[0x8100, 3]] });
    expectRefused(
      lab(),
      frame,
      netHeader({ flags: 1, csumStart: 17, csumOffset: 16 }),
      'behind the Ethernet',
    );
  });
});

describe('segmentation that does not fit its frame', () => {
  const ip6 = { ipv6: true };
  const cases: [string, [Uint8Array, Uint8Array], string][] = [
    ['gso_size 0', tso({}, { header: { gsoSize: 0 } }), 'gso_size'],
    ['gso_size below the least', tso({}, { header: { gsoSize: MIN_GSO_SIZE - 1 } }), 'gso_size'],
    ['gso_size larger than the frame', tso({}, { header: { gsoSize: 4055 } }), 'gso_size'],
    ['hdr_len larger than the frame', tso({}, { header: { hdrLen: 4055 } }), 'hdr_len'],
    ['no NEEDS_CSUM', tso({}, { header: { flags: 0 } }), 'NEEDS_CSUM'],
    ['DATA_VALID instead of NEEDS_CSUM', tso({}, { header: { flags: 2 } }), 'NEEDS_CSUM'],
    ['UFO, which is not offered', tso({}, { header: { gsoType: 3 } }), 'gso_type'],
    ['an unknown gso_type', tso({}, { header: { gsoType: 5 } }), 'gso_type'],
    ['ECN without a type', tso({}, { header: { gsoType: 0x80 } }), 'gso_type'],
    ['the ECN bit without negotiation', tso({}, { header: { gsoType: 0x81 } }), 'gso_type'],
    ['TCPV4 over IPv6', tso(ip6, { header: { gsoType: 1 } }), 'TCP over'],
    ['TCPV6 over IPv4', tso({}, { header: { gsoType: 4 } }), 'TCP over'],
    ['UDP over IPv4', tso({}, { patch: [23, [17]] }), 'TCP over'],
    ['UDP over IPv6', tso(ip6, { patch: [20, [17]] }), 'TCP over'],
    ['ARP', tso({}, { patch: [12, [8, 6]] }), 'TCP over'],
    [
      'three tags',
      tso({
        tags: [
          [0x8100, 1],
          [0x8100, 2],
          [0x8100, 3],
        ],
      }),
      'TCP over',
    ],
    ['a fragment', tso({}, { patch: [20, [0x20, 0]] }), 'TCP over'],
    ['a later fragment', tso({}, { patch: [20, [0, 9]] }), 'TCP over'],
    ['SYN', tso({ flags: 0x02 }), 'TCP over'],
    ['RST', tso({ flags: 0x04 }), 'TCP over'],
    ['IPv6 fragment header', tso({ ...ip6, ipOptions: 8 }, { patch: [20, [44]] }), 'TCP over'],
    ['IPv6 routing header', tso({ ...ip6, ipOptions: 8 }, { patch: [20, [43]] }), 'TCP over'],
    [
      'IPv6 options that are followed by no TCP',
      tso({ ...ip6, ipOptions: 8 }, { patch: [54, [59]] }),
      'TCP over',
    ],
    ['IPv6 options for ever', tso({ ...ip6, ipOptions: 8 }, { patch: [54, [60, 0xff]] }), 'lengths'],
    [
      'IPv6 options that name each other',
      tso(ip6, { patch: [20, [60, 64, ...new Array(600).fill(60).map((_, n) => (n % 8 === 1 ? 0 : 60))]] }),
      'lengths',
    ],
    ['IP version 5', tso({}, { patch: [14, [0x55]] }), 'lengths'],
    ['IPv6 of version 4', tso(ip6, { patch: [14, [0x40]] }), 'lengths'],
    ['an IPv4 header of 4 words', tso({}, { patch: [14, [0x44]] }), 'lengths'],
    ['an IPv4 header longer than it is', tso({}, { patch: [14, [0x4f]] }), 'must'],
    ['an IPv4 length that is too small', tso({}, { patch: [16, [0, 100]] }), 'lengths'],
    ['an IPv4 length that is too large', tso({}, { patch: [16, [0xff, 0xff]] }), 'lengths'],
    ['an IPv6 length of 0, a jumbogram', tso(ip6, { patch: [18, [0, 0]] }), 'lengths'],
    ['a TCP header of 4 words', tso({}, { patch: [46, [0x40]] }), 'lengths'],
    [
      'a TCP header up to the end of the frame',
      tso({ payload: 40 }, { patch: [46, [0xf0]], header: { gsoSize: 8 } }),
      'lengths',
    ],
    ['no payload', tso({ payload: 0 }, { header: { gsoSize: 8, hdrLen: 0 } }), 'lengths'],
    ['csum_start in front of TCP', tso({}, { header: { csumStart: 33 } }), 'csum_start'],
    ['csum_start behind TCP', tso({}, { header: { csumStart: 54 } }), 'csum_start'],
    ['csum_offset of UDP', tso({}, { header: { csumOffset: 6 } }), 'csum_offset'],
  ];
  it.each(cases)('%s', (_name, [frame, header], words) => {
    expectRefused(lab(), frame, header, words);
    expectRefused(lab(), frame, header, words, [12, 13, 27, 40, 54, 60]);
  });

  it.each([
    ['nothing but CSUM', [f.NET_F_CSUM], {}],
    ['the other protocol', [f.NET_F_CSUM, f.NET_F_HOST_TSO6], {}],
    ['the other protocol (IPv6)', [f.NET_F_CSUM, f.NET_F_HOST_TSO4], { ipv6: true }],
  ])('a type that was not negotiated: %s', (_name, features, spec) => {
    expectRefused(lab(features), ...tso(spec), 'gso_type');
  });

  it('a frame of nothing but headers that would go on behind it', () => {
    for (const length of [14, 15, 33, 34, 53, 54]) {
      const [frame, header] = tso({ payload: 100 }, { header: { gsoSize: 8, hdrLen: 0 } });
      expectRefused(lab(), frame.slice(0, length), header, 'must');
    }
  });
});

describe('any header before any frame', () => {
  const spec = fc.record({
    ipv6: fc.boolean(),
    payload: fc.nat(1500),
    ipOptions: fc.constantFrom(0, 8, 16),
    tcpOptions: fc.constantFrom(0, 12, 40),
    tags: fc.constantFrom([], [[0x8100, 1]] as [number, number][]),
  });
  const header = fc.record({
    flags: fc.nat(3),
    gsoType: fc.constantFrom(0, 1, 3, 4, 0x81, 0x84, 0xff),
    hdrLen: fc.nat(0xffff),
    gsoSize: fc.oneof(fc.nat(40), fc.nat(0xffff)),
    csumStart: fc.oneof(fc.nat(80), fc.nat(0xffff)),
    csumOffset: fc.oneof(fc.constant(16), fc.nat(0xffff)),
  });
  const patches = fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 3 });
  const keep = fc.boolean();

  it('reads nothing behind the frame, reaches nobody without being checked, and breaks no port', () => {
    fc.assert(
      fc.property(
        spec,
        header,
        patches,
        keep,
        keep,
        fc.array(fc.nat(200), { maxLength: 5 }),
        (one, wild, some, keepHeader, short, cuts) => {
          const { hub, sender, receivers } = lab();
          const frame = tcpFrame(one);
          for (const [at, value] of some) if (at < frame.length) frame[at] = value;
          const bytes = short ? frame.slice(0, Math.max(1, frame.length - (wild.hdrLen % 100))) : frame;
          const { tcp, payload } = offsets(tcpFrame(one));
          const fitting = {
            gsoType: one.ipv6 ? 4 : 1,
            hdrLen: payload,
            csumStart: tcp,
            csumOffset: 16,
            flags: 1,
          };
          sender.send(
            bytes,
            [...cuts].sort((a, b) => a - b),
            netHeader(keepHeader ? { ...wild, ...fitting } : wild),
          );
          hub.run(sender);
          expect([sender, ...receivers].flatMap((client) => client.errors)).toEqual([]);
          expect(sender.tx.take()?.len).toBe(0);
          for (const [index, client] of receivers.entries()) {
            for (const { header: got, frame: out } of receivedFrames(client)) {
              const [flags, type] = [got[0] as number, got[1] as number];
              if (index !== 1) expect([flags, type]).toEqual([0, 0]);
              expect(flags & ~1).toBe(0);
              expect(out.length).toBeLessThanOrEqual(bytes.length);
              if (flags === 1)
                expect(
                  (got[6] as number) +
                    ((got[7] as number) << 8) +
                    (got[8] as number) +
                    ((got[9] as number) << 8) +
                    2,
                ).toBeLessThanOrEqual(out.length);
              if (type !== 0) expect([type, flags]).toEqual([one.ipv6 ? 4 : 1, 1]);
            }
          }
        },
      ),
      { numRuns: 250 },
    );
  });

  it('changed while it is looked at fools only its sender: what is delivered is what was checked', () => {
    const { hub, sender, receivers } = lab();
    const [frame, good] = tso({});
    sender.send(frame, [], good);
    const at = sender.slot(sender.tx.layout.size);
    const deliver = hub.fabric.forward.bind(hub.fabric);
    hub.fabric.forward = (from, source) => {
      // Between the check and the delivery: another header, another IP header.
      hub.memory.u8.set(
        netHeader({ flags: 1, gsoType: 3, gsoSize: 1, csumStart: 0xffff, csumOffset: 0xffff }),
        at,
      );
      hub.memory.u8.fill(0xff, at + 12, at + 12 + 54);
      deliver(from, source);
    };
    hub.run(sender);
    const [plain, able, nic] = receivers.map((client) => receivedFrames(client));
    expect(plain).toHaveLength(4);
    expect(nic).toHaveLength(4);
    expect(able?.[0]?.header.subarray(0, 10)).toEqual(good.subarray(0, 10));
    expect(able?.[0]?.frame.subarray(0, 54)).toEqual(frame.subarray(0, 54));
    for (const one of plain ?? []) expect(one.frame.subarray(0, 14)).toEqual(frame.subarray(0, 14));
  });

  it('changed from plain to hostile while it is copied arrives plain', () => {
    for (const features of [HOST, []]) {
      const { hub, sender, receivers } = lab(features);
      sender.send(ethernet(1, 0));
      const at = sender.slot(sender.tx.layout.size);
      const deliver = hub.fabric.forward.bind(hub.fabric);
      hub.fabric.forward = (from, source) => {
        hub.memory.u8.set(netHeader({ flags: 1, gsoType: 3, csumStart: 0xffff }), at);
        deliver(from, source);
      };
      hub.run(sender);
      expect([...(receivedFrames(receivers[1] as MockClient)[0]?.header.subarray(0, 2) ?? [])]).toEqual([
        0, 0,
      ]);
    }
  });
});
