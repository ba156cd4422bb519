import { afterEach, describe, expect, it } from 'vitest';
import { LabSecret } from '#common/broker/secret';
import { type Capability, rootCapability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { bind } from '#common/ipc/service';
import { randomName } from '#common/shm/run_dir';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Broker, Factory, Meta, Parent } from '../../../proto/gen/services.js';
import { type FakeComponent, FakeExternalLab, SECRET } from '../testing/fake_components.ts';

const eventually = <T>(look: () => T) => expect.poll(look);
const PREAMBLE = 'local L4 = require("L4") local ld = L4.default_loader\n';
const { END, KILL, RESTART } = m.CommandReply.Kind;

const SCALING = `
  local net = ld:new_channel()
  ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")
  ld:start({ caps = { port = function() return net:create(0) end } }, "rom/client -a", { X = 1 })
`;

let lab: FakeExternalLab | undefined;
afterEach(async () => {
  await lab?.[Symbol.asyncDispose]();
  lab = undefined;
});

function run(script: string): FakeExternalLab {
  lab = new FakeExternalLab({ 'x.cfg': PREAMBLE + script }, 'rom/x.cfg');
  return lab;
}

/** Serves ports and counts the ones that are there. */
async function serve(component: FakeComponent): Promise<{ ports: number; made: number }> {
  const count = { ports: 0, made: 0 };
  const gate = await (await component.ipc()).serve(await component.server('svr'));
  const create = (holder: string) => {
    count.ports += 1;
    count.made += 1;
    return gate.export([bind(Factory, { create: () => ({}) })], {
      holder,
      onGone: () => {
        count.ports -= 1;
      },
    });
  };
  gate.setRoot([bind(Factory, { create: (_request, { task }) => ({ object: create(task) }) })]);
  return count;
}

async function states(broker: FakeExternalLab): Promise<Record<string, string>> {
  const { tasks } = await broker.control.status();
  return Object.fromEntries(tasks.map(({ name, state }) => [name ?? '', state ?? '']));
}

it("ned's own gate takes the end of tasks: no task's end waits for it", async () => {
  const { ipc } = run('');
  const ned = rootCapability(new LabSecret(SECRET).gate('ned'));
  await ipc.client(Meta, ned).taskGone({ task: randomName() }, { deadlineMs: 2 ** 31 - 1 });
});

describe('launches', () => {
  it('the machine is one, with its command line and its gates', async () => {
    const record = await run('').component('machine').record;
    expect(record).toMatchObject({
      name: 'machine',
      program: 'machine',
      argv: ['machine', '--nic', 'none'],
      parentPid: 0,
    });
    expect(record.capabilities.map(({ name }) => name)).toEqual(['control', 'icu', 'iommu', 'sigma0']);
  });

  it('functions are evaluated for each start; a start waits for the server; ports are given back', async () => {
    const broker = run(SCALING);
    const early = broker.component('client');
    await eventually(async () => (await broker.control.status()).scriptState).toBe('serving');
    const vswitch = broker.component('vswitch');
    const count = await serve(vswitch);
    expect(await early.record).toMatchObject({
      name: 'client',
      argv: ['rom/client', '-a'],
      environment: { X: '1' },
      launch: 'client',
    });
    const second = broker.component('client');
    expect((await second.record).name).toBe('client-2');
    expect((await early.client('port')).object).not.toBe((await second.client('port')).object);
    expect(count.ports).toBe(2);
    await early.end(0);
    await eventually(() => count.ports).toBe(1);
    second.die();
    await eventually(() => count.ports).toBe(0);
    await eventually(() => states(broker)).toMatchObject({ client: 'zombie', 'client-2': 'zombie' });
    // Names are used again.
    expect((await broker.component('client').record).name).toBe('client');
    expect(count.ports).toBe(1);
  });

  it('what a function has created goes again as long as another one waits for its server', async () => {
    const broker = run(`
      local net, other = ld:new_channel(), ld:new_channel()
      ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")
      ld:start({ caps = { svr = other:svr() } }, "rom/other")
      ld:start({ caps = {
        a = function() return net:create(0) end,
        b = function() return other:create(0) end
      } }, "rom/client")`);
    const client = broker.component('client');
    const count = await serve(broker.component('vswitch'));
    // It has been tried a few times.
    await eventually(() => count.made).toBeGreaterThan(3);
    await serve(broker.component('other'));
    await client.record;
    await eventually(() => count.ports).toBe(1);
  });

  it('a server that has died is waited for; one that is started again serves the same gate', async () => {
    const broker = run(SCALING);
    const first = broker.component('vswitch');
    await serve(first);
    first.die();
    await eventually(() => states(broker)).toMatchObject({ vswitch: 'zombie' });
    const client = broker.component('client');
    const again = broker.component('vswitch');
    expect((await again.server('svr')).gate).toBe((await first.server('svr')).gate);
    const count = await serve(again);
    expect((await client.record).name).toBe('client');
    expect(count.ports).toBe(1);
  });

  it('a function that fails is an error of that start, with its line', async () => {
    const broker = run('ld:start({ caps = { a = function() error("no luck") end } }, "rom/client")');
    await expect(broker.component('client').record).rejects.toThrow(
      /Cannot start 'client' as a function among its capabilities failed: .*x\.cfg:2: no luck/,
    );
    expect(await states(broker)).toMatchObject({ client: 'initializing' });
  });

  it('values: a second start is refused with the hint, a start after the end is the same task', async () => {
    const broker = run('ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")');
    const first = broker.component('vswitch');
    const { task } = await first.record;
    await expect(broker.component('vswitch').record).rejects.toMatchObject({
      code: 'BROKER_VALUES',
      message: expect.stringMatching(
        /is running \(process 1 on test\) and its capabilities \(svr\) are values/,
      ),
    });
    first.die();
    expect((await broker.component('vswitch').record).task).toBe(task);
  });

  it('without the secret there is nothing to get', async () => {
    const broker = run('');
    const { ipc } = broker;
    const wrong = ipc.client(Broker, new LabSecret('some other secret').brokerCapability);
    await expect(wrong.health({ task: 'ned' })).rejects.toMatchObject({ code: 'IPC_BAD_PROOF' });
    await expect(wrong.fetch({ task: 'machine' })).rejects.toBeInstanceOf(L4Error);
  });
});

describe('what a task asks for', () => {
  const SCRIPT = 'ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")';

  async function ask(component: FakeComponent, logTag = 'ixl'): Promise<string> {
    const parent = (await component.record).parent as Capability;
    const ipc = await component.ipc();
    return (await ipc.client(Parent, parent).startTask({ argv: ['rom/ixl'], logTag })).task;
  }

  it('is fetched once for each time; asked for anew, what runs is told to start again', async () => {
    const broker = run(SCRIPT);
    const early = broker.component('ixl');
    const vswitch = broker.component('vswitch');
    const first = await ask(vswitch);
    expect((await early.record).task).toBe(first);
    vswitch.die();
    // Of no use without the one that has asked for it.
    expect(await early.broker.command({ instance: early.instance })).toEqual({ kind: RESTART });
    await early.end(0);
    const next = broker.component('ixl');
    const again = broker.component('vswitch');
    const second = await ask(again);
    expect([(await next.record).task, second === first]).toEqual([second, false]);
    expect(Object.keys(await states(broker)).filter((name) => name.startsWith('ixl'))).toEqual(['ixl']);
  });

  it('twice in one life of the asker is two', async () => {
    const broker = run(SCRIPT);
    const vswitch = broker.component('vswitch');
    await ask(vswitch);
    await broker.component('ixl').record;
    await ask(vswitch);
    expect((await broker.component('ixl-2').record).name).toBe('ixl-2');
  });

  it('can have a number: a component of that name waits until it is asked for', async () => {
    const broker = run(SCRIPT);
    const vswitch = broker.component('vswitch');
    await vswitch.record;
    await eventually(async () => (await broker.control.status()).scriptState).toBe('serving');
    const early = broker.component('ixl1');
    await expect(broker.component('nosuch1').record).rejects.toThrow(
      'the script starts no task of that name',
    );
    const task = await ask(vswitch, 'ixl1');
    expect((await early.record).task).toBe(task);
  });
});

describe('orders and output', () => {
  it('output comes to the log with the tag; the end of the lab is an order', async () => {
    const broker = run('ld:start({ log = { "tag", "red" }, caps = {} }, "rom/p")');
    const component = broker.component('tag');
    await component.record;
    const data = Buffer.from('hello\nworld\n');
    await component.broker.log({ instance: component.instance, chunks: [{ data }] });
    await eventually(() => broker.lines('tag')).toEqual(['hello', 'world']);
    const order = component.broker.command({ instance: component.instance });
    const stopped = broker.control.stopTasks();
    expect((await order).kind).toBe(END);
    // One that does not listen gets the harder order.
    expect((await component.broker.command({ instance: component.instance })).kind).toBe(KILL);
    component.die();
    await stopped;
  });
});
