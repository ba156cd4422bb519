// Frames that break every rule they can: lwIP asserts (and ends the process) on states that must not be reachable.
import { expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { get16, put16 } from '#common/wire/bytes';
import { finish, pseudoSum, sumOf } from '#common/wire/checksum';
import { ETHERTYPE, emitEthernet } from '#common/wire/ethernet';
import { emitIpv4, IP_PROTOCOL, IPV4 } from '#common/wire/ipv4';
import { Netif } from './netif.ts';
import { Server } from './server.ts';
import { Stack } from './stack.ts';
import { UdpSocket } from './udp.ts';

const FRAMES = 30_000;
const BUFFERS = 64;
const SLOT = 2048;
const IP = 0x0a00020f;

/** Deterministic: a failure can be repeated. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

it('Netif.receive() survives hostile frames and gets every buffer back', () => {
  const arena = new Arena(2 ** 26);
  const stack = Stack.open(arena);
  const base = arena.mapPrivate(BUFFERS * SLOT);
  const slot = arena.mapPrivate(SLOT);
  const free = Array.from({ length: BUFFERS }, (_, i) => i);
  const netif = new Netif(stack, {
    mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56),
    mtu: 1500,
    rxBuffers: BUFFERS,
    start: () => {},
    txSlot: () => slot,
    txCommit: () => {},
    flush: () => {},
    rxRelease: (index) => void free.push(index),
    close: () => {},
  });
  netif.setAddress(IP, 0xffffff00, 0x0a000202);
  const host = { stack, netifs: [netif], lookup: () => {} };
  const server = new Server(host, {}, (socket) => socket.on('error', () => {}).resume()).listen(80);
  const udp = new UdpSocket(host).bind(53);
  const roll = dice(7);
  for (let n = 0; n < FRAMES; n++) {
    const index = free.pop();
    if (index === undefined) throw new Error(`starved at frame ${n}`);
    const at = base + index * SLOT;
    netif.receive(index, at, hostileFrame(arena.u8, at, netif.mac, roll));
    if (roll(8) === 0) netif.endBatch();
    if (n % 1000 === 0) for (let k = 0; k < 20; k++) stack.ffi.ip_reass_tmr();
  }
  for (let k = 0; k < 60; k++) stack.ffi.ip_reass_tmr();
  server.close();
  udp.close();
  netif.close();
  stack.timers.stop();
  expect(netif.counters.rxFrames).toBeGreaterThan(FRAMES / 2);
  expect([netif.held, free.length]).toEqual([0, BUFFERS]);
});

/** Writes an IPv4 frame, right on the outside and wrong somewhere inside. Returns its length. */
function hostileFrame(u8: Uint8Array, at: number, mac: Uint8Array, roll: (sides: number) => number): number {
  const length = 60 + roll(140);
  for (let i = 0; i < length; i++) u8[at + i] = roll(256);
  const ip = emitEthernet(u8, at, mac, Uint8Array.of(2, 0, 0, 0, 0, 1), ETHERTYPE.IPV4);
  const protocol = [IP_PROTOCOL.ICMP, IP_PROTOCOL.TCP, IP_PROTOCOL.UDP][roll(3)] as number;
  const source = 0x0a000202 + roll(3);
  emitIpv4(u8, ip, length - 34, protocol, source, IP);
  if (roll(4) === 0) put16(u8, ip + IPV4.FRAGMENT, [0x2000, 0x2001, 1, 0x1fff][roll(4)] as number);
  if (roll(6) === 0) u8[ip] = 0x40 | (5 + roll(11));
  if (roll(9) === 0) put16(u8, ip + IPV4.TOTAL_LENGTH, roll(300));
  put16(u8, ip + IPV4.CHECKSUM, 0);
  const header = ((u8[ip] as number) & 15) * 4;
  put16(u8, ip + IPV4.CHECKSUM, finish(sumOf(u8, ip, header)));
  const body = ip + header;
  const size = Math.min(get16(u8, ip + IPV4.TOTAL_LENGTH), length - 14) - header;
  if (protocol === IP_PROTOCOL.TCP && size >= 20) {
    put16(u8, body + 2, 80);
    u8[body + 12] = (5 + roll(4)) << 4;
    u8[body + 13] = [0x02, 0x10, 0x18, 0x11, 0x04, 0x29, 0x12][roll(7)] as number;
    put16(u8, body + 16, 0);
    put16(u8, body + 16, finish(pseudoSum(source, IP, protocol, size) + sumOf(u8, body, size)));
  } else if (protocol === IP_PROTOCOL.UDP && size >= 8) {
    put16(u8, body + 2, roll(2) ? 53 : 68);
    if (roll(3) > 0) put16(u8, body + 4, size);
    put16(u8, body + 6, 0);
  } else if (size >= 8) {
    u8[body] = [8, 0, 3, 11][roll(4)] as number;
    put16(u8, body + 2, 0);
    put16(u8, body + 2, finish(sumOf(u8, body, size)));
  }
  return roll(10) === 0 ? roll(length) : length;
}
