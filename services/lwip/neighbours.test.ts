// Many connections at once with a neighbour whose MAC nobody knows. lwIP's clock stands: nothing is sent a second time.
import net from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { get16, get32 } from '#common/wire/bytes';
import { ETHERTYPE, etherType } from '#common/wire/ethernet';
import { Server } from './server.ts';
import { Socket } from './socket.ts';
import { event, type TestHost, tcpOf, testHost, until } from './testing/host.ts';
import { flagsOf, segmentFrame, TCP_AT, TCP_FLAG } from './testing/segment.ts';

const MANY = 64;
/** lwIP forgets a neighbour after 300 s. */
const AGES = 400;
const FAR_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x77);
const FAR_IP = 0x0a00024d;

let host: TestHost;

beforeAll(() => {
  host = testHost();
});

beforeEach(() => {
  const { ffi } = host.stack;
  for (let n = 0; n < AGES; n++) ffi.etharp_tmr();
  vi.spyOn(ffi, 'tcp_tmr').mockImplementation(() => {});
});

afterEach(() => {
  vi.restoreAllMocks();
  host.slirp.lose = undefined;
});

afterAll(() => {
  host[Symbol.dispose]();
});

describe('Neighbours', () => {
  it('connections of ours begin when the address is there', async () => {
    const server = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await event(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const sent: string[] = [];
    host.slirp.lose = (direction, at) => {
      if (direction === 'tx' && etherType(host.stack.memory.u8, at) === ETHERTYPE.ARP) sent.push('ARP');
      if (direction === 'tx' && tcpOf(host, at)) sent.push('TCP');
      return false;
    };
    const sockets = Array.from({ length: MANY }, () => new Socket(host).connect(port, '10.0.2.2'));
    await Promise.all(sockets.map((socket) => event(socket, 'connect')));
    expect([sent[0], sent.lastIndexOf('ARP')]).toEqual(['ARP', 0]);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  it('one that is given up does not begin any more', async () => {
    let syns = 0;
    const asked = new Promise<void>((resolve) => {
      host.slirp.lose = (direction, at) => {
        if (direction === 'rx') return false;
        if (etherType(host.stack.memory.u8, at) === ETHERTYPE.ARP) resolve();
        if (tcpOf(host, at)?.destination === 80) syns++;
        return false;
      };
    });
    const answered = new Promise<void>((resolve) => {
      host.netif.tap = (at) => {
        if (etherType(host.stack.memory.u8, at) === ETHERTYPE.ARP) setImmediate(resolve);
        return false;
      };
    });
    const socket = new Socket(host).connect(80, '10.0.2.2');
    await asked;
    socket.destroy();
    await answered;
    host.netif.tap = undefined;
    expect(syns).toBe(0);
  });

  it('who opens connections to us is known by that', async () => {
    const server = new Server(host, {}, () => {}).listen(8090);
    await event(server, 'listening');
    const { slirp, netif, stack } = host;
    const { u8 } = stack.memory;
    const answers: Uint8Array[] = [];
    slirp.lose = (direction, at, length) => {
      if (direction === 'tx' && tcpOf(host, at)) answers.push(u8.slice(at, at + length));
      return direction === 'tx';
    };
    const far = { fromMac: FAR_MAC, toMac: netif.mac, fromIp: FAR_IP, toIp: netif.ip, toPort: 8090 };
    for (let n = 0; n < MANY; n++)
      slirp.inject(segmentFrame({ ...far, fromPort: 1000 + n, flags: TCP_FLAG.SYN }));
    await until(() => answers.length >= MANY);
    expect(new Set(answers.map((frame) => get16(frame, TCP_AT + 2))).size).toBe(MANY);
    expect(answers.every((frame) => flagsOf(frame) === (TCP_FLAG.SYN | TCP_FLAG.ACK))).toBe(true);
    expect(new Set(answers.map((frame) => Buffer.from(frame.subarray(0, 6)).toString('hex')))).toEqual(
      new Set(['020000000077']),
    );
    for (const frame of answers) {
      const sequence = get32(frame, TCP_AT + 8);
      slirp.inject(
        segmentFrame({ ...far, fromPort: get16(frame, TCP_AT + 2), flags: TCP_FLAG.RST, sequence }),
      );
    }
    await until(() => !stack.timers.hasConnections);
    server.close();
  });
});
