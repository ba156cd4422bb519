import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { FakeHost, runScript } from '../testing/fake_host.ts';

async function output(source: string, host = new FakeHost()): Promise<string> {
  const result = await runScript(source, host);
  expect(result.error).toBeUndefined();
  return result.output;
}

describe('Lua environment', () => {
  it('has the libraries of ned and no others', async () => {
    const source = `for _, n in ipairs { "package", "table", "io", "string", "debug", "math", "os", "coroutine", "utf8" } do
      io.write(n, "=", type(_G[n]), " ") end`;
    expect(await output(source)).toBe(
      'package=table table=table io=table string=table debug=table math=nil os=nil coroutine=nil utf8=nil ',
    );
    expect((await runScript('require("math")')).error).toContain("module 'math' not found");
  });

  it('L4 is no global', async () => {
    expect(await output('print(_G.L4, _G.ned, _G.host, require("L4") == L4)')).toBe('nil\tnil\tnil\ttrue\n');
  });

  it('keeps 64-bit integers', async () => {
    expect(await output('print(1 << 62, 0x7fffffffffffffff + 1, 7 // 2)')).toBe(
      '4611686018427387904\t-9223372036854775808\t3\n',
    );
  });

  it('reads files through the named capabilities only', async () => {
    const host = new FakeHost();
    host.files
      .set('rom/a.txt', 'one\ntwo\n')
      .set('rom/lib.lua', 'return { x = ... }')
      .set('rom/f.lua', 'return 7');
    const source = `package.path = "rom/?.lua"
      local f = io.open("rom/a.txt") print(io.type(f), f:read("l"), f:read("a")) f:close()
      for line in io.lines("rom/a.txt") do io.write("<", line, ">") end
      print(require("lib").x, dofile("rom/f.lua"), loadfile("rom/f.lua")())
      print(io.open("/etc/passwd")) print(io.open("rom/a.txt", "w")) print(pcall(io.popen, "ls"))`;
    expect(await output(source, host)).toBe(
      "file\tone\ttwo\n\n<one><two>lib\t7\t7\nnil\t/etc/passwd: no such file\t2\nnil\trom/a.txt: files are read-only here\t13\nfalse\trom/test.cfg:5: 'popen' not supported\n",
    );
  });

  it('writes bytes as they are', async () => {
    expect(await output('io.write("a\\0\\255", 5, "\\n") io.stdout:write("x"):write("y")')).toBe(
      'a\0\xff5\nxy',
    );
  });
});

describe('L4 module', () => {
  it('has the constants', async () => {
    const source = `print(L4.Proto.Dataspace, L4.Proto.Factory, L4.Proto.Iommu, L4.Proto.Ipc_gate, L4.Rights.rws, L4.Dbg.All,
      L4.Mem_alloc_flags.Super_pages, L4.Ldr_flags.pinned_segs, L4.Info.arch(), L4.Info.mword_bits(), L4.Info.Kip.str())`;
    expect(await output(source)).toBe('16384\t-15\t-22\t0\t7\t4294967295\t4\t4\tamd64\t64\tkip\n');
  });

  it('Env: user_factory is mem_alloc, what may be absent is nil without a word', async () => {
    expect(
      await output(
        'print(L4.Env.user_factory == L4.Env.mem_alloc, L4.Env.iommu, L4.Env.jdb, L4.Env.rom:mode())',
      ),
    ).toBe('true\tnil\tnil\t7\n');
  });

  it('sleep() says so and blocks; without a number it does nothing', async () => {
    const host = new FakeHost();
    expect(await output('L4.sleep(2) L4.msleep(30) L4.sleep() L4.sleep("x")', host)).toBe(
      'Ned: Sleeping 2s\nNed: Sleeping 30ms\n',
    );
    expect(host.argsOf('sleep')).toEqual([[2000], [30]]);
  });

  it('mangle_class() and get_cap_class()', async () => {
    expect(
      await output(
        'print(L4.mangle_class("L4Re::Namespace"), type(L4.get_cap_class("L4::Factory").create), L4.get_cap_class(99))',
      ),
    ).toBe('N4L4Re9NamespaceE\tfunction\tnil\n');
  });
});

describe('Cpu_set', () => {
  it.each([
    ['L4.Cpu_set:new()', '{ all }'],
    ['L4.Cpu_set:new({})', '{}'],
    ['L4.Cpu_set:new(3)', '{3}'],
    ['L4.Cpu_set:new("0-2")', '{0, 1, 2}'],
    ['L4.Cpu_set:new({ 5, "1-2" })', '{1, 2, 5}'],
    ['L4.Cpu_set:new(1):add("3-4")', '{1, 3, 4}'],
    ['L4.Cpu_set:new(1) | L4.Cpu_set:new(2)', '{1, 2}'],
    ['L4.Cpu_set:new("0-3") & L4.Cpu_set:new("2-5")', '{2, 3}'],
    ['L4.Cpu_set:new() & L4.Cpu_set:new(2)', '{2}'],
    ['L4.Cpu_set:new() | L4.Cpu_set:new(2)', '{ all }'],
  ])('%s is %s', async (source, text) => {
    expect(await output(`print(${source})`)).toBe(`${text}\n`);
  });

  it('factory_args() gives mask words, none for all', async () => {
    expect(
      await output(
        'print(L4.Cpu_set:new({ 0, 65 }):factory_args()) print(select("#", L4.Cpu_set:new():factory_args()))',
      ),
    ).toBe('1\t2\n0\n');
  });

  it.each([
    ['"3-1"', 'Invalid CPU range "3-1"'],
    ['"x"', 'Invalid CPU range "x"'],
    ['true', 'Invalid argument type: boolean'],
  ])('new(%s) fails', async (x, message) => {
    expect((await runScript(`L4.Cpu_set:new(${x})`)).error).toBe(`rom/test.cfg:1: ${message}`);
  });
});

describe('tasks', () => {
  const ended = (code: number | undefined) => ({ task_on_exit: () => [true, code], task_wait: () => [code] });

  it('exit_handler() runs at once for a task that has ended, and only once', async () => {
    const host = new FakeHost(ended(3));
    expect(
      await output(
        'local t = ld:start({}, "rom/x") print(t:exit_handler(function(c) print("code", c) end))',
        host,
      ),
    ).toBe('code\t3\nfalse\n');
    const { error } = await runScript(
      'local t = ld:start({}, "rom/x") t:exit_handler(print) t:exit_handler(print)',
      new FakeHost(ended(1)),
    );
    expect(error).toContain('exit_handler callback already registered');
  });

  it('exit_handler() waits for the server loop; its errors are printed', async () => {
    const host = new FakeHost();
    const { engine } = await runScript(
      't = ld:start({}, "rom/x") print(t:exit_handler(function(c) print(c) error("oops") end))',
      host,
    );
    host.events.push(
      { kind: 'exit', task: 'task-101', code: undefined },
      { kind: 'exit', task: 'task-101', code: 1 },
    );
    engine.serve();
    expect(host.output).toBe('true\nnil\nlua error: rom/test.cfg:1: oops.\n');
  });

  it('wait() runs the handler of the awaited task', async () => {
    const host = new FakeHost({ task_wait: () => [7], task_on_exit: () => [false] });
    expect(
      await output(
        'local t = ld:start({}, "rom/x") t:exit_handler(function(c) print("h", c) end) print(t:wait())',
        host,
      ),
    ).toBe('h\t7\n7\n');
  });

  it('task objects can be compared', async () => {
    expect(
      await output(
        'local a, b = ld:start({}, "rom/x"), ld:start({}, "rom/y") print(a == a, a == b, a < b, a <= a, type(a))',
      ),
    ).toBe('true\tfalse\ttrue\ttrue\tuserdata\n');
  });
});

describe('script errors', () => {
  it.each([
    ['L4 = nil local x = undefined_name.y', "global 'undefined_name'", undefined],
    ['math.sin(1)', "attempt to index a nil value (global 'math')", "ned has no library 'math'"],
    ['L4.Env.jdb:svr()', "field 'jdb'", 'ned was not given such a capability'],
    ['ld:start{ caps = { a = 1 b = 2 } }', "'}' expected near 'b'", 'a comma or semicolon may be missing'],
    ['require("nolib")', "module 'nolib' not found", 'package.path = "rom/?.lua"'],
    ['error({ code = 5 })', 'rom/test.cfg:1: (error object is a table value)', 'with a field msg'],
    ['error()', 'rom/test.cfg:1: (error object is a nil value)', undefined],
    ['dofile("a.lua")', 'rom/test.cfg:1: cannot open a.lua: ', "'rom/a.lua'"],
    ['dofile("rom/a.lua")', 'rom/test.cfg:1: cannot open rom/a.lua: ', undefined],
    ['require("my_lib")', "module 'my_lib' not found", 'package.path = "rom/?.lua"'],
  ])('%s is reported with line and hint', async (source, message, hint) => {
    const { error, output: printed } = await runScript(source);
    expect(error).toContain(message);
    expect(printed).toMatch(/^lua error: .*\.$/ms);
    if (hint) expect(printed).toContain(hint);
  });

  it('names the callers when the error is deeper', async () => {
    const { output: printed } = await runScript('local function f()\nlocal x = nil + 1\nend\nf()');
    expect(printed).toContain('lua error: rom/test.cfg:2: attempt to perform arithmetic on a nil value');
    expect(printed).toContain('  called at rom/test.cfg:4\n');
  });

  it('a failing statement of -e is reported and leaves the rest alone', async () => {
    const host = new FakeHost();
    const engine = await Engine.create(host);
    engine.runStatement('x = 5 error("bad")');
    expect(host.output).toBe(
      'lua error: [string "x = 5 error("bad")"]:1: bad.\nError executing cmdline statement\n',
    );
    expect(engine.runFile('rom/t.cfg', Buffer.from('print(x, arg[0], arg[1], ...)'), ['a'])).toBeUndefined();
    expect(host.output).toMatch(/5\trom\/t.cfg\ta\ta\n$/);
  });

  it('ignores a first line with #', async () => {
    const engine = await Engine.create(new FakeHost());
    expect(engine.runFile('rom/t.cfg', Buffer.from('#!/usr/bin/ned\nlocal x = 1'), [])).toBeUndefined();
  });
});

describe('server_loop()', () => {
  const run = async (statement: string) => {
    const host = new FakeHost();
    host.events.push({ kind: 'command', id: 1, statement });
    await runScript('counter = 5; L4.server_loop(ld:new_channel()) L4.server_loop()', host);
    return host.argsOf('command_done')[0]?.slice(1);
  };

  it.each([
    ['return counter + 1', [0n, '6']],
    ['counter = 1', [0n, 'nil']],
    ['counter', [0n, '5']],
    ['return nil, 2', [0n, 'nil']],
  ])('execute(%s)', async (statement, result) => {
    expect(await run(statement)).toEqual(result);
  });

  it('answers EINVAL for what does not parse and EIO for what fails', async () => {
    expect((await run('('))?.[0]).toBe(22n);
    expect(await run('error("x", 0)')).toEqual([5n, 'x']);
  });

  it.each(['=', '@x'])(
    'shows the text of the statement "%s", which Lua would take for the name of a file',
    async (text) => {
      expect((await run(text))?.[1]).toMatch(`[string " ${text}"]:1: unexpected symbol`);
    },
  );
});

it('the seed script starts io, l4vio_switch and curl', async () => {
  const host = new FakeHost();
  const engine = await Engine.create(host);
  const seed = readFileSync(new URL('../../../deploy/labs/curl/curl.cfg', import.meta.url));
  expect(engine.runFile('rom/curl.cfg', seed, [])).toBeUndefined();
  const started = host.argsOf('start').map(([request]) => (request as { argv: string[] }).argv.join(' '));
  expect(started).toEqual([
    'rom/io rom/ixl.vbus',
    'rom/l4vio_switch',
    'rom/curl -s http://ftp.de.debian.org/debian/',
  ]);
  // The port lives in curl's caps alone: nothing of it is left when the script has ended.
  expect(host.argsOf('release').flat()).toContain(107n);
});
