/** Recording and replay, against the guest of the tests. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CapturedPacket, PcapngReader } from '#common/capture/reader';
import type { Wire } from '../wire.ts';
import { createWire, parseWire } from './index.ts';
import { TestGuest, testHost } from './testing/guest.ts';

let dir: string;
let host: ReturnType<typeof testHost>;
const guests: TestGuest[] = [];

function plug(spec: string): { wire: Wire; guest: TestGuest } {
  const wire = createWire(parseWire(spec), { hosts: new Map(), forwards: [] }, host);
  const guest = new TestGuest(host, wire);
  guests.push(guest);
  return { wire, guest };
}

function closeAll(): void {
  for (const guest of guests.splice(0)) guest.close();
}

function packetsIn(path: string): CapturedPacket[] {
  const reader = new PcapngReader();
  const packets = reader.push(readFileSync(path));
  reader.end();
  return packets;
}

/** The clock that time stamps are made of: it does not step with the host's. */
const now = (): number => performance.timeOrigin + performance.now();

async function until(condition: () => boolean): Promise<void> {
  for (const end = now() + 20_000; !condition() && now() < end; )
    await new Promise((resolve) => setImmediate(resolve));
  expect(condition()).toBe(true);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'l4lab-wires-'));
  host = testHost();
});

afterEach(() => {
  closeAll();
  rmSync(dir, { recursive: true });
});

describe('RecordingWire', () => {
  it('records both directions of a user wire', async () => {
    const path = join(dir, 'x.pcapng');
    const start = now();
    const { guest, wire } = plug(`user,record=${path}`);
    await guest.arp(0x0a000202);
    expect([wire.kind, wire.linkUp]).toEqual(['user', true]);
    closeAll();
    const packets = packetsIn(path);
    expect(packets.map(({ direction, bytes }) => [direction, bytes.length])).toContainEqual([2, 42]);
    expect(packets.map(({ direction }) => direction)).toContain(1);
    expect(packets[0]?.interface.name).toBe('nic');
    const first = Number(packets[0]?.timeNs) / 1e6;
    expect([first >= start - 1, first <= now() + 1]).toEqual([true, true]);
  });

  it('pcap:FILE takes what the NIC sends and is readable while the lab sleeps', async () => {
    const path = join(dir, 'x.pcapng');
    const { guest } = plug(`pcap:${path}`);
    guest.send(new Uint8Array(60).fill(7));
    await until(() => packetsIn(path).length === 1);
    expect(packetsIn(path)[0]).toMatchObject({ direction: 2, originalLength: 60 });
  });
});

describe('NoneWire', () => {
  it('swallows everything, with the link up or down', () => {
    const { guest, wire } = plug('none');
    guest.send(new Uint8Array(60));
    expect([wire.linkUp, plug('none,link=down').wire.linkUp]).toEqual([true, false]);
  });
});

describe('ReplayWire', () => {
  /** Big-endian, microseconds: frames of 60, 60 and 61 bytes at 0, 20 and 40 ms; an outbound one; one cut short. */
  function sample(): string {
    const path = join(dir, 'in.pcapng');
    const u32 = (...values: number[]) =>
      Buffer.from(values.flatMap((v) => [v >>> 24, (v >>> 16) & 255, (v >>> 8) & 255, v & 255]));
    const packet = (micros: number, size: number, original: number, direction: number) => {
      const data = Buffer.alloc((size + 3) & ~3, size);
      const length = 32 + data.length + 12;
      return Buffer.concat([
        u32(6, length, 0, 0, micros, size, original),
        data,
        u32(0x00020004, direction, 0, length),
      ]);
    };
    const head = Buffer.concat([
      u32(0x0a0d0d0a, 28, 0x1a2b3c4d, 0x00010000, 0xffffffff, 0xffffffff, 28),
      u32(1, 20, 0x00010000, 0, 20),
    ]);
    writeFileSync(
      path,
      Buffer.concat([
        head,
        packet(0, 60, 60, 0),
        packet(1, 99, 99, 2),
        packet(2, 60, 1500, 1),
        packet(20_000, 60, 60, 1),
        packet(40_000, 61, 61, 0),
      ]),
    );
    return path;
  }

  it('plays what the NIC of the file received, as fast as the NIC takes it', async () => {
    const { guest } = plug(`replay:${sample()},start=now`);
    await until(() => host.lines.length > 0);
    expect(guest.frames.map(({ length }) => length)).toEqual([60, 60, 61]);
    expect(host.lines[0]).toMatch(/info: Replayed .*: 3 frames, 1 times, 1 left out as they were cut short/);
  });

  it("starts with the NIC's first frame unless told otherwise", async () => {
    const { guest } = plug(`replay:${sample()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(guest.received).toBe(0);
    guest.send(new Uint8Array(60));
    await until(() => guest.received === 3);
  });

  it('waits while the NIC is full', async () => {
    const { guest } = plug(`replay:${sample()},start=now`);
    guest.full = true;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(guest.received).toBe(0);
    guest.full = false;
    guest.kick();
    await until(() => guest.received === 3);
  });

  it('plays again as often as it is told', async () => {
    const { guest } = plug(`replay:${sample()},start=now,loop=3`);
    await until(() => guest.received === 9);
    const { guest: endless } = plug(`replay:${sample()},start=now,loop=forever`);
    await until(() => endless.received > 50);
  });

  it('ends with one message when its file is gone by the time it is to play again', async () => {
    const path = sample();
    const { guest } = plug(`replay:${path},start=tx,loop=2`);
    rmSync(path);
    guest.send(new Uint8Array(60));
    await until(() => host.lines.length > 0);
    expect(guest.received).toBe(3);
    expect(host.lines).toEqual([
      expect.stringMatching(/error: Stopped replay of .*: Cannot replay .*ENOENT/),
    ]);
    guest.kick();
    closeAll();
  });

  it('keeps the distances in time when asked to', async () => {
    const start = performance.now();
    const { guest } = plug(`replay:${sample()},start=now,timing=original`);
    await until(() => guest.received === 1);
    await until(() => guest.received === 3);
    expect(performance.now() - start).toBeGreaterThanOrEqual(39);
  });

  it('refuses a file that is no capture, and stops where one is broken', async () => {
    const path = join(dir, 'bad.pcapng');
    writeFileSync(path, 'this is no capture');
    expect(() => plug(`replay:${path}`)).toThrow(
      /Cannot replay .*bad\.pcapng: .*must start with a section header/,
    );
    writeFileSync(path, readFileSync(sample()).subarray(0, -5));
    const { guest } = plug(`replay:${path},start=now`);
    await until(() => host.lines.length > 0);
    expect(guest.received).toBe(2);
    expect(host.lines).toEqual([
      expect.stringMatching(
        /error: Stopped replay of .*: Cannot read capture at byte \d+ as a block must end inside/,
      ),
    ]);
  });
});
