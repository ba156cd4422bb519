import { describe, expect, it } from 'vitest';
import { FakeHost, failure, runScript } from '../testing/fake_host.ts';

/** What a script prints. */
async function output(source: string, host?: FakeHost): Promise<string> {
  const result = await runScript(source, host);
  expect(result.error).toBeUndefined();
  return result.output;
}

describe('capability', () => {
  it('is a userdata that is valid', async () => {
    expect(await output('print(type(L4.Env.rom), L4.Env.rom:is_valid())')).toBe('userdata\ttrue\n');
  });

  it.each([
    ['"r"', '4'],
    ['"w"', '5'],
    ['"rw"', '5'],
    ['"RWS"', '7'],
    ['"rwsd"', '15'],
    ['"xyz"', '4'],
    ['"nc"', '4'],
    ['""', '4'],
    ['L4.Rights.rws', '7'],
    ['8', '12'],
    ['0xff', '15'],
  ])('mode(%s) gives a reference with rights %s', async (rights, mode) => {
    expect(await output(`local c = ld:new_channel() print(c:m(${rights}):mode(), c:mode())`)).toBe(
      `${mode}\t4\n`,
    );
  });

  it('mode(), m() and rights() are one; the same rights give the same reference', async () => {
    const source = `local c = L4.Env.rom
      print(c:m("r"):mode(), c:mode("r"):rights(), c:rights("r"):m(), rawequal(c:m("rws"), c), c:m("r") == c:m("r"))`;
    expect(await output(source)).toBe('4\t4\t4\ttrue\ttrue\n');
  });

  it('tostring() shows type, rights and flags', async () => {
    const source = 'print(L4.Env.factory) print(ld:new_channel():svr()) print(ld:new_channel():m("n"))';
    expect(await output(source)).toBe(
      'L4::Cap<L4::Factory>[2000] r=7 f=0\nL4::Cap<void>[64000] r=f f=e\nL4::Cap<void>[65000] r=4 f=1\n',
    );
  });

  it('is released when the last reference has been collected', async () => {
    const host = new FakeHost();
    const { engine } = await runScript('local a = ld:new_channel(); b = a:m("rws"); a = nil', host);
    expect(host.argsOf('release')).toEqual([]);
    engine.runStatement('b = nil collectgarbage()');
    expect(host.argsOf('release')).toEqual([[100n]]);
  });

  it('objects that only a finished script held are released when it ends', async () => {
    const { host } = await runScript('local c = ld:new_channel():create(0)');
    expect(host.argsOf('release').flat().sort()).toEqual([100n, 101n]);
  });

  it('asks the object only once what it implements', async () => {
    const host = new FakeHost();
    await output('local c = ld:new_channel() c:create(0) c:create(1) c:m("rw"):create(2)', host);
    expect(host.argsOf('interfaces')).toEqual([[100n, 'c', 'rom/test.cfg:1']]);
  });

  it('has no method that its object does not implement', async () => {
    const host = new FakeHost();
    host.services = () => [['l4lab.Icu']];
    const { error } = await runScript('local c = ld:new_channel() c:create(0)', host);
    expect(error).toBe("rom/test.cfg:1: attempt to call a nil value (method 'create')");
    expect(host.output).toContain('hint: the object is no factory');
  });

  it('call of a method fails with place and reason when the server has died', async () => {
    const host = new FakeHost({
      interfaces: () => failure('EIPC_NOT_EXISTENT', "task 'io' ended with status 1"),
    });
    const { error } = await runScript('local bus = ld:new_channel()\nbus:create(0)', host);
    expect(error).toBe(
      `rom/test.cfg:2: Cannot call 'create' on capability "bus" as task 'io' ended with status 1`,
    );
  });
});

describe('create()', () => {
  const created = async (args: string) => {
    const host = new FakeHost();
    await output(`local c = ld:new_channel() c:create(${args})`, host);
    const [, type, list] = host.argsOf('create')[1] ?? [];
    return [type, list];
  };

  it('sends numbers and strings that look like numbers as numbers', async () => {
    expect(await created('0, 1, "2", "0x10", " 7 ", 2.0, -1, 1 << 62')).toEqual([
      0n,
      [1n, 2n, 16n, 7n, 2n, -1n, 4611686018427387904n].map((number) => ({ number })),
    ]);
  });

  it('sends other strings as text, nil as nil, anything else as nothing', async () => {
    const [type, list] = await created('5, "ds-max=4", nil, true, {}');
    expect([type, list]).toEqual([5n, [{ text: 'ds-max=4' }, { null: true }, {}, {}]]);
  });

  it('refuses a type that is no integer, and fractions', async () => {
    expect((await runScript('ld:new_channel():create("x")')).error).toMatch(
      /^rom\/test.cfg:1: bad argument #1 to 'create'/,
    );
    expect((await runScript('ld:new_channel():create(0, 1.5)')).error).toContain('no integer representation');
  });

  it('raises a table with msg and code', async () => {
    const host = new FakeHost({
      create: ([handle]) =>
        handle === 2n ? [100] : failure('ENOMEM', 'Cannot create port as all 256 are in use.'),
    });
    const source = `local c = ld:new_channel()
      local ok, err = pcall(function()
        c:create(0)
      end)
      print(ok, type(err), err.code)
      print(err.msg)
      print(tostring(err) == err.msg)`;
    expect(await output(source, host)).toBe(
      'false\ttable\t-12\nrom/test.cfg:3: runtime error Insufficient memory (-12): Cannot create port as all 256 are in use\ntrue\n',
    );
  });

  it('raises the same from pcall(), a metamethod and string.gsub()', async () => {
    const host = new FakeHost({ create: ([handle]) => (handle === 2n ? [100] : failure('EINVAL', 'no')) });
    const source = `local c = ld:new_channel()
      print(select(2, pcall(c.create, c, 0)).code)
      local t = setmetatable({}, { __index = function() return c:create(0) end })
      print(select(2, pcall(function() return t.x end)).code)
      print(select(2, pcall(string.gsub, "a", "a", function() c:create(0) end)).code)`;
    expect(await output(source, host)).toBe('-22\n-22\n-22\n');
  });

  it('prints the message of an error that nobody caught', async () => {
    const host = new FakeHost({
      create: ([handle]) => (handle === 2n ? [100] : failure('EINVAL', 'reason')),
    });
    const { error } = await runScript('local c = ld:new_channel()\nc:create(0)', host);
    expect(error).toBe('rom/test.cfg:2: runtime error Invalid argument (-22): reason');
    expect(host.output).toBe('lua error: rom/test.cfg:2: runtime error Invalid argument (-22): reason.\n');
  });
});

describe('cast()', () => {
  it('takes numbers and class names, and gives nil for unknown ones', async () => {
    const source = `print(L4.cast(L4.Proto.Factory, L4.Env.sigma0), L4.cast("L4Re::Namespace", L4.Env.rom))
      print(L4.cast("L4::Nothing", L4.Env.rom), L4.cast(4711, L4.Env.rom))
      print(L4.cast("L4::Factory", function() return L4.Env.icu end))`;
    expect(await output(source)).toBe(
      'L4::Cap<L4::Factory>[5000] r=7 f=0\tL4::Cap<L4Re::Namespace>[1000] r=7 f=0\nnil\tnil\nL4::Cap<L4::Factory>[6000] r=7 f=0\n',
    );
  });

  it('refuses more than two arguments', async () => {
    const { error } = await runScript('L4.cast(1, 2, 3)');
    expect(error).toBe('rom/test.cfg:1: too many arguments to L4.cast (expected 2: type and cap)');
  });

  it('makes a typed reference that needs no question', async () => {
    const host = new FakeHost();
    await output('L4.cast(L4.Proto.Factory, L4.Env.sigma0):create(L4.Proto.Sigma0)', host);
    expect(host.argsOf('interfaces')).toEqual([]);
  });
});

describe('namespaces', () => {
  const host = () => {
    const fake = new FakeHost();
    fake.services = () => [['l4lab.Namespace']];
    return fake;
  };

  it('query() gives a function that asks when it is called', async () => {
    const fake = host();
    expect(await output('local q = L4.Env.rom:q("a/b", "rw") print(type(q)) print(q():mode())', fake)).toBe(
      'function\n5\n',
    );
    expect(fake.argsOf('query')).toEqual([[1n, 'a/b']]);
  });

  it('query() gives nil for what is not there', async () => {
    const fake = new FakeHost({ query: () => failure('ENOENT', 'no') });
    fake.services = () => [['l4lab.Namespace']];
    expect(await output('print(L4.Env.rom:query("x")())', fake)).toBe('nil\n');
  });

  it('create_namespace() registers capabilities, paths, functions and tables', async () => {
    const fake = host();
    await output(
      'ld:create_namespace { a = L4.Env.icu, b = "rom/x", c = function() return L4.Env.log end, d = { e = L4.Env.rm } }',
      fake,
    );
    const registered = fake.argsOf('register').map(([, name, handle, rights]) => [name, handle, rights]);
    expect(registered).toHaveLength(5);
    expect(registered).toContainEqual(['a', 6n, 7n]);
    expect(registered).toContainEqual(['c', 4n, 7n]);
    expect(registered).toContainEqual(['e', 8n, 7n]);
    expect(fake.argsOf('query')).toEqual([[1n, 'x']]);
  });

  it('create_namespace() returns what is no table as it is', async () => {
    expect(
      await output('print(ld:create_namespace(L4.Env.icu) == L4.Env.icu, ld:create_namespace(nil))'),
    ).toBe('true\tnil\n');
  });

  it.each([
    ['"nowhere/x"', "rom/test.cfg:1: Could not resolve: 'nowhere/x'"],
    ['5', 'rom/test.cfg:1: unexpected value to register in namespace (number)'],
    ['{}', 'rom/test.cfg:1: unexpected value to register in namespace (table)'],
  ])('register(%s) fails', async (value, message) => {
    const { error } = await runScript(
      `local n = L4.cast("L4Re::Namespace", L4.Env.rm) n:register("x", ${value})`,
      host(),
    );
    expect(error).toBe(message);
  });

  it('register(nil) does nothing, __register(nil) removes', async () => {
    const fake = host();
    await output(
      'local n = L4.cast("L4Re::Namespace", L4.Env.rm) n:r("x", nil) n:__register("y", nil)',
      fake,
    );
    expect(fake.argsOf('register')).toEqual([[8n, 'y', undefined, undefined]]);
  });
});
