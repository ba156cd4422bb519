// Scripts that start and stop things for years: the interpreter must not grow by it.
import { expect, it } from 'vitest';
import { FakeHost, runScript } from '../testing/fake_host.ts';

const EACH = 1000;

/** KiB that Lua uses after each of three rounds of a function `round`; its tasks end after each. */
async function sizes(source: string): Promise<number[]> {
  const host = new FakeHost();
  const { engine, error } = await runScript(source, host);
  expect(error).toBeUndefined();
  let told = 0;
  const endTasks = () => {
    const started = host.calls.filter(({ operation }) => operation === 'task_on_exit').slice(told);
    told += started.length;
    for (const { args } of started) host.events.push({ kind: 'exit', task: args[0] });
  };
  const command = (statement: string) => host.events.push({ kind: 'command', id: 1, statement });
  const next = host.call.bind(host);
  const results: number[] = [];
  const steps = [1, 2, 3].flatMap(() => [
    () => command('round()'),
    endTasks,
    () => command('return collectgarbage("count")'),
  ]);
  host.call = (operation, args) => {
    if (operation === 'command_done' && args[1] === 0n && args[2] !== 'nil') results.push(Number(args[2]));
    while (operation === 'next_event' && host.events.length === 0 && steps.length > 0) steps.shift()?.();
    return next(operation, args);
  };
  engine.serve();
  expect(results).toHaveLength(3);
  return results;
}

it.each([
  ['tasks with exit handlers', 'ld:start({}, "rom/x"):exit_handler(function() end)'],
  ['tasks that are waited for', 'local t = ld:start({}, "rom/x") t:exit_handler(function() end) t:wait()'],
  ['channels that are called', 'ld:new_channel():create(0)'],
])('%s leave nothing behind', async (_what, statement) => {
  const [first = 0, , last = 0] = await sizes(`function round() for i = 1, ${EACH} do ${statement} end end`);
  // Less than a word for each.
  expect((last - first) * 1024).toBeLessThan(2 * EACH * 8);
});
