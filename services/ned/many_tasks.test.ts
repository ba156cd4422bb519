import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { FakeLab, type FakeTask, untilEnded } from './testing/fake_lab.ts';

let lab: FakeLab;
afterEach(() => lab[Symbol.asyncDispose]());

it('forgets tasks and channels of the past when there are many, but nothing that the script still has', async () => {
  const script = `local L4 = require("L4") local ld = L4.default_loader
    local channel = ld:new_channel()
    kept = {}
    for i = 1, 3 do kept[i] = ld:start({ caps = { c = channel } }, "rom/kept " .. i) end
    for i = 1, 130 do
      local own = ld:new_channel()
      local task = ld:start({ caps = { c = channel, svr = own:svr() } }, "rom/short")
      task:exit_handler(function() end)
      task:wait()
      own, task = nil, nil
      collectgarbage()
    end
    local codes = table.concat({ kept[1]:wait(), kept[2]:wait(), kept[3]:wait() }, " ")
    ld:start({}, "rom/last " .. codes)`;
  let tell: (argv: unknown) => void = () => {};
  const last = new Promise((resolve) => {
    tell = resolve;
  });
  const programs = {
    kept: ({ record }: FakeTask) => Number(record.argv?.[1]),
    short: () => 0,
    last: async ({ record, signal }: FakeTask) => {
      tell(record.argv);
      await untilEnded(signal);
      return 0;
    },
  };
  lab = new FakeLab({ 'x.cfg': script }, programs, 'rom/x.cfg');
  expect(await last).toEqual(['rom/last', '1', '2', '3']);
  const { tasks } = await lab.control.status();
  expect(tasks.map(({ name }) => name).filter((name) => name?.startsWith('kept'))).toHaveLength(3);
  // An object may lie on Lua's stack for a while.
  expect(tasks.length).toBeLessThan(3 + 100 + 1 + 5);
  expect(tasks.at(-1)).toMatchObject({ name: 'last', state: 'running' });
  // Each has left the note that its server has ended. They are looked through whenever there are fifty more.
  expect(readdirSync(join(lab.runDir, 'g')).length).toBeLessThan(50 + 50 + 5);
}, 120_000);
