import { afterEach, describe, expect, it, vi } from 'vitest';
import { E1000, HOST_BRIDGE } from '../testing/fake_machine.ts';
import { type Scenario, scenario } from '../testing/scenario.ts';

let open: Scenario[] = [];
async function start(options: Parameters<typeof scenario>[1] = {}): Promise<Scenario> {
  const made = await scenario([HOST_BRIDGE, E1000], options);
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open) made.close();
  open = [];
});

describe('ConfigEngine.run()', () => {
  it('runs files in one Lua state', async () => {
    const lab = await start();
    expect(lab.run('x = 5', 'rom/a.vbus').kind).toBe('ok');
    expect(lab.run('print(x + 1, "a")', 'rom/b.vbus').kind).toBe('ok');
    expect(lab.printed).toEqual(['6\ta']);
  });

  it('tells a syntax error with file and line', async () => {
    const lab = await start();
    const { kind, message } = lab.run('local x = 1\nx = = 2\n', 'rom/bad.vbus');
    expect(kind).toBe('syntax');
    expect(message).toMatch(/^rom\/bad\.vbus:2: unexpected symbol near '='/);
  });

  it('tells a run-time error with the line of the script that caused it', async () => {
    const lab = await start();
    const outcome = lab.run('local function f()\n  wrap(3)\nend\nf()\n', 'rom/bad.vbus');
    expect(outcome.kind).toBe('error');
    expect(outcome.message).toBe('rom/bad.vbus:2: expected device, got: 3');
    expect(outcome.trace).toContain('rom/bad.vbus:4: in main chunk');
  });

  it('tells an error value that is no string', async () => {
    const lab = await start();
    expect(lab.run('error({})').message).toMatch(/^table: /);
  });

  it('stops an endless loop with file and line, even inside pcall', async () => {
    const lab = await start({ timeLimitMs: 30 });
    const { kind, message } = lab.run(
      'while true do\n pcall(function() while true do end end)\nend',
      'rom/loop.vbus',
    );
    expect(kind).toBe('error');
    expect(message).toMatch(
      /^rom\/loop\.vbus:\d: the script does not come to an end: stopped after 0\.03 s$/,
    );
    expect(lab.run('print("alive")').kind).toBe('ok');
  });

  it('stops an endless loop that would have no hook', async () => {
    const lab = await start({ timeLimitMs: 30 });
    const { kind, message } = lab.run('debug.sethook() while true do end', 'rom/loop.vbus');
    expect([kind, message]).toEqual([
      'error',
      "rom/loop.vbus:1: 'sethook' is not available here: it is what limits the time of a script",
    ]);
  });

  it('stops nothing that takes its time because the clock of the day steps', async () => {
    let now = Date.now();
    // Each look is a minute later.
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => (now += 60_000));
    try {
      const lab = await start();
      expect(lab.run('for i = 1, 1000000 do end')).toMatchObject({ kind: 'ok', message: '' });
    } finally {
      clock.mockRestore();
    }
  });

  it('reports "memory" when a script wants all of it', async () => {
    const lab = await start({ timeLimitMs: 60_000 });
    const { kind } = lab.run('local t = {} while true do t[#t + 1] = string.rep("x", 2^24) .. #t end');
    expect(kind).toBe('memory');
  });

  it('refuses a file that is not text', async () => {
    const lab = await start();
    expect(lab.run('\x1bLua\0', 'rom/luac.out')).toMatchObject({
      kind: 'syntax',
      message: 'rom/luac.out:1: the file is not text',
    });
  });

  it('has the libraries of Io and no others', async () => {
    const lab = await start();
    lab.run(
      'print(io, os, math, coroutine, utf8) print(type(string), type(table), type(debug), type(package), type(require))',
    );
    expect(lab.printed).toEqual(['nil\tnil\tnil\tnil\tnil', 'table\ttable\ttable\ttable\tfunction']);
  });
});
