import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DROP_REASONS } from '#common/capture/drop_reasons';
import { RING, ringBytes } from '#common/capture/ring';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { type Bell, Doorbells } from '#common/shm/doorbell';
import { Lifeline } from '#common/shm/lifeline';
import { randomName } from '#common/shm/run_dir';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { ethernet } from '#common/vnet/testing/mock_client';
import { l4lab as m } from '../../proto/gen/messages.js';
import { Captures } from './capture.ts';
import { type CaptureEnv, openCapture } from './capture_service.ts';
import { findPort } from './control_port_names.ts';
import { PortList } from './port_list.ts';
import { listLog, MockSwitch } from './testing/mock_switch.ts';

let dir: TestRunDir;
let env: CaptureEnv;
let doorbells: Doorbells;
let captures: Captures;
let ports: PortList;

beforeEach(() => {
  dir = testRunDir();
  const arena = new Arena(2 ** 30);
  doorbells = new Doorbells(dir.path);
  env = { arena, memories: new SharedMemories(dir.path, arena), doorbells, runDir: dir.path };
  captures = new Captures(arena, new MockSwitch().forwarder);
  ports = new PortList({ maxPorts: 4, assignMacs: true, log: listLog().log });
  ports.create({ name: 'one', dsMax: 2, monitor: false });
  ports.create({ name: '', dsMax: 2, monitor: false });
});
afterEach(() => {
  doorbells.close();
  dir[Symbol.dispose]();
});

function left(): string[] {
  return ['b', 'm'].flatMap((part) => readdirSync(join(dir.path, part)));
}

/** A reader's half of the request. */
function reader(): { request: Partial<m.ICaptureRequest>; lifeline: Lifeline } {
  const life = randomName();
  const lifeline = new Lifeline(dir.path, life);
  return { request: { lifeline: life, doorbell: doorbells.create().name }, lifeline };
}

const open = (request: Partial<m.ICaptureRequest>) =>
  openCapture(
    env,
    captures,
    ports,
    m.CaptureRequest.decode(m.CaptureRequest.encode({ ports: ['one'], ...request }).finish()),
  );

describe('openCapture()', () => {
  it('frees everything when the reader is gone, and leaves no name meanwhile but the ring and the FIFO', async () => {
    const { request, lifeline } = reader();
    const { names, ring } = open({ ...request, ports: ['one', '[0]', '1', 'one'] });
    expect(names).toEqual(['one', '[0]']);
    expect(left().sort()).toEqual([ring?.name, request.lifeline].sort());
    expect(captures.size).toBe(1);
    lifeline.close();
    await expect.poll(() => [captures.size, left()]).toEqual([0, []]);
  });

  it('rings once for the frames of a turn, however often the reader says that it sleeps', async () => {
    const lab = new MockSwitch();
    captures = new Captures(env.arena, lab.forwarder);
    let rings = 0;
    const bell = {
      ring: () => {
        rings += 1;
      },
      close: () => {},
    } as unknown as Bell;
    const { memories } = env;
    let at = 0;
    const create = (size: number) => {
      const made = memories.create(size);
      at = made.offset;
      return made;
    };
    env = { ...env, doorbells: { open: () => bell }, memories: { create } };
    const { request, lifeline } = reader();
    open(request);
    const client = lab.add();
    lab.add();
    for (let n = 0; n < 100; n++) {
      Atomics.store(env.arena.u32, (at + RING.ASLEEP) >>> 2, 1);
      client.send(ethernet(1, 0));
      lab.run(client);
    }
    expect(env.arena.u32[(at + RING.HEAD) >>> 2]).toBeGreaterThan(6000);
    expect(rings).toBe(0);
    await new Promise((resolve) => setImmediate(resolve));
    expect(rings).toBe(1);
    lifeline.close();
    await expect.poll(() => captures.size).toBe(0);
  });

  it('notices a reader that died before it was served', () => {
    const { request, lifeline } = reader();
    lifeline.close();
    expect(() => open(request)).toThrow('Cannot capture as the reader is not there');
    expect([captures.size, left()]).toEqual([0, []]);
  });

  it.each([
    ['no port', { ports: [] }, 'Cannot capture as no port is named'],
    ['ports without end', { ports: Array<string>(100_000).fill('0') }, 'at most 4097 ports can be named'],
    ['a port whose name has no end', { ports: ['x'.repeat(1e6)] }, `Cannot find port '${'x'.repeat(64)}' as`],
    [
      'a port that is not there',
      { ports: ['one', 'x'] },
      "as the switch has no such port: it has 'one' (0), '[0]' (1)",
    ],
    ['too short a cut', { snapLength: 13 }, 'at least 14 bytes of a frame must be kept: current value is 13'],
    ['a doorbell that is a path', { doorbell: '../../run.json' }, 'its name must be 32 hex digits'],
    ['a lifeline that is a path', { lifeline: '../t/x' }, 'Cannot capture as the reader is not there'],
  ])('refuses %s', (_name, wrong, message) => {
    const { request, lifeline } = reader();
    expect(() => open({ ...request, ...wrong })).toThrow(message);
    expect([captures.size, readdirSync(join(dir.path, 'm'))]).toEqual([0, []]);
    lifeline.close();
  });

  it('takes 32 readers and no more', async () => {
    // One ring for all: so many are more than some machines have in /dev/shm.
    const ring = env.memories.create(ringBytes(1, 8 * 2 ** 20));
    const shared = { ...ring, close: () => {} };
    env = { ...env, memories: { create: () => shared } };
    const readers = Array.from({ length: 33 }, reader);
    for (const { request } of readers.slice(0, 32)) open(request);
    expect(() => open(readers[32]?.request ?? {})).toThrow('32 captures are under way: end one of them');
    for (const { lifeline } of readers) lifeline.close();
    await expect.poll(() => captures.size).toBe(0);
    ring.close();
    expect(DROP_REASONS).toBeLessThan(255);
  });
});

describe('findPort()', () => {
  it('prefers a name to a number, and refuses a name that two ports have', () => {
    ports.create({ name: '0', dsMax: 2, monitor: false });
    ports.create({ name: 'one', dsMax: 2, monitor: false });
    expect([findPort(ports, '0').number, findPort(ports, '1').number]).toEqual([2, 1]);
    expect(() => findPort(ports, 'one')).toThrow('2 ports have that name: give a number instead: 0, 3');
  });

  it('names some ports when it has found none', () => {
    const many = new PortList({ maxPorts: 100, assignMacs: true, log: listLog().log });
    for (let n = 0; n < 40; n++) many.create({ name: '', dsMax: 2, monitor: false });
    expect(() => findPort(many, 'x')).toThrow(/it has '\[0\]' \(0\), .*'\[31\]' \(31\), and 8 more$/);
  });
});
