import { closeSync, constants, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Arena } from './arena.ts';
import { Doorbells } from './doorbell.ts';
import { IrqReceiver, IrqSource } from './irq.ts';
import { Lifeline, LifelineWatch } from './lifeline.ts';
import { MMIO_BYTES, MmioClient, MmioServer } from './mmio.ts';
import { Pump } from './pump.ts';
import { randomName } from './run_dir.ts';

let dir: TestRunDir;
let arena: Arena;
let doorbells: Doorbells;

beforeEach(() => {
  dir = testRunDir();
  arena = new Arena(2 ** 24);
  doorbells = new Doorbells(dir.path);
});
afterEach(() => {
  doorbells.close();
  dir[Symbol.dispose]();
});

describe('Doorbell', () => {
  it('wakes its listener, never blocks a ringer, and is removed by close()', async () => {
    const bell = doorbells.create();
    const ringer = doorbells.open(bell.name);
    let rings = 0;
    const rung = new Promise<void>((resolve) =>
      bell.listen(() => {
        rings++;
        resolve();
      }),
    );
    for (let n = 0; n < 100_000; n++) ringer.ring();
    await rung;
    expect(rings).toBe(1);
    ringer.close();
    ringer.ring();
    bell.close();
    expect(readdirSync(join(dir.path, 'b'))).toEqual([]);
    expect(() => doorbells.open(bell.name)).toThrow('none of that name');
    expect(() => doorbells.open('../g/x')).toThrow('32 hex digits');
    const file = 'f'.repeat(32);
    writeFileSync(join(dir.path, 'b', file), '');
    expect(() => doorbells.open(file)).toThrow('is not a FIFO');
  });
});

describe('a FIFO that its other side has made larger and filled', () => {
  const F_SETPIPE_SZ = 1031;
  const F_GETPIPE_SZ = 1032;
  const MIB = 2 ** 20;
  const fcntl = koffi.load('libc.so.6').func('int fcntl(int, int, int)');

  /** Returns how much there is. It is less than wanted where a user who is not root has many pipes [pipe(7)]. */
  function fill(name: string): number {
    const fd = openSync(join(dir.path, 'b', name), constants.O_RDWR | constants.O_NONBLOCK);
    fcntl(fd, F_SETPIPE_SZ, MIB);
    const bytes = writeSync(fd, new Uint8Array(fcntl(fd, F_GETPIPE_SZ, 0) as number));
    closeSync(fd);
    return bytes;
  }

  it('keeps the event loop of a doorbell for 64 KiB at a time: others have their turn in between', async () => {
    const bell = doorbells.create();
    const bytes = fill(bell.name);
    let rings = 0;
    bell.listen(() => {
      rings += 1;
    });
    await expect.poll(() => rings).toBe(Math.ceil(bytes / 65536));
    bell.close();
  });

  it('keeps nobody who looks whether its holder lives, and does not hide the end', async () => {
    const name = randomName();
    const lifeline = new Lifeline(dir.path, name);
    let ended = 0;
    const watch = new LifelineWatch(dir.path, name, () => {
      ended += 1;
    });
    const bytes = fill(name);
    lifeline.close();
    for (let taken = 0; taken < bytes; taken += 65536) expect([watch.check(), ended]).toEqual([true, 0]);
    await expect.poll(() => ended).toBe(1);
  });
});

describe('Irq', () => {
  function pair() {
    const receiver = new IrqReceiver(dir.path, arena, doorbells);
    const source = new IrqSource(dir.path, arena, doorbells, receiver.ref);
    const fired: number[] = [];
    let next = () => {};
    receiver.listen(() => {
      fired.push(fired.length);
      next();
    });
    const interrupt = () => new Promise<void>((resolve) => (next = resolve));
    return { receiver, source, fired, interrupt };
  }

  it('a level interrupt fires once until it is unmasked, then again while it is asserted', async () => {
    const { receiver, source, fired, interrupt } = pair();
    source.setLevel(true);
    let fires = interrupt();
    receiver.unmask();
    await fires;
    source.setLevel(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(fired).toHaveLength(1);
    fires = interrupt();
    receiver.unmask();
    await fires;
    source.setLevel(false);
    receiver.unmask();
    fires = interrupt();
    source.setLevel(true);
    await fires;
    expect(fired).toHaveLength(3);
    receiver.close();
    source.close();
    expect(readdirSync(join(dir.path, 'm'))).toEqual([]);
  });

  it('an edge interrupt fires for every trigger batch and counts', async () => {
    const { receiver, source, interrupt } = pair();
    const fires = interrupt();
    source.trigger();
    source.trigger();
    await fires;
    expect(receiver.edges).toBe(2);
    receiver.close();
    source.close();
  });

  it('IrqReceiver leaves nothing behind when there is no room for its state', () => {
    const full = new Arena(4096);
    full.mapPrivate(4096);
    expect(() => new IrqReceiver(dir.path, full, doorbells)).toThrow('no such free range');
    expect([readdirSync(join(dir.path, 'm')), readdirSync(join(dir.path, 'b'))]).toEqual([[], []]);
  });

  it('IrqSource refuses names from outside', () => {
    expect(() => new IrqSource(dir.path, arena, doorbells, { name: '../run.json' })).toThrow('32 hex digits');
    expect(() => new IrqSource(dir.path, arena, doorbells, { name: 'a'.repeat(32) })).toThrow(
      'none of that name',
    );
  });
});

describe('Mmio', () => {
  function channel() {
    const memory = new Memory(new ArrayBuffer(MMIO_BYTES));
    const server = new MmioServer(memory, 0);
    const bell = doorbells.create();
    const client = new MmioClient(memory, 0, doorbells.open(bell.name), { lives: () => true });
    const log: string[] = [];
    const registers = {
      read32: (offset: number) => {
        log.push(`r${offset}`);
        return 0xcafe_0000 + offset;
      },
      write32: (offset: number, value: number) => void log.push(`w${offset}=${value}`),
    };
    return { memory, server, client, log, registers, bell };
  }

  it('performs writes in order, each once, over many turns of the ring', () => {
    const { server, client, log, registers } = channel();
    for (let n = 0; n < 5000; n++) {
      client.write32(n, 0xffff_ffff - n);
      if (n % 7 === 0) server.poll(registers);
    }
    server.poll(registers);
    expect(log).toEqual(Array.from({ length: 5000 }, (_, n) => `w${n}=${0xffff_ffff - n}`));
    expect(server.poll(registers)).toBe(false);
  });

  it('arm() reports a write or read that came meanwhile; the doorbell rings only when asleep', async () => {
    const { server, client, registers, bell } = channel();
    let rings = 0;
    bell.listen(() => rings++);
    client.write32(0, 1);
    expect(server.arm()).toBe(true);
    server.poll(registers);
    expect(server.arm()).toBe(false);
    client.write32(0, 2);
    await expect.poll(() => rings).toBe(1);
    server.disarm();
    client.write32(0, 3);
    expect(server.poll(registers)).toBe(true);
  });

  it('a closed channel reads all ones', () => {
    const { server, client } = channel();
    server.close();
    expect(client.read32(8)).toBe(0xffff_ffff);
    expect(client.closed).toBe(true);
  });

  it('a tail that lies cannot make the device loop', () => {
    const { memory, server, registers, log } = channel();
    memory.u32[16] = 0x8000_0000;
    expect(server.poll(registers)).toBe(true);
    expect(log).toHaveLength(2048);
  });

  it('a read waits for the writes before it (device on another thread)', async () => {
    const shared = new SharedArrayBuffer(MMIO_BYTES);
    const memory = new Memory(shared as unknown as ArrayBuffer);
    const server = new MmioServer(memory, 0);
    const client = new MmioClient(memory, 0, doorbells.open(doorbells.create().name), { lives: () => true });
    void server;
    // A stand-in device: adds up what is written to register 0 and answers every read with the sum.
    const device = new Worker(
      `const { workerData } = require('node:worker_threads');
       const w = new Int32Array(workerData); let head = 0, sum = 0, done = 0;
       for (;;) {
         const asked = Atomics.load(w, 64), tail = Atomics.load(w, 16);
         for (; head !== tail; head++) { const s = 1024 + 2 * (head & 2047); sum += w[s + 1]; if (w[s] === 4) process.exit(0); }
         Atomics.store(w, 32, head);
         if (asked !== done) { done = asked; w[81] = sum; Atomics.store(w, 80, asked); }
       }`,
      { eval: true, workerData: shared },
    );
    const ended = new Promise((resolve) => device.once('exit', resolve));
    let sum = 0;
    for (let n = 1; n <= 20_000; n++) {
      client.write32(0, n);
      sum += n;
      if (n % 100 === 0) expect(client.read32(0)).toBe(sum);
    }
    client.write32(4, 0);
    await ended;
  });
});

describe('Pump', () => {
  it('polls while there is work, then arms and sleeps until it is kicked', async () => {
    let work = 10;
    const calls: string[] = [];
    let asleep = () => {};
    const pump = new Pump(
      {
        poll: () => work > 0 && work-- > 0,
        arm: () => {
          calls.push('arm');
          asleep();
          return work > 0;
        },
        disarm: () => void calls.push('disarm'),
      },
      { spinMs: 0 },
    );
    let sleeps = new Promise<void>((resolve) => (asleep = resolve));
    pump.start();
    await sleeps;
    expect([work, calls]).toEqual([0, ['arm']]);
    sleeps = new Promise<void>((resolve) => (asleep = resolve));
    work = 3;
    pump.kick();
    await sleeps;
    expect([work, calls]).toEqual([0, ['arm', 'disarm', 'arm']]);
    pump.stop();
  });

  it('does not sleep when it was kicked while arm() let interrupts through', async () => {
    let pending = true;
    let polls = 0;
    let rest = () => {};
    const resting = new Promise<void>((resolve) => (rest = resolve));
    const pump: Pump = new Pump(
      {
        poll: () => {
          polls++;
          return false;
        },
        arm: () => {
          if (pending) pump.kick();
          else rest();
          pending = false;
          return false;
        },
        disarm: () => {},
      },
      { spinMs: 0 },
    );
    pump.start();
    await resting;
    expect(polls).toBeGreaterThan(2);
    pump.stop();
  });

  it('runs once when it is stopped and started again in between', async () => {
    let polls = 0;
    const pump = new Pump({ poll: () => polls++ < 0, arm: () => true, disarm: () => {} });
    pump.start();
    for (let n = 0; n < 10; n++) {
      pump.stop();
      pump.start();
    }
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    pump.stop();
    // Two turns of one loop, each of which looks five times at most; eleven loops would make 22 turns.
    expect(polls).toBeLessThanOrEqual(2 * 5);
  });

  it('does not sleep when arm() finds work', async () => {
    let late = true;
    let polls = 0;
    const done = new Promise<void>((resolve) => {
      const pump = new Pump(
        {
          poll: () => {
            polls++;
            return false;
          },
          arm: () => {
            if (!late) {
              pump.stop();
              resolve();
              return false;
            }
            late = false;
            return true;
          },
          disarm: () => {},
        },
        { spinMs: 0 },
      );
      pump.start();
    });
    await done;
    expect(polls).toBeGreaterThanOrEqual(2);
  });
});
