/** Real UDP sockets on loopback. */
import { afterEach, describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { SLOT_BYTES, UdpSocket } from './socket.ts';

const LOOPBACK = 0x7f000001;
const arena = new Arena(64 * 2 ** 20);
const sockets: UdpSocket[] = [];

function open(port = 0): UdpSocket {
  const socket = new UdpSocket(arena, { address: LOOPBACK, port });
  sockets.push(socket);
  return socket;
}

function sendText(from: UdpSocket, text: string, ...ports: number[]): void {
  const slot = from.slot();
  const bytes = Buffer.from(text);
  arena.u8.set(bytes, slot);
  for (const port of ports) from.send(slot, bytes.length, LOOPBACK, port);
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

describe('UdpSocket', () => {
  it('moves a batch, tells who sent it, and one buffer may go to many', async () => {
    const [a, b, c] = [open(), open(), open()];
    sendText(a, 'first', b.port);
    sendText(a, 'both', b.port, c.port);
    expect(b.receive(32)).toBe(0);
    a.flush();
    expect(await receive(b, 2)).toEqual(['first', 'both']);
    expect([b.peerAddress(0), b.peerPort(0)]).toEqual([LOOPBACK, a.port]);
    expect(await receive(c, 1)).toEqual(['both']);
  });

  it('sends more than it has slots and messages for', async () => {
    const [a, b] = [open(), open()];
    const texts = Array.from({ length: 600 }, (_, n) => `datagram ${n}`);
    const got = receive(b, texts.length);
    for (const one of texts) sendText(a, one, b.port);
    a.flush();
    expect(await got).toEqual(texts);
    expect(a.losses).toEqual({ tooLong: 0, refused: 0 });
  });

  it('tells a datagram that was too long for its buffer', async () => {
    const [a, b] = [open(), open()];
    const slot = a.slot();
    a.send(slot, SLOT_BYTES + 1, LOOPBACK, b.port);
    a.flush();
    await new Promise<void>((resolve) => b.listen(resolve));
    expect([b.receive(32), b.length(0)]).toEqual([1, -1]);
  });

  it('counts what the kernel refuses and sends the rest', async () => {
    const [a, b] = [open(), open()];
    const slot = a.slot();
    a.send(slot, 70_000, LOOPBACK, b.port);
    sendText(a, 'after', b.port);
    a.flush();
    expect(await receive(b, 1)).toEqual(['after']);
    expect(a.losses).toEqual({ tooLong: 1, refused: 0 });
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
});
