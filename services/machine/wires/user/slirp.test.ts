/** libslirp through koffi: layouts of its structures, both ways of timers, one instance per wire. */

import { describe, expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { ARP_REQUEST, emitArpFrame } from '#common/wire/arp';
import { TestGuest, testHost } from '../testing/guest.ts';
import { configVersion, libslirp } from './libslirp.ts';
import { DEFAULT_NETWORK } from './network.ts';
import { Slirp } from './slirp.ts';
import { UserWire } from './user_wire.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);

/** Starts an instance, asks for the gateway and returns what came back. */
function askGateway(version?: number): { frames: number[]; sockets: number } {
  const arena = new Arena(2 ** 20);
  const frames: number[] = [];
  const events = {
    frame: (_: number, length: number) => void frames.push(length),
    notify: () => undefined,
    opened: () => undefined,
    closed: () => undefined,
    mayAccept: () => true,
    log: () => undefined,
  };
  const slirp = new Slirp(arena, DEFAULT_NETWORK, events, version);
  const at = arena.mapPrivate(4096);
  const packet = {
    operation: ARP_REQUEST,
    senderMac: MAC,
    senderIp: 0x0a00020f,
    targetMac: new Uint8Array(6),
    targetIp: 0x0a000202,
  };
  slirp.input(at, emitArpFrame(arena.u8, at, new Uint8Array(6).fill(0xff), packet));
  while (slirp.turn(8));
  const { sockets } = slirp;
  slirp.close();
  return { frames, sockets };
}

describe('Slirp', () => {
  it.each([undefined, 3, 1])('answers ARP with configuration version %s', (version) => {
    const { frames, sockets } = askGateway(version);
    // libslirp pads its ARP frames to 64 bytes.
    expect(frames).toContain(64);
    expect(sockets).toBe(0);
  });

  it('sleeps without a deadline of its own sockets, but for the router advertisement', () => {
    const arena = new Arena(2 ** 20);
    const nothing = () => undefined;
    const mayAccept = () => true;
    const events = {
      frame: nothing,
      notify: nothing,
      opened: nothing,
      closed: nothing,
      mayAccept,
      log: nothing,
    };
    const slirp = new Slirp(arena, DEFAULT_NETWORK, events);
    while (slirp.turn(8));
    expect(slirp.prepareSleep()).toBeGreaterThan(1000);
    slirp.close();
  });
});

it('configVersion() knows what each library takes', () => {
  expect(['4.1.0', '4.3.1', '4.6.1', '4.7.0', '4.9.1'].map(configVersion)).toEqual([1, 3, 3, 4, 4]);
  expect(libslirp().version).toMatch(/^4\./);
});

it('two user wires in one machine are two networks', async () => {
  const host = testHost();
  const options = { hosts: new Map(), forwards: [] };
  const guests = [
    new TestGuest(host, new UserWire(options, host)),
    new TestGuest(host, new UserWire(options, host)),
  ];
  const leases = await Promise.all(guests.map((guest) => guest.dhcp()));
  expect(leases.map(({ yiaddr }) => yiaddr)).toEqual([0x0a00020f, 0x0a00020f]);
  for (const guest of guests) guest.close();
});
