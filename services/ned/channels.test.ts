import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGate, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { gatePath } from '#common/ipc/ipc';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { Channels } from './channels.ts';

let dir: TestRunDir;
let channels: Channels;
let end: ServerEnd;
beforeEach(() => {
  dir = testRunDir();
  channels = new Channels(dir.path);
  end = createGate();
  channels.add(end, 'x.cfg:3').name = 'bus';
});
afterEach(() => dir[Symbol.dispose]());

const task = (name: string, running = true) => ({
  name,
  running,
  epitaph: `task '${name}' ended with status 1`,
});
const epitaph = () => `${gatePath(dir.path, end.gate)}.dead`;

describe('buryOrphans()', () => {
  it('reports a channel without server once, and its callers get an error', () => {
    channels.addClient(end.gate, task('curl'), 'net');
    expect(channels.buryOrphans()).toEqual([
      "channel 'bus' (created at x.cfg:3) has no server: task 'curl' calls it as 'net', but its server end was given to no task; start its server with bus:svr() in its caps",
    ]);
    expect(readFileSync(epitaph(), 'utf8')).toContain("the server end of channel 'bus' (created at x.cfg:3)");
    expect(channels.buryOrphans()).toEqual([]);
  });

  it('a server that starts after all takes the channel back to life', () => {
    channels.addClient(end.gate, task('curl'), 'net');
    channels.buryOrphans();
    channels.addServer(end.gate, task('io'));
    expect(existsSync(epitaph())).toBe(false);
  });

  it('leaves alone what has a server, is served by ned, is called by nobody, or is of no concern', () => {
    expect(channels.buryOrphans()).toEqual([]);
    const [curl, other] = [task('curl'), task('other')];
    channels.addClient(end.gate, curl, 'net');
    expect(channels.buryOrphans([other])).toEqual([]);
    channels.addServer(end.gate, task('io'));
    expect(channels.buryOrphans()).toEqual([]);
    expect(existsSync(epitaph())).toBe(false);
  });
});

it('lossesOf() names running tasks with objects of a server that is gone', () => {
  const io = { ...task('io'), running: true };
  channels.addServer(end.gate, io);
  const capabilities = [{ name: 'net', client: rootCapability(end) }, { name: 'rom' }];
  const tasks = [
    { name: 'curl', running: true, capabilities },
    { name: 'old', running: false, capabilities },
  ];
  expect(channels.lossesOf(io, tasks)).toEqual([]);
  io.running = false;
  expect(channels.lossesOf(io, tasks)).toEqual(["task 'curl' (net)"]);
});

it('serverEnded() leaves the epitaph for who waits', () => {
  const io = { ...task('io'), running: true };
  channels.addServer(end.gate, io);
  io.running = false;
  channels.serverEnded(io);
  expect(readFileSync(epitaph(), 'utf8')).toBe("task 'io' ended with status 1\n");
});

describe('forgetOldest()', () => {
  it('forgets nothing before there are fifty channels, then the oldest that nobody uses', () => {
    expect(channels.forgetOldest(() => new Set())).toEqual([]);
    const others = Array.from({ length: 100 }, (_, n) => channels.add(createGate(), `x.cfg:${n}`).end.gate);
    channels.addClient(end.gate, task('curl'), 'net');
    channels.buryOrphans();
    const [used, own] = [others[0] as string, channels.get(others[1] as string)];
    if (own) own.own = true;
    expect(channels.forgetOldest(() => new Set([used]))).toEqual([end.gate, ...others.slice(2, 50)]);
    expect([channels.get(end.gate), existsSync(epitaph())]).toEqual([undefined, false]);
    expect([...channels].map((channel) => channel.end.gate)).toEqual([
      ...others.slice(0, 2),
      ...others.slice(50),
    ]);
    // Looked through again when there are fifty more.
    expect(channels.forgetOldest(() => new Set())).toEqual([]);
  });
});

describe('serverPaused()', () => {
  it('takes the socket away that a killed server has left, and is no epitaph', () => {
    const io = task('io');
    channels.addServer(end.gate, io);
    writeFileSync(gatePath(dir.path, end.gate), '');
    channels.serverPaused(io);
    expect([channels.isServed(end.gate), channels.isBound(end.gate), existsSync(epitaph())]).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('leaves a gate alone that another running task may serve', () => {
    const [io, other] = [task('io'), task('other')];
    channels.addServer(end.gate, io);
    channels.addServer(end.gate, other);
    writeFileSync(gatePath(dir.path, end.gate), '');
    channels.serverPaused(io);
    expect(channels.isBound(end.gate)).toBe(true);
  });
});
