/**
 * A guest that sends anything to the wire `user`, and a page that another one gets behind it. For network namespaces only.
 *
 * Its sequence numbers do not wrap: libslirp 4.7 mistakes the end of its list of segments for one when they are at 0
 * (services/machine/wires/README.md).
 */
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { openFiles } from '#common/testing/open_files';
import { Random } from '#common/testing/random';
import { parseIpv4 } from '#common/wire/ipv4';
import { parseIpv6 } from '#common/wire/ipv6';
import { HostileFrames } from '#common/wire/testing/hostile_frames';
import { HostilePeers } from '#common/wire/testing/hostile_peers';
import { createWire, parseWire } from '../index.ts';
import { parseGuestForward } from '../options.ts';
import { TestGuest, testHost } from './guest.ts';
import { tcpRequest } from './guest_tcp.ts';

const FRAMES = 30_000;
const MIRROR = parseIpv4('10.0.2.100') as number;
const PAGE = parseIpv4('10.0.2.101') as number;

/** What became of the frames, of the page, and of the sockets that the wire had opened. */
export async function hostile(): Promise<unknown> {
  const random = new Random(Number(process.env.L4LAB_SEED ?? 1));
  const accepted: Socket[] = [];
  const echo = createTcpServer((socket) => {
    accepted.push(socket);
    socket.on('error', () => {}).pipe(socket);
    if (random.oneIn(10)) socket.write(Buffer.alloc(random.below(100_000)));
  });
  const web = createServer((_, response) => response.end('x'.repeat(300_000)));
  const ports = await Promise.all(
    [echo, web].map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return (server.address() as AddressInfo).port;
    }),
  );
  const before = openFiles('socket:');
  const host = testHost();
  const forwards = [`10.0.2.100:80=127.0.0.1:${ports[0]}`, `10.0.2.101:80=127.0.0.1:${ports[1]}`];
  const wire = createWire(
    parseWire('user'),
    { hosts: new Map(), forwards: forwards.map(parseGuestForward) },
    host,
  );
  const guest = new TestGuest(host, wire);
  const frame = new Uint8Array(2048);
  const gateway = parseIpv6('fe80::2') as Uint8Array;
  const target = { mac: guest.gateway, ip: MIRROR, ip6: () => gateway };
  const peers = new HostilePeers(frame, target, random, { wraps: false });
  const frames = new HostileFrames(frame, target, random);
  guest.listen((received) => peers.heard(received, 0));
  for (let n = 0; n < FRAMES; n++) {
    const length = random.oneIn(2) ? frames.write(0) : peers.write(0);
    guest.send(frame.subarray(0, length));
    // libslirp takes what comes; its sockets are to have their turn, too.
    if (random.oneIn(32)) await new Promise(setImmediate);
    guest.frames.length = 0;
  }
  guest.ip = parseIpv4('10.0.2.200') as number;
  const { bytes } = await tcpRequest(guest, 50_000, PAGE, 80, Buffer.from('GET / HTTP/1.0\r\n\r\n'));
  if (bytes.length < 300_000) throw new Error(`the page has come with ${bytes.length} bytes`);
  const opened = openFiles('socket:').length - before.length;
  guest.close();
  for (const socket of accepted) socket.destroy();
  web.closeAllConnections();
  await new Promise(setImmediate);
  const left = openFiles('socket:').length - before.length;
  echo.close();
  web.close();
  return { accepted: accepted.length, opened, left };
}
