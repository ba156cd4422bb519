import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { F_EVENT_IDX } from '#common/virtio/features';
import { Scheduler } from '#common/vnet/scheduler';
import { CLIENT_BYTES, type ClientOptions, ethernet, MockClient } from '#common/vnet/testing/mock_client';
import { Wire, WireEnd, type WireOptions } from './wire.ts';

/** The wire with a client at each end that is connected, in one memory. */
class Lab {
  readonly memory = new Memory(new ArrayBuffer(3 * CLIENT_BYTES));
  readonly fabric: Wire;
  readonly scheduler: Scheduler;
  tooLong: number[] = [];

  constructor(options: WireOptions = {}) {
    this.fabric = new Wire({ ...options, onTooLong: (from) => this.tooLong.push(from) });
    this.scheduler = new Scheduler(this.fabric);
  }

  connect(number: number, options: ClientOptions = {}): MockClient {
    return new MockClient(this, number, (number + 1) * CLIENT_BYTES, {
      ...options,
      makePort: (port) => {
        const end = new WireEnd({ ...port, wire: this.fabric });
        this.fabric.connect(number, end);
        return end;
      },
    });
  }

  /** A kick from either end: runs until there is nothing to do. True when the pump would not sleep then. */
  kick(): boolean {
    for (const number of [0, 1]) this.scheduler.activate(number);
    for (let n = 0; n < 1000; n++) this.scheduler.poll();
    return this.scheduler.arm();
  }
}

const bodies = (client: MockClient) => client.received().map((bytes) => bytes.subarray(12));

describe('Wire', () => {
  it('sleeps over frames that cannot go, and asks the receiver, not the sender, for a notification', () => {
    const lab = new Lab();
    const [a, b] = [lab.connect(0), lab.connect(1)];
    a.send(ethernet(1, 0));
    expect(lab.kick()).toBe(false);
    expect([a.tx.suppressed, b.rx.suppressed]).toEqual([true, false]);
    b.give();
    expect(lab.kick()).toBe(false);
    expect(bodies(b)).toEqual([ethernet(1, 0)]);
    expect([a.tx.suppressed, b.rx.suppressed]).toEqual([false, true]);
    expect(a.tx.take()).toEqual({ id: 0, len: 0 });
  });

  it('does not sleep when a buffer comes while it falls asleep', () => {
    const lab = new Lab();
    const [a, b] = [lab.connect(0), lab.connect(1)];
    a.send(ethernet(1, 0));
    for (const number of [0, 1]) lab.scheduler.activate(number);
    lab.scheduler.poll();
    b.give();
    expect(lab.scheduler.arm()).toBe(true);
    lab.scheduler.poll();
    expect(bodies(b)).toEqual([ethernet(1, 0)]);
  });

  it('sleeps over frames for an end without client', () => {
    const lab = new Lab();
    const a = lab.connect(0);
    a.send(ethernet(1, 0));
    expect(lab.kick()).toBe(false);
    const b = lab.connect(1);
    b.give();
    expect(lab.kick()).toBe(false);
    expect(bodies(b)).toEqual([ethernet(1, 0)]);
  });

  it('keeps the order and loses nothing, one buffer at a time, with EVENT_IDX too', () => {
    for (const features of [[], [F_EVENT_IDX]]) {
      const lab = new Lab();
      const [a, b] = [lab.connect(0, { features }), lab.connect(1, { features })];
      const sent = Array.from({ length: 100 }, (_, seed) => ethernet(1, 0, { seed }));
      for (const frame of sent) a.send(frame);
      const got: Uint8Array[] = [];
      for (let n = 0; n < 100; n++) {
        b.give();
        expect(lab.kick()).toBe(false);
        got.push(...bodies(b));
      }
      expect(got).toEqual(sent);
    }
  });

  it('drops a frame that is longer than the buffers there are, and does not spin over it', () => {
    const lab = new Lab();
    const [a, b] = [lab.connect(0), lab.connect(1, { mergeable: true })];
    b.give([100]);
    a.send(ethernet(1, 0, { length: 500 }));
    expect(lab.kick()).toBe(false);
    expect([lab.tooLong, bodies(b)]).toEqual([[0], []]);
    b.give([400]);
    b.give([400]);
    a.send(ethernet(1, 0, { length: 500 }));
    expect(lab.kick()).toBe(false);
    expect(b.received().map(({ length }) => length)).toEqual([100, 400, 12]);
  });

  it('asks nobody for notifications when it is polled', () => {
    const lab = new Lab({ polled: true });
    const [a, b] = [lab.connect(0), lab.connect(1)];
    b.give();
    a.send(ethernet(1, 0));
    expect(lab.kick()).toBe(false);
    expect(bodies(b)).toEqual([ethernet(1, 0)]);
    expect([a.tx.suppressed, b.tx.suppressed, b.rx.suppressed]).toEqual([true, true, true]);
  });
});
