/**
 * One scenario in a network namespace of its own, for the tests: prints its result as JSON. Started by `netns.ts`.
 */

import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { DNS_TYPE, rcodeOf } from '#common/wire/dns';
import { IP_PROTOCOL, parseIpv4 } from '#common/wire/ipv4';
import { createWire, parseWire } from '../index.ts';
import { packetOf, TestGuest, testHost } from './guest.ts';
import { tcpRequest } from './guest_tcp.ts';
import { hostile } from './hostile_guest.ts';

const HOST = parseIpv4('10.0.2.2') as number;
const DNS_SERVER = parseIpv4('10.0.2.3') as number;

/** Everything through a real interface: ARP and ping answered by the kernel, a page by a server behind it. */
async function tap(): Promise<unknown> {
  const host = testHost();
  const guest = new TestGuest(
    host,
    createWire(parseWire('tap:lab0'), { hosts: new Map(), forwards: [] }, host),
  );
  execFileSync('ip', ['addr', 'add', '10.0.2.2/24', 'dev', 'lab0']);
  guest.gateway = Uint8Array.from(await guest.arp(HOST));
  const echoed = (await guest.ping(HOST, new Uint8Array(1000).fill(3))).length;
  const server = createServer((_, response) => response.end('x'.repeat(300_000)));
  await new Promise<void>((resolve) => server.listen(8080, '10.0.2.2', resolve));
  const request = Buffer.from('GET / HTTP/1.0\r\n\r\n');
  const { bytes } = await tcpRequest(guest, 50_000, HOST, 8080, request);
  const interfaces = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'lab0'], { encoding: 'utf8' }));
  const up = (interfaces[0].flags as string[]).includes('UP');
  guest.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  const left = execFileSync('ip', ['-j', 'link'], { encoding: 'utf8' }).includes('lab0');
  return { echoed, bytes: bytes.length, up, left, lines: host.lines };
}

/** An interface with an address of the wire's making answers by it. */
async function tapAddress(): Promise<unknown> {
  const host = testHost();
  const wire = createWire(
    parseWire('tap:lab0,address=10.0.2.2/24'),
    { hosts: new Map(), forwards: [] },
    host,
  );
  const guest = new TestGuest(host, wire);
  guest.gateway = Uint8Array.from(await guest.arp(HOST));
  const echoed = (await guest.ping(HOST, new Uint8Array(1000).fill(3))).length;
  const routes = execFileSync('ip', ['route'], { encoding: 'utf8' });
  guest.close();
  return { echoed, routes, lines: host.lines };
}

/** Lengths of the datagrams that reach the guest when the interface's MTU is larger than a frame of the wire. */
async function tapLong(): Promise<unknown> {
  const host = testHost();
  const wire = createWire(
    parseWire('tap:lab0,address=10.0.2.2/24'),
    { hosts: new Map(), forwards: [] },
    host,
  );
  const guest = new TestGuest(host, wire);
  execFileSync('ip', ['link', 'set', 'lab0', 'mtu', '4000']);
  const socket = createSocket('udp4');
  const got: number[] = [];
  const last = new Promise<void>((resolve) => {
    guest.listen((frame) => {
      // A datagram that was cut makes no packet.
      if (packetOf(frame)?.protocol !== IP_PROTOCOL.UDP) return;
      got.push(frame.length);
      if (frame.length === 42 + 7) resolve();
    });
  });
  for (const size of [1472, 2003, 2004, 2005, 3000, 3000, 7])
    socket.send(new Uint8Array(size), 5000, '10.0.2.15');
  await last;
  socket.close();
  guest.close();
  return { got, cut: guest.frames.filter(({ length }) => length > 2045).length, lines: host.lines };
}

/** Somebody deletes the interface while the wire sleeps: what the log says, and how often the wire is awake afterwards. */
async function tapDeleted(): Promise<unknown> {
  const host = testHost();
  const wire = createWire(parseWire('tap:lab0'), { hosts: new Map(), forwards: [] }, host);
  let polls = 0;
  let asleep = false;
  const [poll, arm] = [wire.poll.bind(wire), wire.arm.bind(wire)];
  wire.poll = () => {
    polls += 1;
    asleep = false;
    return poll();
  };
  wire.arm = () => {
    const work = arm();
    asleep = !work;
    return work;
  };
  const guest = new TestGuest(host, wire);
  execFileSync('ip', ['link', 'del', 'lab0']);
  while (!(asleep && host.lines.some((line) => line.includes('gone'))) && polls < 100_000)
    await new Promise((resolve) => setImmediate(resolve));
  const before = polls;
  await new Promise((resolve) => setTimeout(resolve, 50));
  const awake = polls - before;
  guest.send(new Uint8Array(60));
  guest.close();
  return { awake, lines: host.lines };
}

async function denied(): Promise<unknown> {
  try {
    createWire(parseWire('tap:lab0'), { hosts: new Map(), forwards: [] }, testHost());
    return { message: '' };
  } catch (err) {
    return { message: (err as Error).message };
  }
}

/** What a guest hears about a name when the host has no network. */
async function dns(): Promise<unknown> {
  const host = testHost();
  const guest = new TestGuest(host, createWire(parseWire('user'), { hosts: new Map(), forwards: [] }, host));
  const reply = await guest.query(DNS_SERVER, 'www.example.org', DNS_TYPE.A);
  guest.close();
  return { rcode: rcodeOf(reply.flags), name: reply.questions[0]?.name, lines: host.lines };
}

const SCENARIOS: Readonly<Record<string, () => Promise<unknown>>> = {
  tap,
  tapAddress,
  tapLong,
  tapDeleted,
  denied,
  dns,
  hostile,
};
const result = await (SCENARIOS[process.argv[2] ?? ''] as () => Promise<unknown>)();
process.stdout.write(`${JSON.stringify(result)}\n`);
