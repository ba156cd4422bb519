/** Real UDP sockets on loopback. */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { openFiles } from '#common/testing/open_files';
import { formatIp, parseIp } from './address.ts';
import { sockaddrIp, sockaddrPort, writeSockaddr } from './sockaddr.ts';
import { SLOT_BYTES, type UdpOptions, UdpSocket } from './socket.ts';

const arena = new Arena(64 * 2 ** 20);
const peer = arena.mapPrivate(64);
const sockets: UdpSocket[] = [];
const LOOPBACKS = { 4: parseIp('127.0.0.1'), 6: parseIp('::1') } as const;
/** Of the present test. */
let family: 4 | 6 = 4;

function open(port = 0, more: Partial<UdpOptions> = {}): UdpSocket {
  const socket = new UdpSocket(arena, { family, address: LOOPBACKS[family], port, ...more });
  sockets.push(socket);
  return socket;
}

/** Socket address of a port on loopback. */
function to(port: number): number {
  writeSockaddr(arena, peer, LOOPBACKS[family] as Uint8Array, port);
  return peer;
}

function sendText(from: UdpSocket, text: string, ...ports: number[]): void {
  const slot = from.slot();
  const bytes = Buffer.from(text);
  arena.u8.set(bytes, slot);
  for (const port of ports) from.send(slot, bytes.length, to(port));
}

const text = (socket: UdpSocket, n: number) =>
  Buffer.from(arena.u8.slice(socket.offset(n), socket.offset(n) + socket.length(n))).toString();

/** Everything that arrives until `count` datagrams are there. */
async function receive(socket: UdpSocket, count: number): Promise<string[]> {
  const got: string[] = [];
  while (got.length < count) {
    await new Promise<void>((resolve) => socket.listen(resolve));
    for (let taken = socket.receive(32); taken > 0; taken = socket.receive(32))
      for (let n = 0; n < taken; n++) got.push(text(socket, n));
  }
  return got;
}

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

/** Without IPv6 on this host there is nothing to try. */
const hasIpv6 = networkInterfaces().lo?.some(({ address }) => address === '::1') ?? false;
const families = hasIpv6 ? ([4, 6] as const) : ([4] as const);

describe.each(families)('UdpSocket over IPv%d', (version) => {
  beforeEach(() => {
    family = version;
  });

  it('moves a batch, tells who sent it, and one buffer may go to many', async () => {
    const [a, b, c] = [open(), open(), open()];
    sendText(a, 'first', b.port);
    sendText(a, 'both', b.port, c.port);
    expect(b.receive(32)).toBe(0);
    a.flush();
    expect(await receive(b, 2)).toEqual(['first', 'both']);
    expect([sockaddrIp(arena, b.peer(0)), sockaddrPort(arena, b.peer(0))]).toEqual([
      LOOPBACKS[family],
      a.port,
    ]);
    expect(await receive(c, 1)).toEqual(['both']);
  });

  it('sends more than it has slots and messages for', async () => {
    const [a, b] = [open(), open()];
    // Five messages of a slot: the messages run out first, then the slots. Not more than the least receive buffer takes.
    const ports = Array.from({ length: 5 }, () => b.port);
    const texts = Array.from({ length: 70 }, (_, n) => `datagram ${n}`);
    const got = receive(b, texts.length * ports.length);
    for (const one of texts) sendText(a, one, ...ports);
    a.flush();
    expect(await got).toEqual(texts.flatMap((one) => ports.map(() => one)));
    expect(a.losses).toEqual({ tooLong: 0, full: 0, refused: 0 });
  });

  it('tells a datagram that was too long for its buffer', async () => {
    const [a, b] = [open(), open()];
    const slot = a.slot();
    a.send(slot, SLOT_BYTES + 1, to(b.port));
    a.flush();
    await new Promise<void>((resolve) => b.listen(resolve));
    expect([b.receive(32), b.length(0)]).toEqual([1, -1]);
  });

  it('counts what the kernel refuses and sends the rest', async () => {
    const [a, b] = [open(), open()];
    const slot = a.slot();
    a.send(slot, 70_000, to(b.port));
    sendText(a, 'after', b.port);
    a.flush();
    expect(await receive(b, 1)).toEqual(['after']);
    expect(a.losses).toEqual({ tooLong: 1, full: 0, refused: 0 });
  });

  it('says that a port is taken, and leaves nothing open', () => {
    const { port } = open();
    expect(() => open(port)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
    open();
  });

  it('listens again after each call, and not after unlisten', async () => {
    const [a, b] = [open(), open()];
    sendText(a, 'one', b.port);
    a.flush();
    await new Promise<void>((resolve) => b.listen(resolve));
    let calls = 0;
    b.listen(() => calls++);
    b.unlisten();
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toBe(0);
    expect(await receive(b, 1)).toEqual(['one']);
  });

  it('leaves nothing open when it cannot be made', () => {
    const { port } = open();
    const before = openFiles('socket:');
    const room = new Arena(2 ** 20);
    const address = LOOPBACKS[family];
    // Each takes nearly all of it.
    for (let n = 0; n < 3; n++) {
      expect(() => new UdpSocket(room, { family, address, port })).toThrow('bind: EADDRINUSE');
      expect(() => new UdpSocket(room, { family, port: 0, device: 'nosuch0' })).toThrow(
        expect.objectContaining({ code: 'ENODEV', message: 'interface nosuch0: ENODEV' }),
      );
    }
    new UdpSocket(room, { family, address, port: 0 }).close();
    expect(() => new UdpSocket(new Arena(2 ** 16), { family, port: 0 })).toThrow('no such free range');
    expect(openFiles('socket:')).toEqual(before);
  });

  it('keeps next to nothing of what is sent to a socket that only sends', async () => {
    const [a, b] = [open(), open(0, { receives: false })];
    for (let n = 0; n < 500; n++) sendText(a, 'x'.repeat(1000), b.port);
    a.flush();
    // Reading the table may pass over a socket while others come and go.
    await expect.poll(() => queuedAt(b.port)).toBeDefined();
    expect(queuedAt(b.port) ?? 0).toBeLessThan(10_000);
  });

  it('speaks without UDP checksums with its kind', async () => {
    const [a, b] = [open(0, { noChecksum: true }), open(0, { noChecksum: true })];
    sendText(a, 'plain', b.port);
    a.flush();
    expect(await receive(b, 1)).toEqual(['plain']);
  });
});

/** Bytes that wait at a port: column tx_queue:rx_queue of the kernel's table. */
function queuedAt(port: number): number | undefined {
  const end = `:${port.toString(16).padStart(4, '0').toUpperCase()}`;
  const table = readFileSync(family === 4 ? '/proc/net/udp' : '/proc/net/udp6', 'utf8');
  const columns = table.split('\n').map((line) => line.trim().split(/\s+/));
  const queue = columns.find(([, local]) => local?.endsWith(end))?.[4]?.split(':')[1];
  return queue === undefined ? undefined : Number.parseInt(queue, 16);
}

it('a group needs an interface that is there', () => {
  const socket = new UdpSocket(arena, { family: 4, port: 0 });
  sockets.push(socket);
  expect(() => socket.join(parseIp('239.1.1.1') as Uint8Array)).toThrow('ENODEV');
  expect(formatIp(LOOPBACKS[6] as Uint8Array)).toBe('::1');
});
