// Components that come, go, or are told to end while their launch changes.
import { afterEach, describe, expect, it } from 'vitest';
import { type Capability, mint } from '#common/ipc/capability';
import { Lifeline } from '#common/shm/lifeline';
import { randomName } from '#common/shm/run_dir';
import { VERSION } from '#common/version';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Parent } from '../../../proto/gen/services.js';
import { type FakeComponent, FakeExternalLab } from '../testing/fake_components.ts';
import { InstanceStore } from './store.ts';

const eventually = <T>(look: () => T) => expect.poll(look);
const PREAMBLE = 'local L4 = require("L4") local ld = L4.default_loader\n';
const { RESTART } = m.CommandReply.Kind;

let lab: FakeExternalLab | undefined;
afterEach(async () => {
  await lab?.[Symbol.asyncDispose]();
  lab = undefined;
});

function run(script: string): FakeExternalLab {
  lab = new FakeExternalLab({ 'x.cfg': PREAMBLE + script }, 'rom/x.cfg');
  return lab;
}

const stateOf = async (broker: FakeExternalLab, name: string) =>
  (await broker.control.status()).tasks.find((task) => task.name === name)?.state;

async function parentOf(component: FakeComponent) {
  const { parent } = await component.record;
  return (await component.ipc()).client(Parent, parent as Capability);
}

describe('task:kill()', () => {
  it('of a launch that nobody has fetched is its end: nobody becomes it', async () => {
    const broker = run(`
      local t = ld:start({ caps = {} }, "rom/p")
      t:exit_handler(function(code) print("ended with", code) end)
      print(t:kill())`);
    await eventually(() => broker.lines('ned')).toContain('ended with\tnil');
    expect(await stateOf(broker, 'p')).toBe('zombie');
    for (let n = 0; n < 2; n++)
      await expect(broker.component('p').record).rejects.toMatchObject({ code: 'BROKER_KILLED' });
  });

  it('of a component that has gone on from an earlier broker is its end, too', async () => {
    const id = randomName();
    let lifeline: Lifeline | undefined;
    class Resumed extends FakeExternalLab {
      /** Called before ned starts. */
      protected override variables(): [string, string][] {
        lifeline = new Lifeline(this.runDir, id);
        const record = { task: randomName(), name: 'p', launch: 'p', argv: ['rom/p'] };
        new InstanceStore(this.runDir).save({ id, host: 'test', pid: 1 }, record);
        return super.variables();
      }
    }
    lab = new Resumed({ 'x.cfg': `${PREAMBLE} print(ld:start({ caps = {} }, "rom/p"):kill())` }, 'rom/x.cfg');
    await eventually(() => lab?.lines('ned')).toContain('killed');
    lifeline?.close();
    await eventually(() => stateOf(lab as FakeExternalLab, 'p')).toBe('zombie');
    await expect(lab.component('p').record).rejects.toMatchObject({ code: 'BROKER_KILLED' });
  });

  it('of what a task has asked for, before it was fetched: it waits to be asked for again', async () => {
    const broker = run('ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")');
    const parent = await parentOf(broker.component('vswitch'));
    const { task } = await parent.startTask({ argv: ['rom/ixl'] });
    expect(await parent.killTask({ task })).toMatchObject({ state: 'zombie', killed: true });
    const early = broker.component('ixl');
    const again = await parent.startTask({ argv: ['rom/ixl'] });
    expect([again.name, again.task === task]).toEqual(['ixl', false]);
    expect((await early.record).task).toBe(again.task);
  });
});

it('two components that come at once for values: one becomes the task, the other is refused', async () => {
  const broker = run('ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")');
  await eventually(async () => (await broker.control.status()).scriptState).toBe('serving');
  const both = [broker.component('vswitch'), broker.component('vswitch')];
  const results = await Promise.allSettled(both.map(({ record }) => record));
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(results.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'BROKER_VALUES' },
  });
});

it('a component that asks again, as it was never told, gets its own record again', async () => {
  const broker = run('ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")');
  const component = broker.component('vswitch');
  const record = await component.record;
  const { instance } = component;
  const request = { task: 'vswitch', instance, version: VERSION, host: 'test', pid: 1 };
  expect(await component.broker.fetch(request)).toEqual(record);
});

it('a replica whose function failed does not keep the end of the lab waiting', async () => {
  const broker = run(`
    local n = 0
    ld:start({ caps = { a = function() n = n + 1 if n > 1 then error("no more") end return L4.Env.log end } }, "rom/p")`);
  const first = broker.component('p');
  await first.record;
  await expect(broker.component('p').record).rejects.toThrow('no more');
  await first.end(0);
  await broker.control.stopTasks();
});

it('a replica that comes while an ended one is still being told of does not get its name', async () => {
  const broker = run(`
    ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/slow")
    ld:start({ caps = { a = function() return L4.Env.log end } }, "rom/p")`);
  const slow = broker.component('slow');
  // It is told of ends, and does not answer: nothing stands behind its gate yet.
  const gate = await (await slow.ipc()).serve(await slow.server('svr'));
  const nameOf = async (component: FakeComponent) => (await component.record).name;
  const [first, second] = [broker.component('p'), broker.component('p')];
  await Promise.all([first.record, second.record]);
  const early = (await nameOf(first)) === 'p-2' ? first : second;
  await early.end(0);
  await eventually(() => stateOf(broker, 'p-2')).toBe('zombie');
  const names = [await nameOf(broker.component('p'))];
  gate.setRoot([]);
  for (let n = 0; n < 2; n++) names.push(await nameOf(broker.component('p')));
  expect(names.sort()).toEqual(['p-2', 'p-3', 'p-4']);
});

describe('a component that is about to become what a task has asked for', () => {
  const SCRIPT = `
    ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/slow")
    ld:start({ caps = { svr = ld:new_channel():svr() } }, "rom/vswitch")`;

  /** A capability of an object that is there once `make` is called: until then whoever is given it does not start. */
  async function slowObject(broker: FakeExternalLab) {
    const slow = broker.component('slow');
    const end = await slow.server('svr');
    let make = () => {};
    const made = new Promise<void>((resolve) => {
      make = resolve;
    });
    const gate = await (await slow.ipc()).serve(end, (unbound) => unbound.awaitObjects(made));
    gate.setRoot([]);
    void made.then(() => gate.export([], { id: 77 }));
    return { make, client: mint(end, 77) };
  }

  const ask = async (component: FakeComponent, client: Capability) =>
    (await parentOf(component)).startTask({ argv: ['rom/ixl'], capabilities: [{ name: 'x', client }] });

  /** What it is told once it is the task; a refusal, as it took too long, means the same. */
  const orderFor = ({ record, broker, instance }: FakeComponent) =>
    record.then(
      async () => (await broker.command({ instance })).kind,
      () => RESTART,
    );

  it('is told to start anew when that task has ended meanwhile', async () => {
    const broker = run(SCRIPT);
    const { make, client } = await slowObject(broker);
    const vswitch = broker.component('vswitch');
    await ask(vswitch, client);
    const ixl = broker.component('ixl');
    // Answered after the fetch has begun.
    await ixl.broker.health({ task: 'ixl' });
    vswitch.die();
    await eventually(() => stateOf(broker, 'vswitch')).toBe('zombie');
    make();
    expect(await orderFor(ixl)).toBe(RESTART);
    ixl.die();
    const next = broker.component('ixl');
    const again = await ask(broker.component('vswitch'), client);
    expect((await next.record).task).toBe(again.task);
  });

  it('is told to start anew when that task has asked anew meanwhile', async () => {
    const broker = run(SCRIPT);
    const { make, client } = await slowObject(broker);
    const vswitch = broker.component('vswitch');
    const first = await ask(vswitch, client);
    const ixl = broker.component('ixl');
    await ixl.broker.health({ task: 'ixl' });
    vswitch.die();
    const second = await ask(broker.component('vswitch'), client);
    expect([second.name, second.task === first.task]).toEqual(['ixl', false]);
    make();
    expect(await orderFor(ixl)).toBe(RESTART);
    expect((await broker.component('ixl').record).task).toBe(second.task);
  });
});
