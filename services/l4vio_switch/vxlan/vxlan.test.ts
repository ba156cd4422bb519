/** Two and three switches joined by real UDP sockets on loopback; each has an address of 127.0.0.0/8. */
import { afterEach, describe, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { Arena } from '#common/shm/arena';
import { holdUdpPort } from '#common/testing/udp_port';
import { parseIp } from '#common/udp/address';
import { writeSockaddr } from '#common/udp/sockaddr';
import { type UdpOptions, UdpSocket } from '#common/udp/socket';
import { ethernet, type MockClient } from '#common/vnet/testing/mock_client';
import { MockSwitch, type MockTime, mockBytes } from '../testing/mock_switch.ts';
import type { VlanSpec } from '../vlan.ts';
import { REMOTES_BYTES } from './remotes.ts';
import { finishVxlan, newDraft, setVxlan, type VxlanSpec } from './spec.ts';
import { Vtep } from './vtep.ts';
import { VxlanPort } from './vxlan_port.ts';

const MAX_PORTS = 4;
const TUNNEL = 3;
/** Address of a host. */
const addressOf = (host: number) => parseIp(`127.10.0.${host}`) as Uint8Array;

/** The arguments of a port, as a script writes them. */
function spec(...words: string[]): VxlanSpec {
  const draft = newDraft();
  for (const word of words) {
    const [key = '', value = ''] = word.split('=', 2);
    setVxlan(draft, key, value);
  }
  return finishVxlan(draft);
}

let cleanups: (() => void)[] = [];

/** A switch with clients on ports 0 and 1 and a VXLAN port, at address 127.10.0.`host`. */
class Site {
  readonly lab: MockSwitch;
  readonly vtep: Vtep;
  readonly tunnel: VxlanPort;
  readonly clients: MockClient[];
  readonly arena = new Arena(256 * 2 ** 20);
  wake: () => void = () => {};

  constructor(
    host: number,
    port: number,
    remotes: number[],
    options: { vni?: number; vlan?: VlanSpec; time?: MockTime } = {},
  ) {
    const { arena } = this;
    arena.mapPrivate(mockBytes(MAX_PORTS));
    this.lab = new MockSwitch(MAX_PORTS, options.time, arena);
    this.clients = [this.lab.add(), this.lab.add()];
    for (const client of this.clients) for (let n = 0; n < 64; n++) client.give();
    const env = {
      memory: arena,
      open: (how: UdpOptions) => new UdpSocket(arena, how),
      activate: () => this.wake(),
      clock: () => 0,
    };
    this.vtep = new Vtep(env, { family: 4, address: addressOf(host), port });
    this.tunnel = this.port(TUNNEL, options.vni ?? 42, port, remotes, options.vlan);
    this.lab.forwarder.connect(TUNNEL, this.tunnel, options.vlan ?? {});
    this.tunnel.open();
    cleanups.push(() => this.vtep.close());
  }

  /** A VXLAN port on the socket of this site. */
  port(number: number, vni: number, port: number, remotes: number[], vlan?: VlanSpec): VxlanPort {
    const { arena } = this;
    return new VxlanPort({
      number,
      spec: spec(`vni=${vni}`, ...remotes.map((remote) => `remote=127.10.0.${remote}:${port}`)),
      trunk: vlan?.trunk !== undefined,
      memory: arena,
      scratch: arena.mapPrivate(4096),
      remotesAt: arena.mapPrivate(REMOTES_BYTES),
      scope: 0,
      fabric: this.lab.forwarder,
      ...(this.lab.forwarder.macs.ages && { clock: this.lab.forwarder.macs }),
      vtep: this.vtep,
      dropped: (reason) => this.lab.forwarder.counters.dropped(number, reason),
    });
  }

  send(client: number, ...frames: Uint8Array[]): void {
    for (const frame of frames) this.clients[client]?.send(frame);
    this.lab.run(this.clients[client] as MockClient);
  }

  /** Switches what has come through the tunnel, as soon as something has. */
  async arrived(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      this.tunnel.enableNotifications();
    });
    this.lab.scheduler.activate(TUNNEL);
    while (this.lab.scheduler.poll());
  }

  /** What a client got, without headers. */
  got(client: number): string[] {
    return (this.clients[client]?.received() ?? []).map((bytes) =>
      Buffer.from(bytes.subarray(12)).toString('hex'),
    );
  }

  dropped(reason: number): number {
    return this.lab.forwarder.counters.droppedFor(TUNNEL, reason);
  }
}

const hex = (...frames: Uint8Array[]) => frames.map((frame) => Buffer.from(frame).toString('hex'));

/** A UDP port that every address of 127.10.0.0/24 has free, until the end of the test. */
async function freshPort(): Promise<number> {
  const { port, free } = await holdUdpPort();
  cleanups.push(free);
  return port;
}

afterEach(() => {
  for (const clean of cleanups) clean();
  cleanups = [];
});

describe('VxlanPort', () => {
  it('carries frames between switches unchanged and learns where stations are', async () => {
    const port = await freshPort();
    const [a, b, c] = [new Site(1, port, [2, 3]), new Site(2, port, [1, 3]), new Site(3, port, [1, 2])];
    const hello = ethernet(20, 10, { length: 1400 });
    a.send(0, hello);
    await Promise.all([b.arrived(), c.arrived()]);
    expect([a.got(1), b.got(0), b.got(1), c.got(0)]).toEqual([
      hex(hello),
      hex(hello),
      hex(hello),
      hex(hello),
    ]);

    const answer = ethernet(10, 20, { length: 60 });
    b.send(1, answer);
    await a.arrived();
    expect([a.got(0), a.got(1)]).toEqual([hex(answer), []]);
    // The third switch neither got the answer, nor did anybody send what came from one remote to another.
    const marker = ethernet(-1, 11);
    a.send(1, marker);
    await Promise.all([b.arrived(), c.arrived()]);
    expect([c.got(0), b.got(0), a.got(0)]).toEqual([hex(marker), hex(marker), hex(marker)]);
    expect(b.tunnel.stations.size).toBe(2);
  });

  it('keeps networks with different ids apart on one socket', async () => {
    const port = await freshPort();
    const [a, b] = [new Site(1, port, [2]), new Site(2, port, [1], { vni: 43 })];
    a.send(0, ethernet(-1, 10));
    await b.arrived();
    expect([b.got(0), b.vtep.counters.strangers]).toEqual([[], 1]);
  });

  it('believes only its remotes, and counts what it does not take', async () => {
    const port = await freshPort();
    const site = new Site(1, port, [2]);
    const datagrams: [number, Uint8Array][] = [
      [9, Uint8Array.of(8, 0, 0, 0, 0, 0, 42, 0, ...ethernet(-1, 10))],
      [2, Uint8Array.of(0, 0, 0, 0, 0, 0, 42, 0, ...ethernet(-1, 10))],
      [2, Uint8Array.of(8, 0, 0)],
      [2, Uint8Array.of(8, 0, 0, 0, 0, 0, 42, 0, ...ethernet(-1, 10, { length: 13 }))],
      [2, Uint8Array.of(8, 0, 0, 0, 0, 0, 42, 0, ...ethernet(-1, 10, { vlan: 7 }))],
      [2, Uint8Array.of(0xff, 1, 2, 3, 0, 0, 42, 99, ...ethernet(-1, 10))],
    ];
    for (const [host, bytes] of datagrams) {
      const sender = new UdpSocket(site.arena, { family: 4, address: addressOf(host), port: 0 });
      const slot = sender.slot();
      site.arena.u8.set(bytes, slot);
      const to = site.arena.mapPrivate(4096);
      writeSockaddr(site.arena, to, addressOf(1), port);
      sender.send(slot, bytes.length, to);
      sender.flush();
      sender.close();
      await site.arrived();
    }
    // Reserved bits are ignored: the last one counts.
    expect(site.got(0)).toEqual(hex(ethernet(-1, 10)));
    expect([DROP.FILTER, DROP.TOO_SHORT, DROP.VLAN].map((reason) => site.dropped(reason))).toEqual([1, 1, 1]);
    expect(site.vtep.counters.strangers).toBe(2);
  });

  it('counts what is longer than its buffers at the port that it was for', async () => {
    const port = await freshPort();
    const [a, b] = [new Site(1, port, [2]), new Site(2, await freshPort(), [1])];
    const sender = new UdpSocket(b.arena, { family: 4, address: addressOf(2), port: 0 });
    cleanups.push(() => sender.close());
    const slot = sender.slot();
    b.arena.u8.set([8, 0, 0, 0, 0, 0, 42, 0], slot);
    const to = b.arena.mapPrivate(4096);
    writeSockaddr(b.arena, to, addressOf(1), port);
    sender.send(slot, 20_000, to);
    sender.flush();
    await a.arrived();
    expect([a.dropped(DROP.TOO_LONG), a.vtep.counters.strangers]).toEqual([1, 0]);
  });

  it('forgets stations that were not heard of, where the switch forgets addresses', async () => {
    const port = await freshPort();
    const time = { maxAge: 10, ms: 0 };
    const a = new Site(1, port, [2, 3], { time });
    const [b, c] = [new Site(2, port, [1]), new Site(3, port, [1])];
    b.send(0, ethernet(-1, 20));
    await a.arrived();
    const frame = ethernet(20, 10);
    time.ms = 9000;
    a.send(0, frame);
    await b.arrived();
    // It was not heard of meanwhile: nobody knows where it is.
    time.ms = 12_000;
    a.send(0, frame);
    await Promise.all([b.arrived(), c.arrived()]);
    expect([b.got(0), c.got(0)]).toEqual([hex(frame, frame), hex(frame)]);
    // Heard of again after a long silence, it is as good as new.
    time.ms = 100_000;
    b.send(0, ethernet(-1, 20));
    await a.arrived();
    a.send(0, frame);
    await b.arrived();
    a.send(0, ethernet(-1, 10));
    await c.arrived();
    expect(c.got(0)).toEqual(hex(ethernet(-1, 10)));
  });

  it('carries tags on a trunk, and stations of two VLANs are two', async () => {
    const port = await freshPort();
    const trunk = { vlan: { trunk: 'all' } } as const;
    const [a, b] = [new Site(1, port, [2], trunk), new Site(2, port, [1], trunk)];
    const [seven, eight] = [ethernet(-1, 10, { vlan: 7 }), ethernet(-1, 10, { vlan: 8 })];
    a.lab.forwarder.vlans.configure(0, { trunk: 'all' });
    b.lab.forwarder.vlans.configure(1, { access: 7 });
    a.send(0, seven, eight);
    // They may come one by one.
    while (b.tunnel.stations.size < 2) await b.arrived();
    expect(b.got(1)).toEqual([
      Buffer.from([...seven.subarray(0, 12), ...seven.subarray(16)]).toString('hex'),
    ]);
  });

  it('sends neither tags from a port that has none, nor what is no frame', async () => {
    const port = await freshPort();
    const [a, b] = [new Site(1, port, [2], { vlan: { access: 7 } }), new Site(2, port, [1])];
    a.lab.forwarder.vlans.configure(0, { trunk: 'all' });
    const once = ethernet(-1, 10, { vlan: 7 });
    // What is behind the tag that is taken off is a tag, too.
    const twice = Uint8Array.from([...once.subarray(0, 16), 0x81, 0, 0, 9, ...once.subarray(16)]);
    const runt = once.subarray(0, 17);
    a.send(0, twice, runt, once);
    await b.arrived();
    expect(b.got(0)).toEqual([Buffer.from([...once.subarray(0, 12), ...once.subarray(16)]).toString('hex')]);
    expect([a.dropped(DROP.VLAN), a.dropped(DROP.TOO_SHORT)]).toEqual([1, 1]);
  });

  it('drops frames that no datagram takes, with the reason, and goes on', async () => {
    const port = await freshPort();
    const [a, b] = [new Site(1, port, [2]), new Site(2, port, [1])];
    const cuts = [2000, 4000, 6000, 8000];
    a.clients[0]?.send(ethernet(-1, 10, { length: 9465 }), cuts);
    const small = ethernet(-1, 10, { length: 64 });
    a.send(0, small);
    await b.arrived();
    expect([b.got(0), a.dropped(DROP.TOO_LONG)]).toEqual([hex(small), 1]);
  });

  it('hands the socket to the next port when the one that polls goes', async () => {
    const port = await freshPort();
    const [a, b] = [new Site(1, port, [2]), new Site(2, port, [1])];
    const other = b.port(2, 7, port, [1]);
    other.open();
    b.tunnel.close();
    const second = a.port(2, 7, port, [2]);
    second.open();
    a.lab.forwarder.connect(2, second, {});
    b.lab.forwarder.connect(2, other, {});
    const frame = ethernet(-1, 10);
    a.send(0, frame);
    await new Promise<void>((resolve) => {
      b.wake = resolve;
      other.enableNotifications();
    });
    b.lab.scheduler.activate(2);
    while (b.lab.scheduler.poll());
    expect(b.got(0)).toEqual(hex(frame));
  });
});
