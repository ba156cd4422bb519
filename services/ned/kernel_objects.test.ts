import { afterEach, expect, it } from 'vitest';
import { FakeLab } from './testing/fake_lab.ts';

let lab: FakeLab;
afterEach(() => lab[Symbol.asyncDispose]());

it('L4.Env.factory makes channels, and factories like itself', async () => {
  const script = `local L4 = require("L4") local ld = L4.default_loader
    local sub = L4.Env.factory:create(L4.Proto.Factory, 20000)
    local again = L4.Loader.new({ mem = L4.Env.mem_alloc, factory = sub:create(L4.Proto.Factory):m("rs") })
    local channel = again:new_channel()
    again:start({ caps = { svr = channel:svr(), f = sub } }, "rom/server"):wait()
    print(pcall(sub.create, sub, L4.Proto.Vm))
    print("done")`;
  const names: string[] = [];
  const server = ({ record }: { record: { capabilities?: { name?: string | null }[] | null } }) => {
    names.push(...(record.capabilities ?? []).map(({ name }) => name ?? ''));
    return 0;
  };
  lab = new FakeLab({ 'x.cfg': script }, { server }, '--wait-and-exit', 'rom/x.cfg');
  expect(await lab.status).toBe(0);
  const lines = lab.lines('ned').join('\n');
  expect(lines).toMatch(
    /^false\t.*x\.cfg:6: runtime error No such device \(-19\): Cannot create a kernel object/m,
  );
  expect(lines).toMatch(/^done$/m);
  expect(names).toEqual(['f', 'rom', 'svr']);
});
