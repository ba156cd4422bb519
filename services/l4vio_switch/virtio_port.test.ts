import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import fc from '#common/testing/fast_check';
import {
  CLIENT_BYTES,
  type ClientOptions,
  ethernet,
  type MockClient,
} from '#common/vnet/testing/mock_client';
import { NIC_ROOM } from '#common/vnet/virtio_port';
import { MockSwitch, mockBytes } from './testing/mock_switch.ts';

function pair(
  to: ClientOptions = {},
  from: ClientOptions = {},
): { lab: MockSwitch; a: MockClient; b: MockClient } {
  const lab = new MockSwitch();
  return { lab, a: lab.add(from), b: lab.add(to) };
}

/** One byte string of what came, without headers; several chains are one frame. */
const payload = (chains: Uint8Array[]) => Uint8Array.from(chains.flatMap((chain) => [...chain])).subarray(12);

describe('delivery to a virtio port', () => {
  it.each([14, 15, 60, 64, 65, 127, 128, 129, 255, 256, 257, 1513, 1514])(
    '%d bytes arrive as they were sent',
    (length) => {
      for (const offset of [0, 1, 2, 4, 6]) {
        const { lab, a, b } = pair({ offset }, { offset: 8 - offset });
        b.give();
        const frame = ethernet(1, 0, { length });
        a.send(frame);
        lab.run(a);
        const [received] = b.received() as [Uint8Array];
        expect(received.subarray(12)).toEqual(frame);
        expect([...received.subarray(0, 12)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
      }
    },
  );

  it('accepts any split of header and frame over descriptors', () => {
    const frame = ethernet(1, 0, { length: 100 });
    for (const cuts of [[12], [12, 13], [20], [12, 18, 24, 25], [30, 60, 90]]) {
      const { lab, a, b } = pair();
      b.give([12, 7, 1, 2000]);
      a.send(frame, cuts);
      lab.run(a);
      expect(payload(b.received())).toEqual(frame);
    }
  });

  it('completes and reports what is no frame: header too short, or nothing behind it', () => {
    const { lab, a, b } = pair();
    b.give();
    a.send(new Uint8Array(0));
    a.send(ethernet(1, 0), [11]);
    lab.run(a);
    expect(a.invalid).toBe(2);
    expect([a.tx.take(), a.tx.take()]).toEqual([
      { id: 0, len: 0 },
      { id: 1, len: 0 },
    ]);
    expect(a.errors).toEqual([]);
  });

  it('copies the header as it is but for num_buffers', () => {
    const { lab, a, b } = pair();
    b.give();
    a.send(ethernet(1, 0), [], Uint8Array.of(1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 99, 99));
    lab.run(a);
    expect([...(b.received()[0] as Uint8Array).subarray(0, 12)]).toEqual([
      1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0,
    ]);
  });

  it('drops what finds no buffer, and the buffers given later are used', () => {
    const { lab, a, b } = pair();
    a.send(ethernet(1, 0, { seed: 1 }));
    lab.run(a);
    expect(lab.forwarder.counters.txDropped[1]).toBe(1);
    b.give();
    a.send(ethernet(1, 0, { seed: 2 }));
    lab.run(a);
    expect(payload(b.received())).toEqual(ethernet(1, 0, { seed: 2 }));
    expect(lab.forwarder.counters.txDropped[1]).toBe(1);
  });

  it('without MRG_RXBUF drops a frame that is too long for the chain and uses the chain for the next', () => {
    const { lab, a, b } = pair();
    b.give([512]);
    a.send(ethernet(1, 0, { length: 1000 }));
    a.send(ethernet(1, 0, { length: 500 }));
    lab.run(a);
    expect(payload(b.received())).toHaveLength(500);
    expect(lab.forwarder.counters.txDropped[1]).toBe(1);
  });

  it('counts packets and bytes with the header', () => {
    const { lab, a, b } = pair();
    b.give();
    a.send(ethernet(1, 0, { length: 100 }));
    lab.run(a);
    const { txPackets, txBytes, rxPackets, rxBytes } = lab.forwarder.counters;
    expect([txPackets[1], txBytes[1], rxPackets[0], rxBytes[0]]).toEqual([1, 112, 1, 112]);
  });
});

describe('delivery with MRG_RXBUF', () => {
  it('spreads a frame over chains and says how many', () => {
    const { lab, a, b } = pair({ mergeable: true });
    for (let n = 0; n < 4; n++) b.give([300]);
    const frame = ethernet(1, 0, { length: 1000 });
    a.send(frame);
    lab.run(a);
    const chains = b.received();
    expect(chains.map((chain) => chain.length)).toEqual([300, 300, 300, 112]);
    expect((chains[0] as Uint8Array)[10]).toBe(4);
    expect(payload(chains)).toEqual(frame);
  });

  it('gives all chains back when they are too few, and uses them for the next frame', () => {
    const { lab, a, b } = pair({ mergeable: true });
    for (let n = 0; n < 3; n++) b.give([300]);
    a.send(ethernet(1, 0, { length: 1000 }));
    a.send(ethernet(1, 0, { length: 400, seed: 5 }));
    lab.run(a);
    expect(payload(b.received())).toEqual(ethernet(1, 0, { length: 400, seed: 5 }));
    expect(lab.forwarder.counters.txDropped[1]).toBe(1);
  });
});

describe('port of a NIC', () => {
  it('gets and gives frames with a plain header, counted as on the wire', () => {
    const { lab, a, b } = pair({ nic: true }, { nic: true });
    b.give([2048]);
    a.send(ethernet(1, 0, { length: 100 }), [], new Uint8Array(12).fill(0xff));
    lab.run(a);
    const [received] = b.received() as [Uint8Array];
    expect([...received.subarray(0, 12)]).toEqual([0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(received.subarray(12)).toEqual(ethernet(1, 0, { length: 100 }));
    expect(lab.forwarder.counters.txBytes[1]).toBe(100);
  });

  it('is not given more than fits a packet buffer', () => {
    const { lab, a, b } = pair({ nic: true });
    b.give([2048]);
    a.send(ethernet(1, 0, { length: NIC_ROOM + 1 }));
    a.send(ethernet(1, 0, { length: NIC_ROOM }));
    lab.run(a);
    expect(payload(b.received())).toHaveLength(NIC_ROOM);
    expect(lab.forwarder.counters.txDropped[1]).toBe(1);
  });
});

describe('scheduling', () => {
  it('handles at most 128 frames of a port before the next port gets its turn', () => {
    const lab = new MockSwitch();
    const [a, b, c] = [lab.add(), lab.add(), lab.add()] as [MockClient, MockClient, MockClient];
    for (let n = 0; n < 256; n++) c.give();
    for (let n = 0; n < 200; n++) a.send(ethernet(2, 0));
    for (let n = 0; n < 3; n++) b.send(ethernet(2, 1));
    lab.scheduler.activate(0);
    lab.scheduler.activate(1);
    lab.scheduler.poll();
    const senders = c.received().map((bytes) => bytes[12 + 11]);
    expect(senders).toHaveLength(131);
    expect(senders.slice(128)).toEqual([1, 1, 1]);
    lab.scheduler.poll();
    expect(c.received()).toHaveLength(72);
  });

  it('counts what is spread over many descriptors for more: nobody waits for its walk', () => {
    const { lab, a, b } = pair({}, { size: 512, slot: 64 });
    const cuts = Array.from({ length: 59 }, (_, n) => 13 + n);
    for (let n = 0; n < 256; n++) b.give();
    // 60 descriptors each; the ring holds eight of them.
    for (let n = 0; n < 8; n++) a.send(ethernet(1, 0, { length: 60 }), cuts);
    expect(a.port.handle(16)).toBe(2);
    expect(a.port.handle(128)).toBe(6);
    void lab;
  });

  it('interrupts a client once per round, and not at all when it does not want it', () => {
    const lab = new MockSwitch();
    const [a, b, c] = [lab.add(), lab.add(), lab.add()] as [MockClient, MockClient, MockClient];
    for (let n = 0; n < 64; n++) c.give();
    lab.memory.u16[a.tx.layout.avail / 2] = 1;
    for (let n = 0; n < 20; n++) a.send(ethernet(2, 0));
    for (let n = 0; n < 20; n++) b.send(ethernet(2, 1));
    lab.run(a, b);
    expect([a.interrupts, b.interrupts, c.interrupts]).toEqual([0, 1, 1]);
  });

  it('suppresses notifications while a port is active and asks for them before it sleeps', () => {
    const { lab, a } = pair();
    lab.scheduler.activate(0);
    expect(a.tx.suppressed).toBe(true);
    expect(lab.scheduler.arm()).toBe(false);
    expect(a.tx.suppressed).toBe(false);
  });

  it('does not sleep over a frame that came in between', () => {
    const { lab, a, b } = pair();
    b.give();
    lab.run(a);
    a.send(ethernet(1, 0));
    expect(lab.scheduler.arm()).toBe(true);
    expect(a.tx.suppressed).toBe(true);
    lab.scheduler.poll();
    expect(b.received()).toHaveLength(1);
  });

  it('stops polling a quiet port while others keep it awake', () => {
    const { lab, a, b } = pair();
    lab.scheduler.activate(1);
    for (let n = 0; n < 400; n++) {
      lab.scheduler.activate(0);
      a.send(ethernet(0, 5));
      a.tx.take();
      lab.scheduler.poll();
    }
    expect([a.tx.suppressed, b.tx.suppressed]).toEqual([true, false]);
  });
});

describe('a driver that breaks the rules', () => {
  it('loses its own port when its TX chain is bad; the others go on', () => {
    const { lab, a, b } = pair();
    b.give();
    a.send(ethernet(1, 0));
    a.tx.setDesc(1, 0xffff_0000, 64, 0, 0);
    a.tx.makeAvailable(1);
    lab.run(a);
    expect(a.errors).toHaveLength(1);
    expect(a.port.ready).toBe(false);
    expect(payload(b.received())).toEqual(ethernet(1, 0));
    b.send(ethernet(0, 1));
    lab.run(b);
    expect(b.errors).toEqual([]);
    expect(lab.forwarder.counters.txDropped[0]).toBe(1);
  });

  it.each([
    ['is too small for the header', [8]],
    ['is not writable', []],
  ])('loses its own port when its RX buffer %s', (_name, lens) => {
    const { lab, a, b } = pair();
    if (lens.length > 0) b.give(lens);
    else {
      b.rx.setDesc(0, b.slot(0), 2048, 0, 0);
      b.rx.makeAvailable(0);
    }
    a.send(ethernet(1, 0));
    lab.run(a);
    expect([a.errors.length, b.errors.length, b.port.ready]).toEqual([0, 1, false]);
    expect(a.tx.take()).toEqual({ id: 0, len: 0 });
  });

  it('costs a third port nothing, whatever it writes into its rings', () => {
    const desc = fc.record({
      slot: fc.nat(15),
      bad: fc.integer({ min: 0, max: 9 }),
      len: fc.oneof(fc.nat(2048), fc.nat(0xffff_ffff)),
      flags: fc.nat(7),
      next: fc.nat(9),
    });
    const rings = fc.record({
      rx: fc.array(desc, { minLength: 8, maxLength: 8 }),
      tx: fc.array(desc, { minLength: 8, maxLength: 8 }),
      heads: fc.array(fc.nat(9), { maxLength: 8 }),
      mergeable: fc.boolean(),
      vlan: fc.constantFrom({}, { access: 7 }, { trunk: [7] }, { trunk: 'all' as const }),
    });
    // New memory for each run would cost more than everything else.
    const memory = new Memory(new ArrayBuffer(mockBytes(4)));
    fc.assert(
      fc.property(rings, ({ rx, tx, heads, mergeable, vlan }) => {
        for (let port = 0; port <= 3; port++)
          memory.u8.fill(0, port * CLIENT_BYTES, port * CLIENT_BYTES + CLIENT_BYTES / 2);
        const lab = new MockSwitch(4, undefined, memory);
        const [good, peer] = [lab.add(), lab.add()] as [MockClient, MockClient];
        const hostile = lab.add({ size: 8, mergeable, vlan });
        for (let n = 0; n < 64; n++) peer.give();
        for (const [ring, descs] of [
          [hostile.rx, rx],
          [hostile.tx, tx],
        ] as const) {
          for (const [i, d] of descs.entries()) {
            const address = d.bad === 0 ? 0x7fff_f000 : hostile.slot(d.slot) + d.bad;
            ring.setDesc(i, address, d.len, d.flags, d.next);
          }
          for (const head of heads) ring.makeAvailable(head);
        }
        for (let n = 0; n < 5; n++) good.send(ethernet(1, 0, { seed: n }));
        good.send(ethernet(-1, 0, { seed: 5 }));
        lab.run(hostile, good);
        const mine = peer.received().filter((bytes) => bytes[12 + 11] === 0 && bytes[12 + 6] === 2);
        expect(mine.slice(-6).map((bytes) => bytes.subarray(12))).toEqual([
          ...[0, 1, 2, 3, 4].map((seed) => ethernet(1, 0, { seed })),
          ethernet(-1, 0, { seed: 5 }),
        ]);
        expect([good.errors, peer.errors]).toEqual([[], []]);
      }),
      { numRuns: 300 },
    );
  });
});
