// Scripts that mean harm, or have bad luck: each gets one error with its own line, and ned goes on.
import { describe, expect, it } from 'vitest';
import { FakeHost, failure, runScript } from '../testing/fake_host.ts';

describe('errors', () => {
  it.each([
    ['error(setmetatable({}, { __index = function() error("inner") end }))', /error object is a table value/],
    [
      'error(setmetatable({}, { __tostring = function() error("inner") end }))',
      /error object is a table value/,
    ],
    ['error(setmetatable({}, { __tostring = function() return {} end }))', /error object is a table value/],
    [
      'error({ msg = setmetatable({}, { __tostring = function() error() end }) })',
      /error object is a table value/,
    ],
    ['error(setmetatable({}, { __tostring = function() return "mine" end }))', /^mine$/],
    ['error(setmetatable({}, { __metatable = "no", __tostring = function() return "mine" end }))', /^mine$/],
    ['error(L4.Env.rom)', /^L4::Cap<void>/],
    ['local function f() return 1 + f() end f()', /stack overflow/],
    ['local function f(s) return (s:gsub(".", f)) end f("x")', /C stack overflow|stack overflow/],
    ['local t = setmetatable({}, {}) getmetatable(t).__index = t print(t.x)', /loop|stack overflow/],
    ['load(("("):rep(100000) .. "1")()', /attempt to call a nil value/],
    ['local s = ("x"):rep(1 << 40)', /too large|not enough memory/],
    ['error("\\xff")', /^rom\/test\.cfg:1: \ufffd$/],
  ])('%s is one error', async (source, expected) => {
    const { error, engine, host, output } = await runScript(source);
    expect(error).toMatch(expected);
    expect(output).toMatch(/^lua error: /);
    expect(engine.runStatement('print("still here")')).toBeUndefined();
    expect(host.output).toMatch(/still here\n$/);
  });

  it.each([
    'L4.Loader.new(5)',
    'L4.mangle_class(5)',
    'L4.get_cap_class({})',
    'L4.cast("L4::Factory")',
    'L4.cast("L4::Factory", 1)',
    'L4.__cast(0x4001, "x")',
    'L4.exec({ log = 5 }, "rom/x")',
    'ld:fill_namespace(1, 2)',
    'ld:fill_namespace(L4.Env.rom, 2)',
    'ld:create_namespace({}, 5)',
    'ld:create_namespace({ a = 5 }, L4.Env.user_factory)',
    'ld:create_sched_proxy(5)',
    'ld:create_sched_proxy({ prio_offset = {} })',
    'ld:create_sched_proxy({ fab = {} })',
    'ld:start_backtracer(5)',
    'ld.start()',
    'ld:start({ loader = 5 }, "rom/x", 5)',
    'L4.Loader.new({ log_fab = 5 }):start({}, "rom/x")',
    'L4.Loader.new({ factory = 5 }):new_channel()',
    'L4.Loader.new({ default_caps = 5 }):start({}, "rom/x")',
    'L4.Class.check()',
    'L4.App_env.new(5)',
    'L4.App_env.start()',
    'L4.App_env.log_capability()',
    'local c = L4.Cpu_set:new() c.factory_args()',
    'L4.Cpu_set.add(5, 6)',
    'L4.Env.rom.mode()',
    'L4.Env.rom:mode({})',
    'L4.Env.rom:m(1.5)',
    'L4.Env.rom.query()',
    'L4.Env.mem_alloc.create()',
    'L4.Env.mem_alloc:create(0x4001, {}, 1.5)',
    'L4.server_loop(5)',
    'L4.sleep(0 / 0)',
    'io.open()',
    'io.open("rom/x", {})',
    'io.lines(5)',
    'io.read("x")',
    'io.read(-1)',
    'io.stdin:read({})',
    'io.input({}) io.read()',
    'io.output(5):write("x")',
    'io.write({})',
    'loadfile({})',
    'dofile({})',
    'package.searchpath()',
    'package.searchpath("x", nil)',
    'package.path = 5 require("x")',
    'print(setmetatable({}, { __tostring = function() return 1 end }))',
  ])('%s names the line of the script', async (source) => {
    const { output } = await runScript(source);
    expect(output).not.toMatch(/\[ned\]/);
    for (const line of output.match(/^lua error: .*/gm) ?? []) expect(line).toMatch(/rom\/test\.cfg:1: /);
  });
});

it('our own code does not mind what a script does to its globals', async () => {
  const source = `type, error, pairs, ipairs, next, select, tostring, tonumber = "e1000", 1, 2, 3, 4, 5, 6, 7
    rawget, rawequal, rawlen, getmetatable, setmetatable, xpcall, pcall, load = nil
    string, table, debug, collectgarbage, package = {}, {}, {}, {}, nil
    local net = ld:new_channel()
    local task = ld:start({ log = { "x", "g" }, caps = { net = net, dir = { a = net } } }, "rom/x -v", { A = 1 })
    task:exit_handler(function() end)
    no_function()`;
  const { error, host } = await runScript(source);
  expect(error).toBe("rom/test.cfg:7: attempt to call a nil value (global 'no_function')");
  expect(host.argsOf('start')).toHaveLength(1);
});

it('a table that is inside of itself is no namespace', async () => {
  const source = 'local t = { a = { b = {} } } t.a.b.c = t ld:start({ caps = { t = t } }, "rom/x")';
  const { error, host } = await runScript(source);
  expect(error).toBe('rom/test.cfg:1: Cannot make a namespace of a table that is inside of itself');
  expect(host.argsOf('create').length).toBeLessThan(10);
  // The same table twice is none of its own.
  const twice = 'local t = {} ld:start({ caps = { t = { a = t, b = { c = t } } } }, "rom/x")';
  expect((await runScript(twice)).error).toBeUndefined();
});

it('a server loop that could not begin can be tried again', async () => {
  let tries = 0;
  const serve = () => (tries++ === 0 ? failure('EINVAL', 'Cannot serve that') : [true]);
  const host = new FakeHost({ serve });
  const { error, engine } = await runScript('L4.server_loop(L4.Env.rom)', host);
  expect(error).toMatch(/runtime error Invalid argument \(-22\): Cannot serve that/);
  host.events.push({ kind: 'command', id: 1, statement: 'return 1 + 1' });
  engine.serve();
  expect(host.argsOf('command_done')).toEqual([[1n, 0n, '2']]);
});

it('sleep() takes any number', async () => {
  const { host } = await runScript('L4.sleep(0x7fffffffffffffff) L4.sleep(2147483647) L4.sleep(0.5)');
  expect(host.argsOf('sleep')).toEqual([[2 ** 63 * 1000], [2147483647000], [500]]);
});

it('Cpu_set takes no CPU above 4095', async () => {
  for (const cpus of ['1 << 40', '"0-4096"', '{ 5000 }', '-1']) {
    expect((await runScript(`L4.Cpu_set:new(${cpus})`)).error, cpus).toMatch(/Invalid CPU range/);
  }
});

it('a script may begin with a byte order mark, as may what it loads', async () => {
  const host = new FakeHost();
  host.files.set('rom/lib.lua', '\ufeff#!/bin/lua\nreturn 7');
  const { engine } = await runScript('', host);
  expect(
    engine.runFile('rom/bom.cfg', Buffer.from('\ufeffprint(dofile("rom/lib.lua"))'), []),
  ).toBeUndefined();
  expect(host.output).toBe('7\n');
});

it('what is no UTF-8 is refused where text is needed', async () => {
  for (const call of ['"rom/x \\xff"', '"rom/x", { A = "\\xff" }', '"rom/x", { ["\\xff"] = 1 }']) {
    expect((await runScript(`ld:start({}, ${call})`)).error, call).toMatch(/^rom\/test\.cfg:1: .*UTF-8/);
  }
  for (const name of ['"\\xff"', '""']) {
    const { error } = await runScript(`ld:start({ caps = { [${name}] = L4.Env.rom } }, "rom/x")`);
    expect(error, name).toMatch(/^rom\/test\.cfg:1: Cannot name a capability/);
  }
});
