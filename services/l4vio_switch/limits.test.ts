/** Rates, storm control and ages in a switch whose time is the test's. */
import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import type { ForwardSpec } from './forward.ts';
import { MockSwitch, type MockTime } from './testing/mock_switch.ts';
import { TokenBuckets } from './token_buckets.ts';

function build(maxAge: number, ...specs: ForwardSpec[]) {
  const time: MockTime = { maxAge, ms: 5000 };
  const lab = new MockSwitch(8, time);
  const clients = specs.map((vlan) => lab.add({ vlan })) as [MockClient, MockClient, MockClient];
  for (const client of clients) for (let n = 0; n < 64; n++) client.give();
  /** Frames that arrive at the other two ports when the first sends these. */
  const send = (from: MockClient, ...frames: Uint8Array[]): number[] => {
    for (const frame of frames) from.send(frame);
    lab.run(from);
    return clients.map((client) => client.received().length);
  };
  const dropped = (port: number, reason: number) => lab.forwarder.counters.droppedFor(port, reason);
  return { lab, time, clients, send, dropped };
}

const frames = (count: number, make: () => Uint8Array) => Array.from({ length: count }, make);

describe('TokenBuckets.take()', () => {
  /** Buckets of which number 0 has this limit, and what takes tokens out of it at a time. */
  function bucket(perSecond: number, depth: number) {
    const time = new Float64Array(1);
    const buckets = new TokenBuckets(2, time);
    buckets.limit(0, perSecond, depth);
    return (tokens: number, now: number, from = 0) => {
      time[0] = now;
      return buckets.take(from, tokens);
    };
  }

  it('starts full, is empty in the end, and fills with time up to its depth', () => {
    const take = bucket(1000, 10);
    const answers = [take(10, 50), take(1, 50), take(1, 51), take(1, 51), take(10, 1e6), take(1, 1e6)];
    expect(answers).toEqual([true, false, true, false, true, false]);
    expect(take(1e9, 50, 1)).toBe(true);
  });

  it('lets what is larger than the bucket pass when it is full, and has it pay back', () => {
    const take = bucket(1000, 10);
    expect([take(100, 0), take(1, 90), take(1, 91)]).toEqual([true, false, true]);
  });

  it('is not fooled by a clock that goes back', () => {
    const take = bucket(1000, 1);
    expect([take(1, 100), take(1, 50), take(1, 51)]).toEqual([true, false, true]);
  });

  it('never lets anything pass a bucket without depth', () => {
    const take = bucket(0, 0);
    expect([take(1, 0), take(1, 1e9)]).toEqual([false, false]);
  });
});

describe('a rate', () => {
  // 8000 bits per second: a frame of 100 bytes each 100 ms; two at once.
  const rate = { bitsPerSecond: 8000, burst: 200 };
  const frame = () => ethernet(-1, 0, { length: 100 });

  it('in: drops at the source what is too much, and counts it there', () => {
    const { time, clients, send, dropped } = build(0, { rateIn: rate }, {}, {});
    expect(send(clients[0], ...frames(5, frame))).toEqual([0, 2, 2]);
    expect([dropped(0, DROP.RATE), dropped(1, DROP.RATE)]).toEqual([3, 0]);
    time.ms += 100;
    expect(send(clients[0], ...frames(2, frame))).toEqual([0, 1, 1]);
    time.ms += 60_000;
    expect(send(clients[0], ...frames(5, frame))).toEqual([0, 2, 2]);
    expect(send(clients[1], ...frames(5, frame))).toEqual([5, 0, 5]);
  });

  it('out: drops at the destination, and others get everything', () => {
    const { time, clients, send, dropped } = build(0, {}, { rateOut: rate }, {});
    expect(send(clients[0], ...frames(5, frame))).toEqual([0, 2, 5]);
    expect([dropped(0, DROP.RATE), dropped(1, DROP.RATE)]).toEqual([0, 3]);
    time.ms += 200;
    expect(send(clients[0], ...frames(5, frame))).toEqual([0, 2, 5]);
  });

  it('out: counts the tag that the port gets', () => {
    const tagged = { bitsPerSecond: 8, burst: 208 };
    const { clients, send } = build(0, { access: 7 }, { trunk: [7], rateOut: tagged }, { access: 7 });
    expect(send(clients[0], ...frames(3, frame))).toEqual([0, 2, 3]);
  });

  it('is no limit any more for a new port in the old place', () => {
    const { lab, clients, send } = build(0, { rateIn: rate }, {}, {});
    lab.forwarder.disconnect(0);
    lab.forwarder.connect(0, clients[0].port, {});
    expect(send(clients[0], ...frames(5, frame))).toEqual([0, 5, 5]);
  });
});

describe('storm control', () => {
  const storm = { broadcast: 1, multicast: 2, unknown: 3 };

  it('limits broadcast, multicast and unknown destinations each by itself, and nothing else', () => {
    const { time, clients, send, dropped } = build(0, { storm }, {}, {});
    send(clients[1], ethernet(-1, 1));
    const broadcast = () => ethernet(-1, 0);
    const multicast = () => Uint8Array.from([1, 0, 0x5e, ...ethernet(-1, 0).subarray(3)]);
    const unknown = () => ethernet(77, 0);
    const known = () => ethernet(1, 0);
    const all = [broadcast, multicast, unknown, known].flatMap((make) => frames(5, make));
    expect(send(clients[0], ...all)).toEqual([0, 6 + 5, 6]);
    expect([dropped(0, DROP.STORM), dropped(1, DROP.STORM)]).toEqual([9, 0]);
    time.ms += 1000;
    expect(send(clients[0], ...frames(5, broadcast))).toEqual([0, 1, 1]);
    expect(send(clients[1], ...frames(5, broadcast))).toEqual([5, 0, 5]);
  });

  it('with 0 lets no unknown destination pass', () => {
    const { clients, send } = build(0, { storm: { unknown: 0 } }, {}, {});
    expect(send(clients[0], ethernet(77, 0), ethernet(-1, 0))).toEqual([0, 1, 1]);
  });
});

describe('a greatest age', () => {
  it('makes the switch flood again what it has not heard of for so long', () => {
    const { time, clients, send } = build(300, {}, {}, {});
    send(clients[1], ethernet(-1, 1));
    time.ms += 300_000;
    expect(send(clients[0], ethernet(1, 0))).toEqual([0, 1, 0]);
    time.ms += 1000;
    expect(send(clients[0], ethernet(1, 0))).toEqual([0, 1, 1]);
    send(clients[1], ethernet(0, 1));
    expect(send(clients[0], ethernet(1, 0))).toEqual([0, 1, 0]);
  });
});

describe('the clock', () => {
  function counting(spec: ForwardSpec, maxAge = 0) {
    let reads = 0;
    const time = {
      maxAge,
      get ms() {
        reads += 1;
        return 5000;
      },
      set ms(_value: number) {},
    };
    const lab = new MockSwitch(8, time);
    const a = lab.add({ vlan: spec });
    lab.add();
    for (let n = 0; n < 3; n++) {
      for (let i = 0; i < 20; i++) a.send(ethernet(-1, 0));
      lab.run(a);
    }
    return reads;
  }

  it('is read once for each batch, and not at all when nothing needs it', () => {
    expect(counting({})).toBe(0);
    expect(counting({ storm: { broadcast: 5 } })).toBe(3);
    expect(counting({}, 300)).toBe(3);
  });
});
