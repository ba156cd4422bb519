// A peer that closes its window at the wrong moment. lwIP's clock is the test's.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { get16, get32 } from '#common/wire/bytes';
import { Server } from './server.ts';
import type { Socket } from './socket.ts';
import { BareNetif } from './testing/bare_netif.ts';
import { flagsOf, segmentFrame, TCP_AT, TCP_FLAG } from './testing/segment.ts';

const { SYN, ACK } = TCP_FLAG;
const PORT = 80;
const TICK_MS = 250;
/** lwIP's first time-out is 3 s, its clock counts halves. */
const TIME_OUT_TICKS = 16;

let bare: BareNetif;
let server: Server;
/** Segments of lwIP, as frames. */
let sent: Uint8Array[];
let socket: Socket;
/** Next numbers of ours and of lwIP's. */
let sequence: number;
let acknowledgement: number;

function segment(flags: number, window = 0xffff): void {
  const frame = segmentFrame({
    ...{ fromMac: Uint8Array.of(2, 0, 0, 0, 0, 7), toMac: bare.netif.mac },
    ...{ fromIp: 0x0a000207, toIp: bare.netif.ip, fromPort: 1000, toPort: PORT },
    ...{ flags, window, sequence, acknowledgement },
  });
  bare.receive((at) => {
    bare.stack.memory.u8.set(frame, at);
    return frame.length;
  });
  bare.netif.endBatch();
}

function ticks(count: number): void {
  for (let n = 0; n < count; n++) vi.advanceTimersByTime(TICK_MS);
}

/** Bytes of data in all segments that were sent since the last call. */
function dataSent(): number {
  const frames = sent.splice(0).filter((frame) => get16(frame, 12) === 0x0800);
  return frames.reduce((sum, frame) => sum + get16(frame, 16) - 40, 0);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  sent = [];
  bare = new BareNetif({ sent: (u8, at, length) => sent.push(u8.slice(at, at + length)) });
  const host = { stack: bare.stack, netifs: [bare.netif], lookup: () => {} };
  server = new Server(host, {}, (accepted) => {
    socket = accepted.on('error', () => {});
  }).listen(PORT);
  [sequence, acknowledgement] = [5000, 0];
  segment(SYN);
  const answer = sent.findLast((frame) => flagsOf(frame) === (SYN | ACK)) as Uint8Array;
  [sequence, acknowledgement] = [5001, get32(answer, TCP_AT + 4) + 1];
  segment(ACK);
  dataSent();
});

afterEach(() => {
  server.close();
  bare[Symbol.dispose]();
  vi.useRealTimers();
});

describe('a peer that closes its window', () => {
  it('after data was sent, and acknowledges that behind the time-out: lwIP goes on, and sends when it opens', () => {
    socket.setNoDelay(true);
    socket.write(Buffer.alloc(50));
    socket.write(Buffer.alloc(100));
    expect(dataSent()).toBe(150);
    acknowledgement += 50;
    segment(ACK, 0);
    ticks(TIME_OUT_TICKS);
    expect(dataSent()).toBeLessThan(100);
    acknowledgement += 100;
    segment(ACK, 0);
    ticks(TIME_OUT_TICKS);
    socket.write(Buffer.alloc(70));
    expect(dataSent()).toBe(0);
    segment(ACK);
    expect(dataSent()).toBe(70);
  });

  it('before data is sent: lwIP asks now and then, and sends when it opens', () => {
    socket.write(Buffer.alloc(50));
    acknowledgement += 50;
    segment(ACK, 0);
    dataSent();
    socket.write(Buffer.alloc(70));
    expect(dataSent()).toBe(0);
    ticks(120);
    // One byte each, further apart each time.
    const probes = dataSent();
    expect(probes).toBeGreaterThanOrEqual(3);
    expect(probes).toBeLessThan(20);
    segment(ACK);
    expect(dataSent()).toBe(70);
  });
});
