import { describe, expect, it } from 'vitest';
import type { LuaValue } from '../engine/marshal.ts';
import { FakeHost, failure, runScript } from '../testing/fake_host.ts';

interface Launch {
  argv: string[];
  environment: Record<string, string>;
  capabilities: { name: string; id: bigint; rights: bigint; server: boolean }[];
  log: bigint;
  default_tag: boolean;
  restart?: string;
  functions: string[];
  debug: bigint;
  where: string;
}

/** Runs a script without errors; its launch requests, in order. */
async function launches(source: string, host = new FakeHost()): Promise<Launch[]> {
  const { error } = await runScript(source, host);
  expect(error).toBeUndefined();
  return host.argsOf('start').map(([request]) => request as unknown as Launch);
}

async function errorOf(source: string): Promise<string | undefined> {
  return (await runScript(source)).error;
}

const names = (launch: Launch | undefined) => launch?.capabilities.map(({ name }) => name);

describe('Loader:start()', () => {
  it('splits the command at blanks only, any number of them', async () => {
    const [launch] = await launches(`ld:start({}, "  rom/io  -vvvv\\t'a b'   rom/ixl.vbus ")`);
    expect(launch?.argv).toEqual(['rom/io', '-vvvv', "'a", "b'", 'rom/ixl.vbus']);
  });

  it('passes capabilities with their rights, and server ends as such', async () => {
    const [launch] = await launches(
      'local c = ld:new_channel() ld:start({ caps = { a = c, b = c:svr(), d = c:m("rws") } }, "rom/x")',
    );
    expect(launch?.capabilities.map(({ name, id, rights, server }) => [name, id, rights, server])).toEqual([
      ['a', 100n, 4n, false],
      ['b', 100n, 0xefn, true],
      ['d', 100n, 7n, false],
      ['rom', 1n, 4n, false],
    ]);
  });

  it('merges the default capabilities, of which the own ones win', async () => {
    expect(names((await launches('ld:start({ caps = { rom = L4.Env.icu } }, "rom/x")'))[0])).toEqual(['rom']);
    const source =
      'ld.default_caps = { icu = L4.Env.icu, x = L4.Env.rm } ld:start({ caps = { x = L4.Env.log } }, "rom/x")';
    const [launch] = await launches(source);
    expect(launch?.capabilities.map(({ name, id }) => [name, id])).toEqual([
      ['icu', 6n],
      ['x', 4n],
    ]);
  });

  it('leaves nil capabilities out', async () => {
    expect(names((await launches('ld:start({ caps = { iommu = L4.Env.iommu } }, "rom/x")'))[0])).toEqual([
      'rom',
    ]);
  });

  it('evaluates functions at each start, again and again, with the caps table', async () => {
    const source = `local n = 0
      local caps = { port = function(caps) n = n + 1; return function() return caps.icu end end, icu = L4.Env.icu }
      ld:start({ caps = caps }, "rom/x") ld:start({ caps = caps }, "rom/x") print(n)`;
    const host = new FakeHost();
    const found = await launches(source, host);
    expect(found.map((launch) => launch.capabilities.find(({ name }) => name === 'port')?.id)).toEqual([
      6n,
      6n,
    ]);
    expect(host.output).toBe('2\n');
  });

  it('passes the restart policy and the names of functions', async () => {
    const source = `ld:start({ restart = "always", caps = { b = function() return L4.Env.icu end, a = L4.Env.icu } }, "rom/x")
      ld:start({}, "rom/x")`;
    const found = await launches(source);
    expect(found.map(({ restart, functions }) => [restart, Object.values(functions)])).toEqual([
      ['always', ['b']],
      [undefined, []],
    ]);
  });

  it('makes namespaces of plain tables', async () => {
    const host = new FakeHost();
    const [launch] = await launches('ld:start({ caps = { fs = { a = L4.Env.rom } } }, "rom/x")', host);
    expect(host.argsOf('create')[0]?.[1]).toBe(0x4001n);
    expect(names(launch)).toEqual(['fs', 'rom']);
  });

  it('takes environment variables from the last table only, and numbers as strings', async () => {
    const source =
      'ld:start({}, "rom/x a", { IFCONFIG_IP4_vn0 = "dhcp", N = 5 }) ld:start({}, "rom/x") ld:startv({}, "rom/x", "a", { A = "" })';
    expect((await launches(source)).map(({ environment }) => environment)).toEqual([
      { IFCONFIG_IP4_vn0: 'dhcp', N: '5' },
      {},
      { A: '' },
    ]);
  });

  it('startv() keeps blanks, drops nil and converts numbers', async () => {
    const [launch] = await launches('ld:startv({}, "rom/x", "a b", nil, 5, 1.5, "", { A = "1" })');
    expect(launch?.argv).toEqual(['rom/x', 'a b', '5', '1.5', '']);
    expect(launch?.environment).toEqual({ A: '1' });
  });

  it('gives the base name as tag and white as colour when no log is named', async () => {
    const host = new FakeHost();
    const [launch] = await launches('ld:start({}, "rom/sub/curl -s")', host);
    expect(launch?.default_tag).toBe(true);
    expect(host.argsOf('create')[0]?.slice(0, 3)).toEqual([3n, -13n, [{ text: 'curl' }, { text: 'white' }]]);
  });

  it.each([
    ['{ "io", "r" }', [{ text: 'io' }, { text: 'r' }], false],
    ['{ tag = "io", color = "G" }', [{ text: 'io' }, { text: 'G' }], false],
    ['{ "net" }', [{ text: 'net' }, { text: 'white' }], false],
    ['{ nil, "b" }', [{ text: 'x' }, { text: 'b' }], true],
    ['{ "net", 3 }', [{ text: 'net' }, { number: 3n }], false],
  ])('log = %s creates that log', async (log, args, defaultTag) => {
    const host = new FakeHost();
    const [launch] = await launches(`ld:start({ log = ${log} }, "rom/x")`, host);
    expect(host.argsOf('create')[0]?.[2]).toEqual(args);
    expect(launch?.default_tag).toBe(defaultTag);
  });

  it('takes a capability or a function as log', async () => {
    const source =
      'ld:start({ log = L4.Env.log }, "rom/x") ld:start({ log = function() return L4.Env.log end }, "rom/x")';
    expect((await launches(source)).map(({ log }) => log)).toEqual([4n, 4n]);
  });

  it('names the line of the script', async () => {
    expect((await launches('\n\nld:start({}, "rom/x")'))[0]?.where).toBe('rom/test.cfg:3');
  });

  it('the caps table may be used again, the environment table may not', async () => {
    await launches(
      'local caps = { icu = L4.Env.icu } ld:start({ caps = caps }, "rom/x") ld:start({ caps = caps }, "rom/x")',
    );
    const error = await errorOf('local env = {} ld:start(env, "rom/x")\nld:start(env, "rom/x")');
    expect(error).toMatch(
      /^rom\/test.cfg:2: method called with incompatible object: this environment table was already used/,
    );
  });

  it.each([
    [
      'ld:start({ caps = { ["123456789012345678"] = L4.Env.icu } }, "rom/x")',
      "Capability name '123456789012345678' too long",
    ],
    [
      'ld:start({ restart = "sometimes" }, "rom/x")',
      'Cannot start rom/x as restart must be "no", "on-failure" or "always": current value is "sometimes"',
    ],
    ['ld:start({ restart = true }, "rom/x")', 'current value is true'],
    ['ld:start({ mem = 5 }, "rom/x")', "error: capability expected 'mem'"],
    ['ld:start({ log = 5 }, "rom/x")', "error: capability expected 'log'"],
    ['ld:start(nil, "rom/x")', "bad argument #1 to 'start'"],
    ['ld:start({})', "bad argument #2 to 'start'"],
    ['ld:start({}, "")', 'Cannot start a program as its name is missing'],
    ['ld:startv({}, "rom/x", true)', "bad argument #3 to 'start' (string expected, got boolean)"],
    ['ld:startv({}, "rom/x", {}, "a")', "bad argument #3 to 'start' (string expected, got table"],
    ['ld:start({}, "rom/x", { A = {} })', 'Cannot set environment variable A'],
    ['ld.start({}, "rom/x")', 'method called with incompatible object'],
    ['L4.Class.check({}, L4.Loader)', 'method called with incompatible object'],
    ['L4.Loader.new({}):start({}, "rom/x")', 'Starting an application without valid log factory'],
  ])('%s fails', async (source, message) => {
    const error = await errorOf(source);
    expect(error).toContain(message);
    expect(error).toMatch(/^rom\/test.cfg:1: /);
  });

  it('warns of values that the original skips silently', async () => {
    const host = new FakeHost();
    await launches(
      'ld:start({ caps = { a = 5, ["12345678901234567"] = L4.Env.icu, b = L4.Env.nosuch } }, "rom/x")',
      host,
    );
    expect(host.output).toContain(
      "Warning: rom/test.cfg:1: entry 'a' of caps is skipped as a capability is expected: it is a number",
    );
    expect(host.output).toContain("capability name '12345678901234567' is cut to its first 16 characters");
    expect(host.output).toContain("L4.Env has no capability 'nosuch'");
  });

  it('raises an error table when the task cannot be started', async () => {
    const host = new FakeHost({ start: () => failure('ENOMEM', 'no room') });
    const { error } = await runScript('ld:start({}, "rom/x")', host);
    expect(error).toBe('rom/test.cfg:1: runtime error Insufficient memory (-12): no room');
  });
});

describe('Loader', () => {
  it('new() fills in the factories', async () => {
    const { output } = await runScript(`local l = L4.Loader.new { mem = L4.Env.mem_alloc }
      print(l.log_fab == l.mem, l.ns_fab == l.mem, l.rm_fab == l.mem, l.sched_fab == l.mem, l.factory == L4.Env.factory)`);
    expect(output).toBe('true\ttrue\ttrue\ttrue\ttrue\n');
  });

  it('create_sched_proxy() passes limit, offset and CPU mask', async () => {
    const host = new FakeHost();
    await runScript(
      'ld:create_sched_proxy { cpus = { 0, "64-65" }, prio_offset = 5 } ld:create_sched_proxy {}',
      host,
    );
    const args = host
      .argsOf('create')
      .map(([, , list]) => (list as { number: bigint }[]).map(({ number }) => number));
    expect(args).toEqual([
      [15n, 5n, 1n, 3n],
      [10n, 0n],
    ] as unknown as LuaValue[]);
  });

  it('exec() starts without the defaults of start()', async () => {
    const [launch] = await launches('L4.exec({ caps = { icu = L4.Env.icu } }, "rom/x", "a", { B = "c" })');
    expect(names(launch)).toEqual(['icu']);
    expect(launch?.argv).toEqual(['rom/x', 'a']);
    expect(launch?.environment).toEqual({ B: 'c' });
  });

  it('split_args() gives the words and the table', async () => {
    const { output } = await runScript(
      'local a, b, c = L4.Loader.split_args(" x  y ", { A = 1 }) print(a, b, c.A)',
    );
    expect(output).toBe('x\ty\t1\n');
  });
});
