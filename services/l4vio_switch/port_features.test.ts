/** What ports have beyond the original, through `create(0, ...)` and real clients in shared memory. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { ethernet } from '#common/vnet/testing/mock_client';
import { Factory } from '../../proto/gen/services.js';
import { factoryHandlers } from './factory.ts';
import type { StormLimit } from './limits.ts';
import { StatisticsReaders } from './statistics_reader.ts';
import { Switch } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';

let dir: TestRunDir;
let server: TestTask;
let lan: Switch;
let root: Capability;
let lines: string[];
const clients: TestTask[] = [];

beforeEach(() => {
  dir = testRunDir();
  server = new TestTask(dir.path, 's');
});
afterEach(() => {
  lan.close();
  for (const task of clients.splice(0)) task.close();
  server.close();
  dir[Symbol.dispose]();
});

async function serve(storm?: StormLimit): Promise<void> {
  const list = listLog();
  lines = list.lines;
  const end = createGate();
  const gate = await server.ipc.serve(end);
  lan = new Switch(server, { ports: 8, queueSize: 256, assignMacs: true, log: list.log, storm });
  gate.setRoot([
    bind(Factory, factoryHandlers(gate, lan, new StatisticsReaders(lan, server.memories), list.log)),
  ]);
  lan.start();
  root = rootCapability(end);
}

/** A client at a new port with these arguments. */
async function client(id: string, ...texts: string[]): Promise<NetClient> {
  const task = new TestTask(dir.path, id);
  clients.push(task);
  const { object } = await task.ipc
    .client(Factory, root)
    .create({ type: 0, arguments: texts.map((text) => ({ text })) });
  return NetClient.open(task, object as Capability);
}

it('a mirror knows ports by name, those that come later as well, and says whom it misses', async () => {
  await serve();
  const mirror = await client('m', 'type=mirror', 'mirror=web,late', 'name=eye');
  expect(lines).toEqual([
    expect.stringMatching(/Mirror 'eye' sees nothing of port 'web' until there is one .*: there are none/),
    expect.stringMatching(/'late'/),
  ]);
  const web = await client('w', 'name=web');
  const other = await client('o', 'name=other');
  const frame = ethernet(-1, 0);
  web.send(frame);
  await expect.poll(() => mirror.received).toEqual([frame]);
  await expect.poll(() => other.received).toEqual([frame]);
  const late = await client('l', 'name=late');
  other.send(ethernet(-1, 2));
  await expect.poll(() => late.received.length).toBe(1);
  // Once out to web, once out to late.
  await expect.poll(() => mirror.received.length).toBe(3);
});

it('setLink() stops a port and lets it go on', async () => {
  await serve();
  const [a, b] = [await client('a'), await client('b')];
  lan.setLink(1, false);
  a.send(ethernet(-1, 0));
  await expect.poll(() => lan.forwarder.counters.droppedFor(1, DROP.LINK_DOWN)).toBe(1);
  lan.setLink(1, true);
  a.send(ethernet(-1, 0, { seed: 1 }));
  await expect.poll(() => b.received).toEqual([ethernet(-1, 0, { seed: 1 })]);
  expect(() => lan.setLink(5, false)).toThrow(expect.objectContaining({ errno: 2 }));
});

it('the option --storm is for ports without storm=, not for those that only look', async () => {
  await serve({ broadcast: 1 });
  const strict = await client('a');
  const free = await client('b', 'storm=broadcast=1000');
  const monitor = await client('m', 'type=monitor');
  for (const sender of [strict, free]) for (let n = 0; n < 5; n++) sender.send(ethernet(-1, 0, { seed: n }));
  await expect.poll(() => strict.received.length).toBe(5);
  await expect.poll(() => monitor.received.length).toBe(6);
  await expect.poll(() => free.received.length).toBe(1);
  expect(lan.forwarder.counters.droppedFor(0, DROP.STORM)).toBe(4);
});

it('a NIC port has the name, VLAN and limits that it was given, whatever its driver says', async () => {
  await serve();
  const port = lan.createNicPort({ name: 'wan', trunk: [1, 2] });
  const identified = lan.identifyNic(port, 'ixl-e1000', Uint8Array.of(2, 0, 0, 0, 0, 9));
  expect([identified.name, identified.kind, identified.spec.trunk]).toEqual(['wan', 'nic', [1, 2]]);
  expect(() => lan.createNicPort({ access: 1, trunk: [2] })).toThrow('access and trunk simultaneously');
  const plain = lan.identifyNic(lan.createNicPort(), 'ixl-e1000', Uint8Array.of(2, 0, 0, 0, 0, 8));
  expect([plain.name, plain.number]).toEqual(['ixl-e1000', 1]);
});
