/** Mirrors, filters and links of a switch with mock clients. */
import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { OUTBOUND } from '#common/capture/pcapng';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import type { ForwardSpec } from './forward.ts';
import { MockSwitch } from './testing/mock_switch.ts';

const MIRROR: ForwardSpec = { mirror: [] };

function build(...specs: ForwardSpec[]) {
  const lab = new MockSwitch();
  const clients = specs.map((vlan) => lab.add({ vlan })) as [MockClient, MockClient, MockClient, MockClient];
  for (const client of clients) for (let n = 0; n < 16; n++) client.give();
  const send = (from: MockClient, ...frames: Uint8Array[]) => {
    for (const frame of frames) from.send(frame);
    lab.run(from);
  };
  return { lab, clients, send };
}

const bare = (frames: Uint8Array[]) => frames.map((frame) => frame.subarray(12));
const tagged = (frame: Uint8Array, vlan: number) =>
  Uint8Array.from([...frame.subarray(0, 12), 0x81, 0, 0, vlan, ...frame.subarray(12)]);

describe('a mirror', () => {
  it('gets what comes in at its port and what goes out to it, each as it is there', () => {
    const { lab, clients, send } = build({ access: 7 }, { trunk: [7] }, MIRROR, { access: 7 });
    const [web, trunk, mirror, other] = clients;
    lab.forwarder.mirror(1, [2]);
    const fromWeb = ethernet(-1, 0);
    const toWeb = ethernet(0, 1, { vlan: 7 });
    send(web, fromWeb);
    send(trunk, toWeb);
    expect(bare(mirror.received())).toEqual([tagged(fromWeb, 7), toWeb]);
    expect([bare(web.received()), bare(other.received())]).toEqual([
      [Uint8Array.from([...toWeb.subarray(0, 12), ...toWeb.subarray(16)])],
      [fromWeb],
    ]);
  });

  it('sees what was refused, is no target of flooding, and nobody hears it', () => {
    const { lab, clients, send } = build({ access: 7 }, {}, MIRROR, {});
    const [web, native, mirror] = clients;
    lab.forwarder.mirror(0, [2]);
    const refused = ethernet(-1, 0, { vlan: 9 });
    send(web, refused);
    send(native, ethernet(-1, 1));
    send(mirror, ethernet(-1, 2));
    expect(bare(mirror.received())).toEqual([refused]);
    expect(native.received()).toEqual([]);
    expect(lab.forwarder.counters.droppedFor(0, DROP.VLAN)).toBe(1);
  });

  it('does not see what was not delivered, and shares ports with other mirrors', () => {
    const { lab, clients, send } = build({}, {}, MIRROR, MIRROR);
    const [a, b, first, second] = clients;
    lab.forwarder.mirror(1, [2, 3]);
    lab.forwarder.setLink(1, false);
    send(a, ethernet(-1, 0));
    expect([first.received(), second.received()]).toEqual([[], []]);
    lab.forwarder.setLink(1, true);
    send(a, ethernet(-1, 0));
    expect([b, first, second].map((client) => client.received().length)).toEqual([1, 1, 1]);
    lab.forwarder.mirror(1, [3]);
    send(a, ethernet(-1, 0));
    expect([b, first, second].map((client) => client.received().length)).toEqual([1, 0, 1]);
  });

  it('drops for its own part alone when it has no room, and counts that at itself', () => {
    const lab = new MockSwitch();
    const [a, b, mirror] = [lab.add(), lab.add(), lab.add({ vlan: MIRROR })];
    b.give();
    lab.forwarder.mirror(0, [2]);
    a.send(ethernet(-1, 0));
    lab.run(a);
    expect([b.received().length, mirror.received().length]).toEqual([1, 0]);
    expect(lab.forwarder.counters.droppedFor(2, DROP.NO_DESCRIPTOR)).toBe(1);
  });
});

describe('a filter', () => {
  const arp = (vlan?: number, type = 0x06) => {
    const frame = ethernet(-1, 0, vlan === undefined ? {} : { vlan });
    frame[vlan === undefined ? 13 : 17] = type;
    return frame;
  };

  it('lets the monitor see the types it names, tagged or not, in any pieces', () => {
    const { lab, clients, send } = build({}, {});
    const monitor = lab.addMonitor({ vlan: { filter: [0x0806] } });
    for (let n = 0; n < 16; n++) monitor.give();
    const [a, b] = clients;
    send(a, arp(), ethernet(-1, 0), arp(5), ethernet(-1, 0, { vlan: 5 }));
    a.send(arp(), [13, 20, 25, 26]);
    a.send(arp(), [25]);
    lab.run(a);
    expect(bare(monitor.received())).toEqual([arp(), arp(5), arp(), arp()]);
    expect(b.received().length).toBeGreaterThan(3);
    expect(lab.forwarder.counters.txDropped[lab.forwarder.monitor]).toBe(0);
  });

  it('refuses frames that have no type, and says so to a tap', () => {
    const { lab, clients, send } = build({}, {});
    const monitor = lab.addMonitor({ vlan: { filter: [0] } });
    for (let n = 0; n < 4; n++) monitor.give();
    const seen: number[] = [];
    lab.forwarder.tap(lab.forwarder.monitor, {
      frame: (_port, direction, _frame, _tag, _tci, reason) => {
        if (direction === OUTBOUND) seen.push(reason);
      },
    });
    send(clients[0], ethernet(-1, 0, { length: 13 }));
    expect([monitor.received(), seen]).toEqual([[], [DROP.FILTER]]);
  });
});

describe('setLink()', () => {
  it('down: nothing comes in, nothing goes out, both are counted, and addresses are forgotten', () => {
    const { lab, clients, send } = build({}, {}, {});
    const [a, b, c] = clients;
    const { forwarder } = lab;
    send(b, ethernet(-1, 1));
    for (const client of clients) client.received();
    forwarder.setLink(1, false);
    send(a, ethernet(1, 0));
    send(b, ethernet(-1, 1));
    expect([a, b, c].map((client) => client.received().length)).toEqual([0, 0, 1]);
    expect(forwarder.counters.droppedFor(1, DROP.LINK_DOWN)).toBe(2);
    expect([forwarder.linkUp(0), forwarder.linkUp(1), forwarder.macs.size]).toEqual([true, false, 1]);
    forwarder.setLink(1, true);
    send(b, ethernet(-1, 1));
    expect([a, b, c].map((client) => client.received().length)).toEqual([1, 0, 1]);
  });

  it('lasts over a driver that comes and goes', () => {
    const { lab, clients, send } = build({}, {});
    lab.forwarder.setLink(1, false);
    lab.forwarder.disconnect(1);
    lab.forwarder.connect(1, clients[1].port, {});
    send(clients[0], ethernet(-1, 0));
    expect(clients[1].received()).toEqual([]);
  });
});

describe('frames that go nowhere', () => {
  it('are noted by reason, not among the drops of the original', () => {
    const { lab, clients, send } = build({}, {});
    const { counters } = lab.forwarder;
    send(clients[0], ethernet(-1, 5), ethernet(5, 0));
    lab.forwarder.disconnect(1);
    send(clients[0], ethernet(-1, 0));
    expect([counters.droppedFor(0, DROP.NO_PORT), counters.txDropped[0]]).toEqual([2, 0]);
  });
});

it('a request that is no frame is counted at its port', () => {
  const { lab, clients } = build({}, {});
  clients[0].send(new Uint8Array(0));
  lab.run(clients[0]);
  const { counters } = lab.forwarder;
  expect([clients[0].invalid, counters.droppedFor(0, DROP.MALFORMED)]).toEqual([1, 1]);
  // It came in there.
  expect([counters.refusedFor(0, DROP.MALFORMED), counters.txDropped[0]]).toEqual([1, 1]);
});

describe('802.1p', () => {
  const withPcp = (vlan: number, pcp: number) => ethernet(-1, 0, { vlan: (pcp << 13) | vlan });

  it('stays from trunk to trunk, and is 0 where a tag is inserted', () => {
    const { clients, send } = build({ trunk: [7] }, { trunk: 'all' }, { access: 7 });
    const [a, b, c] = clients;
    send(a, withPcp(7, 5));
    expect(bare(b.received())).toEqual([withPcp(7, 5)]);
    expect(c.received()[0]?.subarray(24, 26)).toEqual(Uint8Array.of(8, 0));
    send(c, ethernet(-1, 2));
    expect(a.received()[0]?.subarray(24, 28)).toEqual(Uint8Array.of(0x81, 0, 0, 7));
  });
});
