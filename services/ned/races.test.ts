// Tasks that end, or are ended, while something is under way for them.
import { afterEach, expect, it } from 'vitest';
import { mint } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { Factory, Parent } from '../../proto/gen/services.js';
import { FakeLab, type FakeProgram, untilEnded } from './testing/fake_lab.ts';

let lab: FakeLab;
afterEach(() => lab[Symbol.asyncDispose]());

/** Threads and children take their time on a busy machine. */
const eventually = <T>(look: () => T) => expect.poll(look);

it('a task that is killed while it is being started does not run', async () => {
  let make = () => {};
  const ran: string[] = [];
  const server: FakeProgram = async ({ ipc, server: end, signal }) => {
    // Whoever becomes a holder of object 77 waits until it is there.
    const all = new Promise<void>((resolve) => {
      make = resolve;
    });
    const gate = await ipc.serve(end('svr'), (unbound) => unbound.awaitObjects(all));
    gate.setRoot([bind(Factory, { create: () => ({ object: mint(end('svr'), 77) }) })]);
    all.then(() => gate.export([], { id: 77 }));
    await untilEnded(signal);
    return 0;
  };
  const asking: FakeProgram = async ({ ipc, client, record }) => {
    const { object } = await ipc.client(Factory, client('net')).create();
    const parent = ipc.client(Parent, record.parent as never);
    parent
      .startTask({ argv: ['rom/child'], capabilities: [{ name: 'x', client: object ?? null }] })
      .catch(() => {});
    await eventually(() => lab.control.status().then(({ tasks }) => tasks.length)).toBe(3);
    return 0;
  };
  const child: FakeProgram = async ({ signal }) => {
    ran.push('child');
    await untilEnded(signal);
    return 0;
  };
  const script = `local L4 = require("L4") local ld = L4.default_loader
    local net = ld:new_channel()
    ld:start({ caps = { svr = net:svr() } }, "rom/server")
    ld:start({ caps = { net = net } }, "rom/asking"):wait()
    print("asked")`;
  lab = new FakeLab({ 'x.cfg': script }, { server, asking, child }, 'rom/x.cfg');
  await eventually(() => lab.lines('ned')).toContain('asked');
  make();
  const stateOfChild = async () =>
    (await lab.control.status()).tasks.find(({ name }) => name === 'child')?.state;
  await eventually(stateOfChild).toBe('zombie');
  expect(ran).toEqual([]);
});

it('a task that could not be started holds nothing', async () => {
  const gone: string[] = [];
  const server: FakeProgram = async ({ ipc, server: end, signal, record }) => {
    const gate = await ipc.serve(end('svr'));
    const create = (holder: string) => ({
      object: gate.export([], { holder, onGone: () => void gone.push(record.name ?? '') }),
    });
    gate.setRoot([bind(Factory, { create: (_request, { task }) => create(task) })]);
    await untilEnded(signal);
    return 0;
  };
  const script = `local L4 = require("L4") local ld = L4.default_loader
    local good, bad = ld:new_channel(), ld:new_channel()
    ld:start({ caps = { svr = good:svr() } }, "rom/good")
    local server = ld:start({ caps = { svr = bad:svr() } }, "rom/bad")
    local a, b = good:create(0), bad:create(0)
    server:kill()
    print(pcall(ld.start, ld, { caps = { a = a, b = b } }, "rom/client"))
    a, b = nil, nil
    collectgarbage()
    print("done")`;
  lab = new FakeLab({ 'x.cfg': script }, { good: server, bad: server, client: () => 0 }, 'rom/x.cfg');
  await eventually(() => lab.lines('ned')).toContain('done');
  expect(lab.lines('ned').join('\n')).toMatch(/^false\t.*client|^false\t/m);
  await eventually(() => gone).toContain('good');
});
