import { describe, expect, it } from 'vitest';
import { FakeHost, runScript } from '../testing/fake_host.ts';

/** What JavaScript gets of a Lua value, and what Lua sees of it when it comes back. */
async function roundTrip(lua: string) {
  let seen: unknown;
  const host = new FakeHost({
    create: ([, , args]) => {
      seen = args;
      return [100];
    },
    task_wait: () => [seen as never],
  });
  const { output } = await runScript(lua, host);
  return { seen, output };
}

describe('Marshal', () => {
  it('integers of 64 bits keep all digits', async () => {
    const host = new FakeHost({ task_wait: () => [9_223_372_036_854_775_807n] });
    const { output } = await runScript('print(ld:start({}, "rom/x"):wait() == 0x7fffffffffffffff)', host);
    expect(output).toBe('true\n');
  });

  it('strings keep NULs and bytes that are no UTF-8', async () => {
    const { seen } = await roundTrip('ld:new_channel():create(0, "a\\0b", "\\255x", "ä")');
    expect(seen).toEqual([{ text: 'a\0b' }, { text: Uint8Array.of(255, 0x78) }, { text: 'ä' }]);
  });

  it('undefined becomes nil, arrays and objects tables', async () => {
    const host = new FakeHost({ task_wait: () => [{ list: [1, 'two', 2.5], flag: true, none: undefined }] });
    const source =
      'local t = ld:start({}, "rom/x"):wait() print(t.list[1], t.list[2], t.list[3], #t.list, t.flag, t.none)';
    expect((await runScript(source, host)).output).toBe('1\ttwo\t2.5\t3\ttrue\tnil\n');
  });
});
