// Parent.CheckHolders: what a server that was away may believe of the holders in its journal.
import { afterEach, expect, it } from 'vitest';
import { bind } from '#common/ipc/service';
import { randomName } from '#common/shm/run_dir';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Factory, Parent } from '../../proto/gen/services.js';
import { FakeLab, type FakeProgram, untilEnded } from './testing/fake_lab.ts';

let lab: FakeLab;
afterEach(() => lab[Symbol.asyncDispose]());

it('CheckHolders tells running tasks and ned itself, by its references, from those that hold nothing', async () => {
  const made: { object: number; creator: string }[] = [];
  const tasks: Record<string, string> = {};
  let ask: (objects: m.IHeldObject[]) => Promise<m.IHeldObject[]> = () => Promise.reject();
  const server: FakeProgram = async ({ ipc, record, server: end, signal }) => {
    const gate = await ipc.serve(end('svr'));
    const create = (holder: string) => {
      const cap = gate.export([bind(Factory, { create: () => ({}) })], { holder });
      made.push({ object: cap.object, creator: holder });
      return { object: cap };
    };
    gate.setRoot([bind(Factory, { create: (_request, { task }) => create(task) })]);
    const parent = ipc.client(Parent, record.parent as never);
    ask = async (objects) => (await parent.checkHolders({ gate: end('svr').gate, objects })).objects;
    await untilEnded(signal);
    return 0;
  };
  const client =
    (status?: number): FakeProgram =>
    async ({ record, signal }) => {
      tasks[record.name ?? ''] = record.task;
      if (status === undefined) await untilEnded(signal);
      return status ?? 0;
    };
  const script = `local L4 = require("L4") local ld = L4.default_loader
    local channel = ld:new_channel()
    ld:start({ caps = { svr = channel:svr() } }, "rom/server")
    kept = channel:create(0)
    ld:start({ caps = { port = channel:create(0) } }, "rom/stays")
    ld:start({ caps = { port = channel:create(0) } }, "rom/ends"):wait()
    ld:start({ restart = "always", caps = { x = function() return L4.Env.log end } }, "rom/pauses")
    collectgarbage()
    print("done")
    -- Functions are evaluated in the server loop: it pauses as long as the script does not come to that.
    L4.sleep(100000)`;
  const programs = { server, stays: client(), ends: client(0), pauses: client(1) };
  lab = new FakeLab({ 'x.cfg': script }, programs, 'rom/x.cfg');
  // In any order: the task may end while the script goes on.
  for (const line of [/^done$/m, /'pauses' .*started again/])
    await expect.poll(() => lab.lines('ned').join('\n')).toMatch(line);
  const [kept, given] = made as [(typeof made)[0], (typeof made)[0]];
  const { stays, ends, pauses } = tasks as { stays: string; ends: string; pauses: string };
  const ned = kept.creator;
  const all = [ned, stays, ends, pauses, randomName(), 'x'];
  expect(
    await ask([
      { object: kept.object, tasks: all },
      { object: given.object, tasks: all },
      { object: 0xffff, tasks: [] },
    ]),
  ).toMatchObject([
    { object: kept.object, tasks: [ned, stays] },
    { object: given.object, tasks: [stays] },
    { object: 0xffff, tasks: [] },
  ]);
});
