// Guests that send faster than a NIC: their frames wait in their own queues.
import { describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { NET_F_CSUM, NET_F_HOST_TSO4 } from '#common/virtio/features';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import { tcpFrame, tsoHeader, withPartialChecksum } from '#common/vnet/testing/tcp_frame';
import { MockSwitch } from './testing/mock_switch.ts';
import { PATIENCE_MS } from './uplinks.ts';

const NIC = 0;
const GUEST = 1;
/** Frames that each has sent before. */
const GREETING = 1;

interface Bed {
  readonly lab: MockSwitch;
  readonly nic: MockClient;
  readonly guest: MockClient;
  readonly other: MockClient;
  readonly time: { ms: number };
}

/** A NIC and two guests whose addresses are known; nobody has offered receive buffers. */
function bed(features: readonly number[] = []): Bed {
  const time = { ms: 1000 };
  const lab = new MockSwitch(8, time);
  const nic = lab.add({ nic: true, vlan: { uplink: true } });
  const guest = lab.add({ vlan: { waits: true }, features });
  const other = lab.add({ vlan: { waits: true } });
  for (const [client, number] of [nic, guest, other].map((one, n) => [one, n] as const)) {
    client.send(ethernet(-1, number));
    lab.run(client);
  }
  lab.forwarder.counters.reset(NIC);
  return { lab, nic, guest, other, time };
}

const frames = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, n) => ethernet(NIC, GUEST, { length: 60 + n }));

describe('frames of a guest for a NIC that is full', () => {
  it('wait in its queue and all come, in order and counted once', () => {
    const { lab, nic, guest } = bed();
    for (const frame of frames(9)) guest.send(frame);
    const before = lab.forwarder.counters.rxPackets[GUEST];
    const got: number[] = [];
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 3; n++) nic.give();
      lab.run(guest);
      got.push(...nic.received().map((chain) => chain.length - 12));
    }
    expect(got).toEqual([60, 61, 62, 63, 64, 65, 66, 67, 68]);
    const { counters } = lab.forwarder;
    expect([counters.droppedFor(NIC, DROP.NO_DESCRIPTOR), counters.rxPackets[GUEST]]).toEqual([
      0,
      Number(before) + 9,
    ]);
  });

  it('do not keep the switch awake, nor ask for notifications', () => {
    const { lab, guest } = bed();
    guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    expect(lab.scheduler.arm()).toBe(false);
    expect(guest.tx.suppressed).toBe(true);
  });

  it('wait for all segments of a large frame', () => {
    const { lab, nic, guest } = bed([NET_F_CSUM, NET_F_HOST_TSO4]);
    const large = withPartialChecksum(tcpFrame({ payload: 4 * 1000 }));
    large.set(ethernet(NIC, GUEST).subarray(0, 12));
    guest.send(large, [], tsoHeader(large, 1000));
    for (let n = 0; n < 3; n++) nic.give();
    lab.run(guest);
    expect(nic.received()).toHaveLength(0);
    for (let n = 0; n < 2; n++) nic.give();
    lab.run(guest);
    expect(nic.received()).toHaveLength(4);
  });

  it('are lost when the NIC takes nothing for long, until it takes something again', () => {
    const { lab, nic, guest, time } = bed();
    const lost = () => lab.forwarder.counters.droppedFor(NIC, DROP.NO_DESCRIPTOR);
    guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    time.ms += PATIENCE_MS - 1;
    lab.run(guest);
    expect(lost()).toBe(0);
    time.ms += 1;
    lab.run(guest);
    expect(lost()).toBe(1);
    guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    expect(lost()).toBe(2);
    nic.give();
    for (let n = 0; n < 2; n++) guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    expect([nic.received().length, lost()]).toEqual([1, 2]);
  });

  it('are lost while the link of the NIC is down', () => {
    const { lab, guest } = bed();
    lab.forwarder.setLink(NIC, false);
    guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    expect(guest.tx.take()).toBeDefined();
  });
});

describe('several guests that wait for one NIC', () => {
  /** How many of the frames that the NIC got came from each guest, with so few buffers at a time. */
  function share({ lab, nic, guest, other, time }: Bed, rounds: number, buffers: number): [number, number] {
    const from = [0, 0] as [number, number];
    for (let round = 0; round < rounds; round++) {
      for (let n = 0; n < buffers; n++) nic.give();
      time.ms += 1;
      lab.run(guest, other);
      for (const frame of nic.received()) from[frame[12 + 11] === GUEST ? 0 : 1] += 1;
    }
    return from;
  }

  it('take turns, whoever is looked at first', () => {
    const all = bed();
    for (let n = 0; n < 100; n++) {
      all.guest.send(ethernet(NIC, GUEST));
      all.other.send(ethernet(NIC, 2));
    }
    share(all, 1, 0);
    expect(share(all, 20, 5)).toEqual([50, 50]);
  });

  it('are not passed over because their frames are larger', () => {
    const all = bed([NET_F_CSUM, NET_F_HOST_TSO4]);
    const large = withPartialChecksum(tcpFrame({ payload: 6 * 1000 }));
    large.set(ethernet(NIC, GUEST).subarray(0, 12));
    for (let n = 0; n < 10; n++) all.guest.send(large, [], tsoHeader(large, 1000));
    for (let n = 0; n < 100; n++) all.other.send(ethernet(NIC, 2));
    // Six segments in turn with one frame.
    expect(share(all, 10, 7)).toEqual([60, 10]);
  });

  it('do not wait for one that has gone, or has nothing more to send', () => {
    const all = bed();
    const { lab, guest, other } = all;
    guest.send(ethernet(NIC, GUEST));
    other.send(ethernet(NIC, 2));
    lab.run(guest, other);
    guest.port.stop();
    expect(share(all, 1, 1)).toEqual([0, 0]);
    expect(share(all, 20, 0)).toEqual([0, 1]);
    other.send(ethernet(NIC, 2));
    expect(share(all, 1, 1)).toEqual([0, 1]);
  });

  it('do not wait for one whose port is taken away', () => {
    const all = bed();
    const { lab, guest, other } = all;
    guest.send(ethernet(NIC, GUEST));
    other.send(ethernet(NIC, 2));
    lab.run(guest, other);
    lab.forwarder.disconnect(GUEST);
    expect(share(all, 1, 1)).toEqual([0, 1]);
  });

  it('wait no longer than one of them would when the NIC has room, but too little for the first', () => {
    const all = bed([NET_F_CSUM, NET_F_HOST_TSO4]);
    const { lab, nic, guest, other, time } = all;
    const large = withPartialChecksum(tcpFrame({ payload: 6 * 1000 }));
    large.set(ethernet(NIC, GUEST).subarray(0, 12));
    nic.give();
    guest.send(large, [], tsoHeader(large, 1000));
    for (let n = 0; n < 3; n++) other.send(ethernet(NIC, 2));
    for (; time.ms < 1000 + PATIENCE_MS; time.ms += 1) {
      lab.run(guest, other);
      expect(nic.received()).toEqual([]);
    }
    lab.run(guest, other);
    // The only buffer goes to one of them; everything else is lost, and nothing waits any more.
    expect(nic.received()).toHaveLength(1);
    expect(guest.tx.usedIdx - GREETING + other.tx.usedIdx - GREETING).toBe(4);
    other.send(ethernet(NIC, 2));
    lab.run(other);
    expect(other.tx.usedIdx - GREETING).toBe(4);
  });
});

describe('nobody waits', () => {
  it('for another guest, nor a NIC for a guest', () => {
    const { lab, nic, guest, other } = bed();
    const lost = () => [1, 2].map((port) => lab.forwarder.counters.droppedFor(port, DROP.NO_DESCRIPTOR));
    const before = lost();
    guest.send(ethernet(2, GUEST));
    nic.send(ethernet(GUEST, NIC));
    nic.give();
    lab.run(guest, nic);
    expect(lost().map((count, n) => count - (before[n] as number))).toEqual([1, 1]);
    expect(other.received()).toEqual([]);
  });

  it('for a NIC that is full with what is for others', () => {
    const { lab, guest, other } = bed();
    other.give();
    guest.send(ethernet(2, GUEST));
    guest.send(ethernet(-1, GUEST));
    lab.run(guest);
    expect(other.received()).toHaveLength(1);
  });

  it('for a NIC without a driver', () => {
    const { lab, nic, guest } = bed();
    nic.port.stop();
    guest.send(ethernet(NIC, GUEST));
    lab.run(guest);
    expect(lab.forwarder.counters.droppedFor(NIC, DROP.NOT_READY)).toBe(1);
  });
});
