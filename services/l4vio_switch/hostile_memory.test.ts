/** Clients that truncate the files that they share with the switch, or share too much: a loss for them, and for nobody else. */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { ethernet } from '#common/vnet/testing/mock_client';
import { Factory, L4virtio } from '../../proto/gen/services.js';
import { factoryHandlers } from './factory.ts';
import { StatisticsReaders } from './statistics_reader.ts';
import { Switch } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';

let dir: TestRunDir;
let server: TestTask;
let lan: Switch;
let root: Capability;
let lines: string[];
const tasks: TestTask[] = [];

beforeEach(async () => {
  dir = testRunDir();
  server = new TestTask(dir.path, '0');
  const end = createGate();
  const gate = await server.ipc.serve(end);
  const list = listLog();
  lines = list.lines;
  lan = new Switch(server, { ports: 4, queueSize: 256, assignMacs: true, log: list.log });
  gate.setRoot([
    bind(Factory, factoryHandlers(gate, lan, new StatisticsReaders(lan, server.memories), list.log)),
  ]);
  lan.start();
  root = rootCapability(end);
});

afterEach(() => {
  lan.close();
  for (const task of tasks.splice(0)) task.close();
  server.close();
  dir[Symbol.dispose]();
});

async function client(id: string): Promise<{ task: TestTask; port: Capability; net: NetClient }> {
  const task = new TestTask(dir.path, id);
  tasks.push(task);
  const { object } = await task.ipc
    .client(Factory, root)
    .create({ type: 0, arguments: [{ text: 'ds-max=4' }] });
  const port = object as Capability;
  return { task, port, net: await NetClient.open(task, port) };
}

/** The truncated file is touched by the switch with the next frame that is for the client. */
async function floodUntil(from: NetClient, done: () => boolean): Promise<void> {
  const flooded = (): boolean => {
    from.send(ethernet(-1, 1));
    return done();
  };
  await expect.poll(flooded).toBe(true);
}

it('a client that registers more than its share leaves addresses for others', async () => {
  const [bad, one] = [await client('1'), await client('2')];
  const device = bad.task.ipc.client(L4virtio, bad.port);
  await bad.net.driver.close();
  const name = 'b'.repeat(32);
  const size = 2 ** 24;
  writeFileSync(join(dir.path, 'm', name), '');
  truncateSync(join(dir.path, 'm', name), size);
  const register = (base: number, bytes = size) =>
    device.registerDs({ memory: { name, size: bytes, writable: true }, base, offset: 0, size: bytes });
  await expect(register(2 ** 30)).rejects.toThrow('at most 16777216 bytes');
  await register(2 ** 30, size / 2);
  await expect(register(2 ** 31, size / 2 + 4096)).rejects.toThrow('at most 16777216 bytes');
  const late = await client('3');
  await floodUntil(one.net, () => late.net.received.length > 0);
});

describe.runIf(process.arch === 'x64')('a client truncates', () => {
  it('its rings and buffers: its device asks for a reset, all others go on', async () => {
    const [bad, one, two] = [await client('1'), await client('2'), await client('3')];
    const create = vi.spyOn(bad.task.memories, 'create');
    await bad.net.driver.close();
    bad.net = await NetClient.open(bad.task, bad.port);
    const [made] = create.mock.results.map(({ value }) => value);
    truncateSync(join(dir.path, 'm', made.ref.name), 0);
    await floodUntil(one.net, () => bad.net.resets > 0);
    expect(lines.join('\n')).toContain('was truncated');
    const numbered = () => two.net.received.filter(({ length }) => length === 200);
    for (let n = 0; n < 20; n++) one.net.send(ethernet(-1, 1, { seed: n, length: 200 }));
    await expect.poll(numbered).toHaveLength(20);
    expect(numbered()).toEqual(
      Array.from({ length: 20 }, (_, seed) => ethernet(-1, 1, { seed, length: 200 })),
    );
    // With memory that is left alone the port works again.
    await bad.net.driver.close();
    bad.net = await NetClient.open(bad.task, bad.port);
    await floodUntil(one.net, () => bad.net.received.length > 0);
  });

  it('the config page that the switch has made for it', async () => {
    const [bad, one, two] = [await client('1'), await client('2'), await client('3')];
    const { memory } = await bad.task.ipc.client(L4virtio, bad.port).deviceConfig();
    truncateSync(join(dir.path, 'm', memory?.name ?? ''), 0);
    await floodUntil(one.net, () => two.net.received.length > 0 && lines.join('\n').includes('config page'));
    const before = two.net.received.length;
    one.net.send(ethernet(-1, 1, { seed: 77 }));
    await expect.poll(() => two.net.received.slice(before)).toContainEqual(ethernet(-1, 1, { seed: 77 }));
  });
});
