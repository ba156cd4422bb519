// Frames and peers that break every rule they can: lwIP asserts (and ends the process) on states that must not be reachable.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Random } from '#common/testing/random';
import { formatIpv4 } from '#common/wire/ipv4';
import { HostileFrames, SERVER_PORT } from '#common/wire/testing/hostile_frames';
import { HostilePeers, PEER_PORT, PEERS } from '#common/wire/testing/hostile_peers';
import { Server } from './server.ts';
import { Socket } from './socket.ts';
import { BareNetif } from './testing/bare_netif.ts';
import { UdpSocket } from './udp.ts';

const FRAMES = 40_000;
const TICK_MS = 250;
/** Seconds that a fragment waits for others at most. */
const REASSEMBLY = 61;
const SEED = Number(process.env.L4LAB_SEED ?? 1);

beforeEach(() => {
  // lwIP's clock is ours.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});

let close = (): void => {};

afterEach(() => {
  close();
  vi.useRealTimers();
});

it.each([SEED, SEED + 1])(
  'Netif survives hostile frames and peers, and gets every buffer back (seed %d)',
  async (seed) => {
    const random = new Random(seed);
    let peers: HostilePeers | undefined;
    const room = () => !random.oneIn(50);
    const bare = new BareNetif({ rxBuffers: 256, room, sent: (u8, at) => peers?.heard(u8, at) });
    const { stack, netif } = bare;
    const target = { mac: netif.mac, ip: netif.ip, ip6: () => bare.ip6() };
    peers = new HostilePeers(stack.memory.u8, target, random);
    const frames = new HostileFrames(stack.memory.u8, target, random);
    const host = { stack, netifs: [netif], lookup: () => {} };

    const count = { accepted: 0, connected: 0, data: 0, datagrams: 0 };
    /** Answers some, stops reading now and then, and ends in any way. */
    const use = (socket: Socket): Socket =>
      socket
        .on('error', () => {})
        .on('end', () => socket.end())
        .on('data', (data) => {
          count.data += data.length;
          if (random.oneIn(4)) socket.write(data);
          if (random.oneIn(200)) socket.end();
          else if (random.oneIn(300)) socket.destroy();
          else if (random.oneIn(20))
            setImmediate(() => socket.pause() && setImmediate(() => socket.resume()));
        });
    const server = new Server(host, {}, (socket) => {
      count.accepted++;
      use(socket);
    }).listen(SERVER_PORT);
    const udp = new UdpSocket(host).bind(53).on('message', () => count.datagrams++);
    // What connections have is given back by the end of their interface.
    close = () => {
      server.close();
      udp.close();
      bare[Symbol.dispose]();
      close = () => {};
    };
    const connect = (): void => {
      const socket = use(new Socket(host));
      socket.on('connect', () => {
        count.connected++;
        socket.write(Buffer.alloc(random.below(20_000)));
      });
      socket.connect(PEER_PORT, formatIpv4(0x0a000203 + random.below(PEERS)));
      if (random.oneIn(2)) socket.write(Buffer.alloc(random.below(5000)));
      if (random.oneIn(4)) socket.end();
      else setTimeout(() => socket.destroy(), random.below(100) * TICK_MS);
    };

    for (let n = 0; n < FRAMES; n++) {
      // A quarter of the buffers always stays with the device.
      expect(bare.free).toBeGreaterThanOrEqual(bare.rxBuffers / 4);
      bare.receive((at) => (random.oneIn(2) ? frames.write(at) : (peers as HostilePeers).write(at)));
      if (random.oneIn(8)) netif.endBatch();
      if (random.oneIn(20)) vi.advanceTimersByTime(TICK_MS);
      if (random.oneIn(150)) connect();
      if (random.oneIn(400)) netif.txRoom();
      if (random.oneIn(400)) netif.rxLost();
      if (random.oneIn(64)) await new Promise(setImmediate);
    }
    // Without traffic the clock stands still before that.
    for (let n = 0; n < REASSEMBLY; n++) {
      stack.ffi.ip_reass_tmr();
      stack.ffi.ip6_reass_tmr();
    }
    close();
    await new Promise(setImmediate);
    expect(netif.counters.rxFrames).toBeGreaterThan(FRAMES / 2);
    expect(count.accepted).toBeGreaterThan(FRAMES / 400);
    expect(count.connected).toBeGreaterThan(FRAMES / 800);
    expect(count.data).toBeGreaterThan(FRAMES);
    expect(count.datagrams).toBeGreaterThan(FRAMES / 400);
    expect([netif.held, bare.free]).toEqual([0, bare.rxBuffers]);
  },
);
