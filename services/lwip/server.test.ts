// Server, UDP, resolver over UDP and TCP, and the stack's own defences, with kernel peers behind libslirp.
import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { get16, get32, put16, put32 } from '#common/wire/bytes';
import { DNS_FLAG, DNS_TYPE, type DnsMessage, decodeDns, encodeDns } from '#common/wire/dns';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { emitIpv4, IP_PROTOCOL } from '#common/wire/ipv4';
import { lwipExchange } from './resolver/exchange.ts';
import { Server } from './server.ts';
import type { Socket } from './socket.ts';
import { event, type TestHost, tcpOf, testHost, until } from './testing/host.ts';
import { flagsOf, segmentFrame, TCP_AT, TCP_FLAG } from './testing/segment.ts';
import { UdpSocket } from './udp.ts';

const { FIN, SYN, RST, ACK } = TCP_FLAG;

/** A segment without data of the connection that `frame` belongs to, in the same direction. */
function segmentOf(frame: Uint8Array, flags: number, sequence: number, acknowledgement = 0): Uint8Array {
  return segmentFrame({
    toMac: frame.subarray(0, 6),
    fromMac: frame.subarray(6, 12),
    fromIp: get32(frame, 26),
    toIp: get32(frame, 30),
    fromPort: get16(frame, TCP_AT),
    toPort: get16(frame, TCP_AT + 2),
    flags,
    sequence,
    acknowledgement,
  });
}

let host: TestHost;

beforeAll(() => {
  host = testHost();
});

afterEach(() => {
  host.slirp.lose = undefined;
});

afterAll(() => {
  host[Symbol.dispose]();
});

describe('Server', () => {
  it('accepts, echoes and closes', async () => {
    const server = new Server(host, {}, (socket: Socket) => socket.pipe(socket)).listen({ port: 8080 });
    await event(server, 'listening');
    expect(server.address()).toEqual({ address: '::', family: 'IPv6', port: 8080 });
    const port = host.slirp.forward(8080);
    for (let n = 0; n < 3; n++) {
      const client = net.connect(port, '127.0.0.1');
      const text = 'x'.repeat(200_000);
      client.end(text);
      let got = '';
      for await (const chunk of client) got += chunk;
      expect(got.length).toBe(text.length);
    }
    const closed = event(server, 'close');
    server.close();
    await closed;
    expect(server.listening).toBe(false);
  });

  it('accepts a client that comes again from the port of a connection that it has closed first', async () => {
    const server = new Server(host, {}, (socket: Socket) => socket.resume().end('bye')).listen({
      port: 8083,
    });
    await event(server, 'listening');
    const port = host.slirp.forward(8083);
    // An address of its own: nobody else takes the port in between.
    const localAddress = ['127', ...randomBytes(3).map((byte) => 1 + (byte % 254))].join('.');
    let localPort = 0;
    for (let n = 0; n < 3; n++) {
      const gone = event<Socket>(server, 'connection').then((socket) => event(socket, 'close'));
      let got = '';
      const client = net.connect({ port, localPort, localAddress, host: '127.0.0.1' });
      client.once('connect', () => {
        localPort = client.localPort as number;
      });
      for await (const chunk of client) got += chunk;
      expect([n, got]).toEqual([n, 'bye']);
      await gone;
      // The last acknowledgement is still to reach the user network.
      await new Promise(setImmediate);
    }
    server.close();
  });

  it('accepts a client that comes again in the same batch of frames in which it has ended the old connection', async () => {
    const server = new Server(host, {}, (socket: Socket) =>
      socket
        .on('error', () => {})
        .resume()
        .end('bye'),
    );
    server.listen(8084);
    await event(server, 'listening');
    const { slirp, stack } = host;
    const { u8 } = stack.memory;
    // Its FIN does not come through; from then on we are the client.
    const fin = new Promise<Uint8Array>((resolve) => {
      slirp.lose = (direction, at, length) => {
        const ends = direction === 'rx' && tcpOf(host, at)?.destination === 8084 && flagsOf(u8, at) & FIN;
        if (ends) resolve(u8.slice(at, at + length));
        return ends !== false && ends !== 0;
      };
    });
    const client = net.connect(slirp.forward(8084), '127.0.0.1').resume();
    const last = await fin;
    const answers: Uint8Array[] = [];
    slirp.lose = (direction, at, length) => {
      if (direction === 'rx' || tcpOf(host, at)?.source !== 8084) return false;
      answers.push(u8.slice(at, at + length));
      return true;
    };
    const again = event<Socket>(server, 'connection');
    const begin = (get32(last, TCP_AT + 4) + 1_000_000) >>> 0;
    slirp.inject(last);
    slirp.inject(segmentOf(last, SYN, begin));
    const answer = (): Uint8Array | undefined => answers.find((frame) => flagsOf(frame) === (SYN | ACK));
    await until(() => answer() !== undefined);
    const theirs = get32(answer() as Uint8Array, TCP_AT + 4);
    slirp.inject(segmentOf(last, ACK, begin + 1, theirs + 1));
    expect((await again).remotePort).toBe(get16(last, TCP_AT));
    await until(() => answers.some((frame) => Buffer.from(frame).includes('bye')));
    slirp.inject(segmentOf(last, RST, begin + 1));
    client.destroy();
    server.close();
  });

  it('listens again at once where it has closed connections first', async () => {
    for (const text of ['one', 'two']) {
      const server = new Server(host, {}, (socket: Socket) => socket.resume().end(text)).listen(8085);
      await event(server, 'listening');
      const gone = event<Socket>(server, 'connection').then((socket) => event(socket, 'close'));
      let got = '';
      for await (const chunk of net.connect(host.slirp.forward(8085), '127.0.0.1')) got += chunk;
      expect(got).toBe(text);
      await gone;
      const closed = event(server, 'close');
      server.close();
      await closed;
    }
  });

  it('refuses a port in use and bad arguments', async () => {
    const first = new Server(host).listen(8081);
    await event(first, 'listening');
    const err = await event<Error>(new Server(host).listen(8081), 'error');
    expect(err).toMatchObject({
      code: 'EADDRINUSE',
      message: 'Cannot listen on [::]:8081 as the port is in use',
    });
    expect(await event<Error>(new Server(host).listen({ host: 'x' }), 'error')).toMatchObject({
      code: 'EADDRNOTAVAIL',
    });
    first.close();
  });
});

describe('UdpSocket', () => {
  it('sends and receives', async () => {
    const peer = dgram.createSocket('udp4');
    peer.on('message', (data, from) => peer.send(data, from.port, from.address));
    peer.bind(0, '127.0.0.1');
    await event(peer, 'listening');
    const socket = new UdpSocket(host).bind(7000);
    expect(socket.port).toBe(7000);
    for (const size of [0, 1, 1400, 4000]) {
      const data = Buffer.alloc(size, 'u');
      const echoed = new Promise<Buffer>((resolve) => socket.once('message', resolve));
      socket.send(data, peer.address().port, '10.0.2.2');
      expect((await echoed).equals(data)).toBe(true);
    }
    expect(() => socket.send(Buffer.alloc(0), 1, '8.8.8')).toThrow(
      /Cannot send to 8\.8\.8:1 as it is no IP address/,
    );
    for (const port of [0, 65_536 + peer.address().port, -1, 1.5])
      expect(() => socket.send(Buffer.alloc(1), port, '10.0.2.2')).toThrow(
        `Cannot send to 10.0.2.2:${port} as port must be 1..65535`,
      );
    expect(() => new UdpSocket(host).bind(65_536 + 7001)).toThrow(
      'Cannot bind to [::]:72537 as port must be 0..65535',
    );
    expect(() => new UdpSocket(host).bind(7000)).toThrow(/Cannot bind to \[::\]:7000 as the port is in use/);
    socket.close();
    peer.close();
  });
});

describe('lwipExchange()', () => {
  /** Listens on a port that is free for UDP, too. */
  async function samePort(tcp: net.Server): Promise<{ udp: dgram.Socket; port: number }> {
    for (;;) {
      tcp.listen(0, '127.0.0.1');
      await event(tcp, 'listening');
      const { port } = tcp.address() as net.AddressInfo;
      const udp = dgram.createSocket('udp4').bind(port, '127.0.0.1');
      const taken = await event<undefined>(udp, 'listening').catch((err: NodeJS.ErrnoException) => err);
      if (taken === undefined) return { udp, port };
      if (taken.code !== 'EADDRINUSE') throw taken;
      await new Promise((resolve) => tcp.close(resolve));
    }
  }

  const reply = (query: DnsMessage, flags: number): Uint8Array => {
    const bytes = new Uint8Array(1024);
    const question = query.questions[0] ?? { name: '', type: 0, class: 0 };
    const answers = [{ ...question, ttl: 1, data: Uint8Array.of(1, 2, 3, 4) }];
    return bytes.subarray(0, encodeDns({ ...query, flags: DNS_FLAG.QR | flags, answers }, bytes, 0));
  };

  /** Cut off inside its record. */
  const truncated = (query: DnsMessage): Uint8Array => {
    const bytes = reply(query, 0);
    put16(bytes, 2, DNS_FLAG.QR | DNS_FLAG.TC);
    return bytes.subarray(0, bytes.length - 3);
  };

  it('passes forged answers over and goes to TCP for truncated ones', async () => {
    const tcp = net.createServer((socket) => {
      socket.once('data', (data: Buffer) => {
        const message = reply(decodeDns(data, 2, data.length - 2), 0);
        socket.write(Uint8Array.of(message.length >>> 8));
        socket.end(Buffer.concat([Uint8Array.of(message.length & 0xff), message]));
      });
    });
    const { udp, port } = await samePort(tcp);
    udp.on('message', (data, from) => {
      const query = decodeDns(data, 0, data.length);
      for (const forged of [
        reply({ ...query, id: query.id ^ 1 }, 0),
        reply({ ...query, questions: [{ name: 'other', type: 1, class: 1 }] }, 0),
        Uint8Array.of(1, 2, 3),
        truncated(query),
      ]) {
        udp.send(forged, from.port, from.address);
      }
    });
    const answer = await lwipExchange(host, port)('10.0.2.2', 'a.example', DNS_TYPE.A, 20_000);
    expect(answer?.answers.map(({ data }) => [...data])).toEqual([[1, 2, 3, 4]]);
    udp.close();
    expect(await lwipExchange(host, port)('10.0.2.2', 'a.example', DNS_TYPE.A, 50)).toBeUndefined();
    tcp.close();
  });
});

describe('the stack', () => {
  it('survives an echo request that claims to come from our own address', async () => {
    const { netif, slirp } = host;
    const frame = new Uint8Array(60);
    const ip = emitEthernet(frame, 0, netif.mac, netif.mac, ETHERTYPE.IPV4);
    const icmp = emitIpv4(frame, ip, 8, IP_PROTOCOL.ICMP, netif.ip, netif.ip);
    put16(frame, icmp, 0x0800);
    put32(frame, icmp + 2, 0xf7ff0000);
    const before = netif.counters.rxFiltered;
    slirp.inject(frame);
    await until(() => netif.counters.rxFiltered === before + 1);
  });

  it('stops its clock when nothing can be pending', async () => {
    const { timers } = host.stack;
    await until(() => !timers.hasConnections);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    try {
      timers.stop();
      timers.touch();
      expect(timers.awake).toBe(true);
      vi.advanceTimersByTime(300_000);
      expect(timers.awake).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });
});
