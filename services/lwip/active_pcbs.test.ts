// Connections that wait for an acknowledgement, or for room: what lwIP sends for them, frame by frame.
import net from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Socket } from './socket.ts';
import { event, type TestHost, tcpOf, testHost } from './testing/host.ts';

/** Ethernet, IPv4 and TCP without options or data. */
const BARE = 14 + 20 + 20;

let host: TestHost;
let server: net.Server;
let socket: Socket;
let peer: net.Socket;

beforeAll(() => {
  host = testHost();
});

afterAll(() => {
  host[Symbol.dispose]();
});

beforeEach(async () => {
  server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await event(server, 'listening');
  const accepted = event<net.Socket>(server, 'connection');
  socket = new Socket(host).connect((server.address() as net.AddressInfo).port, '10.0.2.2');
  await event(socket, 'connect');
  peer = await accepted;
  peer.on('error', () => {});
});

afterEach(async () => {
  vi.restoreAllMocks();
  host.netif.tap = undefined;
  host.slirp.lose = undefined;
  socket.destroy();
  peer.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** Lengths of the frames of the connection that `act` sends, before it returns: those of earlier tests have theirs, too. */
function sent(act: () => void): number[] {
  const lengths: number[] = [];
  const ours = socket.localPort;
  host.slirp.lose = (direction, at, length) => {
    if (direction === 'tx' && tcpOf(host, at)?.source === ours) lengths.push(length);
    return false;
  };
  act();
  host.slirp.lose = undefined;
  return lengths;
}

/** Resolves when the next frame of the connection has come, which lwIP sees or not. */
function nextFrame(seen: boolean): Promise<void> {
  const ours = socket.localPort;
  return new Promise((resolve) => {
    host.netif.tap = (at) => {
      if (tcpOf(host, at)?.destination !== ours) return false;
      if (seen) host.netif.tap = undefined;
      setImmediate(resolve);
      return !seen;
    };
  });
}

describe('Netif.rxLost()', () => {
  it.each(['open', 'closed by its program'])(
    'asks for an acknowledgement that was lost, for a connection that is %s',
    async (state) => {
      const lost = nextFrame(false);
      socket.write('hello');
      if (state !== 'open') socket.destroySoon();
      await event(peer, 'data');
      await lost;
      const answered = nextFrame(true);
      expect(sent(() => host.netif.rxLost())).toEqual([BARE]);
      await answered;
      if (state === 'open') expect(sent(() => host.netif.rxLost())).toEqual([]);
    },
  );

  it('asks nobody when nothing is on the way', () => {
    expect(sent(() => host.netif.rxLost())).toEqual([]);
  });

  it('asks when there is room, if there is none now', async () => {
    const lost = nextFrame(false);
    socket.write('hello');
    await lost;
    vi.spyOn(host.slirp, 'txSlot').mockReturnValue(-1);
    expect(sent(() => host.netif.rxLost())).toEqual([]);
    vi.restoreAllMocks();
    expect(sent(() => host.netif.txRoom())).toEqual([BARE]);
  });
});

describe('Socket.setKeepAlive()', () => {
  it('probes after the idle time, as often and as many times as it is told, and gives up', async () => {
    socket.setKeepAlive(true, 2000, 1000, 3);
    host.netif.tap = () => true;
    const failed = event<Error>(socket, 'error');
    const { ffi } = host.stack;
    // Two ticks of 250 ms count as one of 500 ms. The stack's own timer may tick meanwhile, too.
    const frames = Array.from({ length: 24 }, () => sent(() => ffi.tcp_tmr())).flat();
    // The last one is the RST.
    expect(frames).toEqual([BARE, BARE, BARE, BARE]);
    host.stack.settle();
    expect(await failed).toMatchObject({ code: 'ETIMEDOUT' });
  });
});

describe('Netif.txRoom()', () => {
  it('sends what had no room, of a program that has closed since, too', () => {
    vi.spyOn(host.slirp, 'txSlot').mockReturnValue(-1);
    socket.write(Buffer.alloc(100));
    socket.destroySoon();
    vi.restoreAllMocks();
    expect(sent(() => host.netif.txRoom())[0]).toBe(BARE + 100);
  });
});
