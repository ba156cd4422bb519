import { afterEach, describe, expect, it } from 'vitest';
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { bind } from '#common/ipc/service';
import { Command, Dataspace, Factory, Namespace, Parent } from '../../proto/gen/services.js';
import { FakeLab, type FakeProgram, type FakeTask, untilEnded } from './testing/fake_lab.ts';

/** Threads and children take their time on a busy machine. */
const eventually = <T>(look: () => T) => expect.poll(look);

const PREAMBLE = 'local L4 = require("L4") local ld = L4.default_loader\n';

/** A switch: ports through a factory; prints when one is gone. */
const vswitch: FakeProgram = async (task) => {
  const gate = await task.ipc.serve(task.server('svr'));
  gate.setRoot([
    bind(Factory, {
      create: ({ arguments: [first] }, { task: holder }) => {
        if (first?.text) throw new L4Error('EINVAL', `Cannot create port as '${first.text}' is no option`);
        return {
          object: gate.export([bind(Factory, { create: () => ({}) })], {
            holder,
            onGone: () => task.print('port gone\n'),
          }),
        };
      },
    }),
  ]);
  await untilEnded(task.signal);
  return 0;
};

/** Lives until it is told to end. */
const idle: FakeProgram = async ({ signal }) => {
  await untilEnded(signal);
  return 0;
};

describe('Ned', () => {
  let lab: FakeLab | undefined;

  function run(script: string, programs: Record<string, FakeProgram> = {}, ...words: string[]): FakeLab {
    lab = new FakeLab({ 'x.cfg': PREAMBLE + script }, programs, ...words, 'rom/x.cfg');
    return lab;
  }

  afterEach(async () => {
    await lab?.[Symbol.asyncDispose]();
    lab = undefined;
  });

  it('greets, loads, and serves until it is ended', async () => {
    const ned = run('print("hello")');
    await eventually(async () => (await ned.control.status()).scriptState).toBe('serving');
    expect(ned.lines('ned')).toEqual(['Ned says: Hi World!', "Ned: loading file: 'rom/x.cfg'", 'hello']);
    expect(await ned.stop()).toBe(0);
  });

  it('gives a task its arguments, environment and capabilities', async () => {
    let seen: FakeTask['record'] | undefined;
    const ned = run(
      'ld:start({ caps = { a = ld:new_channel():svr() } }, "rom/p a  b", { X = 5, B = 1, Y = "y", A = 2 })',
      {
        p: async ({ record }) => {
          seen = record;
          return 0;
        },
      },
      '--wait-and-exit',
    );
    expect(await ned.status).toBe(0);
    expect(seen).toMatchObject({
      name: 'p',
      argv: ['rom/p', 'a', 'b'],
      environment: { A: '2', B: '1', X: '5', Y: 'y' },
      parentPid: process.pid,
    });
    expect(Object.keys(seen?.environment ?? {})).toEqual(['A', 'B', 'X', 'Y']);
    expect(seen?.capabilities?.map(({ name, server }) => [name, server !== undefined])).toEqual([
      ['a', true],
      ['rom', false],
    ]);
  });

  it('blocks in create() until the server is there and says so after a second', async () => {
    let begin = () => {};
    const said = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const ned = run(
      'local net = ld:new_channel()\nld:start({ caps = { svr = net:svr() } }, "rom/vswitch")\nnet:create(0)\nprint("created")',
      { vswitch: (task) => said.then(() => vswitch(task)) },
    );
    await eventually(() => ned.lines('ned')).toContain(
      "Ned: rom/x.cfg:4: waiting for a server on channel 'net' (created at rom/x.cfg:2; its server end was given to task 'vswitch', still starting)",
    );
    expect(ned.lines('ned')).not.toContain('created');
    begin();
    await eventually(() => ned.lines('ned')).toContain('created');
  });

  it('create() fails with the reason when the server has died', async () => {
    const ned = run(
      'local net = ld:new_channel() ld:start({ caps = { svr = net:svr() } }, "rom/dies") net:create(0)',
      { dies: () => 3 },
    );
    expect(await ned.status).toBe(1);
    expect(ned.lines('ned')).toContain(
      `lua error: rom/x.cfg:2: Cannot call 'create' on capability "net" as channel 'net' (created at rom/x.cfg:2) has no server any more: task 'dies' ended with status 3; see what 'dies' printed.`,
    );
  });

  it('create() fails at once when nobody has the server end', async () => {
    const ned = run('local net = ld:new_channel() net:create(0)');
    expect(await ned.status).toBe(1);
    expect(ned.lines('ned').join()).toContain('its server end was given to no task');
  });

  it('create() fails with the number and the sentence of the server', async () => {
    const ned = run(
      'local net = ld:new_channel() ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")\nlocal ok, e = pcall(net.create, net, 0, "x") print(e.msg, e.code)',
      { vswitch },
    );
    await eventually(() => ned.lines('ned')).toContain(
      "rom/x.cfg:3: runtime error Invalid argument (-22): Cannot create port as 'x' is no option\t-22",
    );
  });

  it('an object goes with its last holder, the task that was given it', async () => {
    let end = () => {};
    const ned = run(
      'local net = ld:new_channel() ld:start({ caps = { svr = net:svr() } }, "rom/vswitch") ld:start({ caps = { virtnet = net:create(0) } }, "rom/curl")',
      { vswitch, curl: () => new Promise((resolve) => (end = () => resolve(0))) },
    );
    await eventually(async () => (await ned.control.status()).scriptState).toBe('serving');
    expect(ned.lines('vswitch')).toEqual([]);
    end();
    await eventually(() => ned.lines('vswitch')).toEqual(['port gone']);
  });

  it('an object that a global variable refers to outlives the task', async () => {
    const ned = run(
      'local net = ld:new_channel() ld:start({ caps = { svr = net:svr() } }, "rom/vswitch") port = net:create(0) ld:start({ caps = { p = port } }, "rom/curl"):wait()',
      { vswitch, curl: () => 0 },
    );
    await eventually(async () => (await ned.control.status()).scriptState).toBe('serving');
    expect(ned.lines('vswitch')).toEqual([]);
  });

  it("names are unique among running tasks; log tags and colours are the script's", async () => {
    const print: FakeProgram = async (task) => {
      task.print(`I am ${task.record.name}\n`);
      await untilEnded(task.signal);
      return 0;
    };
    const ned = run(
      'ld:start({}, "rom/p") ld:start({}, "rom/p") ld:start({ log = { "net", "r" } }, "rom/p") ld:start({ log = L4.Env.log }, "rom/p")',
      { p: print },
    );
    await eventually(() => ned.records.filter(({ text }) => text.startsWith('I am')).length).toBe(4);
    expect(
      ned.records
        .filter(({ text }) => text.startsWith('I am'))
        .map(({ task, tag, color }) => [task, tag, color]),
    ).toEqual([
      ['p', 'p', 7],
      ['p-2', 'p-2', 7],
      ['net', 'net', 1],
      ['p-3', 'ned', 7],
    ]);
  });

  it('task objects: state, exit_code, wait, kill', async () => {
    const ned = run(
      `local t = ld:start({}, "rom/three")
       print(t:wait(), t:state(), t:exit_code(), t:kill())
       local i = ld:start({}, "rom/idle")
       print(i:state(), i:exit_code(), i:kill(), i:state(), i:kill(), i:wait())`,
      { three: () => 3, idle },
      '--wait-and-exit',
    );
    expect(await ned.status).toBe(0);
    expect(ned.lines('ned')).toContain('3\tnil\tnil\tnil');
    expect(ned.lines('ned')).toContain('running\tnil\tkilled\tnil\tnil\tnil');
    expect(ned.lines('ned')).toContain("Ned: task 'three' ended with status 3");
  });

  it('exit handlers run in the server loop and may start tasks', async () => {
    const ned = run(
      'ld:start({}, "rom/three"):exit_handler(function(c) print("first", c) ld:start({}, "rom/five"):exit_handler(function(c) print("second", c) end) end)',
      { three: () => 3, five: () => 5 },
      '--wait-and-exit',
    );
    expect(await ned.status).toBe(0);
    expect(ned.lines('ned')).toEqual(expect.arrayContaining(['first\t3', 'second\t5']));
  });

  it('ends with --exit right after the script, and ends its tasks', async () => {
    let ended = false;
    const ned = run(
      'ld:start({}, "rom/idle")',
      {
        idle: async ({ signal }) => {
          await untilEnded(signal);
          ended = true;
          return 0;
        },
      },
      '--exit',
    );
    expect(await ned.status).toBe(0);
    expect(ended).toBe(true);
  });

  it('a failed script leaves its tasks running; with none, ned ends with 1', async () => {
    const ned = run('t = ld:start({}, "rom/idle") error("bad", 0)', { idle });
    await eventually(async () => (await ned.control.status()).scriptState).toBe('failed');
    const status = await ned.control.status();
    expect(status.error).toBe('bad');
    expect(status.tasks).toMatchObject([{ name: 'idle', state: 'running' }]);
    await expect(ned.control.waitTask({ task: 'curl' })).rejects.toMatchObject({
      errno: 2,
      message: "Cannot wait for task 'curl' as the script failed: bad; tasks so far: idle",
    });
  });

  it('a channel that nobody serves is an error for its callers, not a hang', async () => {
    let problem = '';
    const ned = run('local bus = ld:new_channel()\nld:start({ caps = { vbus = bus } }, "rom/caller")', {
      caller: async (task) => {
        const call = task.ipc.client(Factory, task.client('vbus')).create({ type: 0 });
        problem = await call.then(String, (err: Error) => err.message);
        return 0;
      },
    });
    await eventually(() => problem).toMatch(
      /as the server end of channel 'bus' \(created at rom\/x.cfg:2\) was given to no task; start its server with bus:svr\(\) in its caps/,
    );
    expect(ned.lines('ned')).toContain(
      "Warning: channel 'bus' (created at rom/x.cfg:2) has no server: task 'caller' calls it as 'vbus', but its server end was given to no task; start its server with bus:svr() in its caps",
    );
  });

  it('says who loses what a dead server served', async () => {
    const inUse = new AbortController();
    const ned = run(
      `local net = ld:new_channel()
       ld:start({ caps = { svr = net:svr() } }, "rom/broken")
       ld:start({ caps = { virtnet = net:create(0), other = net } }, "rom/idle")`,
      {
        idle: (task) => {
          inUse.abort();
          return idle(task);
        },
        broken: async (task) => {
          const gate = await task.ipc.serve(task.server('svr'));
          gate.setRoot([
            bind(Factory, { create: (_, { task: holder }) => ({ object: gate.export([], { holder }) }) }),
          ]);
          await untilEnded(inUse.signal);
          return 9;
        },
      },
    );
    await eventually(() => ned.lines('ned')).toContain(
      "Ned: task 'broken' ended with status 9; what it served is lost to task 'idle' (other, virtnet)",
    );
  });

  it('ends what a task had started when that task ends', async () => {
    const ned = run('ld:start({}, "rom/parent")', {
      idle,
      parent: async (task) => {
        await task.ipc.client(Parent, task.record.parent as Capability).startTask({ argv: ['rom/idle'] });
        return 0;
      },
    });
    await eventually(async () => (await ned.control.status()).tasks).toMatchObject([
      { name: 'parent', state: 'zombie' },
      { name: 'idle', state: 'zombie', killed: true },
    ]);
  });

  it('ends when the request to end came before it listened', async () => {
    const ned = run('while true do end');
    expect(await ned.stop()).toBe(0);
  });

  it('a task is found by its program as well as by its name', async () => {
    const ned = run('ld:start({ log = { "web", "g" } }, "rom/three")', { three: () => 3 });
    for (const task of ['web', 'three']) {
      expect(await ned.control.waitTask({ task })).toMatchObject({ name: 'web', exitCode: 3 });
    }
  });

  it('says where it looked for a script that is not there', async () => {
    lab = new FakeLab({}, {}, 'rom/nosuch.cfg');
    expect(await lab.status).toBe(1);
    expect(lab.lines('ned').join()).toMatch(
      /lua error: Cannot load script 'rom\/nosuch.cfg' as no such file is in rom \(searched: \/.*\)/,
    );
  });

  it('ends at once though the script never does', async () => {
    const ned = run('print("spin") while true do end');
    await eventually(() => ned.lines('ned')).toContain('spin');
    expect(await ned.stop()).toBe(0);
  });

  it('Lab.waitTask() waits for a task that starts later', async () => {
    const ned = run('L4.msleep(100) ld:start({}, "rom/three")', { three: () => 3 });
    expect(await ned.control.waitTask({ task: 'three' })).toMatchObject({
      name: 'three',
      exitCode: 3,
      killed: false,
      state: 'zombie',
    });
  });

  it('Parent: a task starts, waits for and kills tasks of its own', async () => {
    const seen: unknown[] = [];
    const ned = run('ld:start({}, "rom/idle") ld:start({ caps = { x = L4.Env.rm } }, "rom/starter")', {
      starter: async ({ ipc, record }) => {
        const parent = ipc.client(Parent, record.parent as Capability);
        const started = await parent.startTask({
          argv: ['rom/driver', '-v'],
          environment: { A: 'b' },
          logTag: 'nic',
          logColor: 'r',
        });
        seen.push(started.name, await parent.killTask({ task: started.task }));
        seen.push(await parent.killTask({ task: 'idle' }).catch((err: L4Error) => err.errno));
        seen.push(await parent.startTask({ argv: [] }).catch((err: L4Error) => err.errno));
        return 0;
      },
      driver: (task) => {
        seen.push(task.record.capabilities?.map(({ name }) => name));
        return idle(task);
      },
      idle,
    });
    await eventually(() => seen.length).toBe(5);
    expect(seen).toMatchObject([['rom'], 'nic', { state: 'zombie', killed: true }, 1, 22]);
    expect(ned.lines('ned').join()).not.toContain('error');
  });

  it('server_loop() carries out commands', async () => {
    const results: unknown[] = [];
    run(
      'counter = 1 local cmd = ld:new_channel() ld:start({ caps = { svr = cmd } }, "rom/prompt") L4.server_loop(cmd)',
      {
        prompt: async ({ ipc, client }) => {
          const command = ipc.client(Command, client('svr'));
          for (const statement of ['counter = counter + 1', 'return counter', '(']) {
            results.push(
              await command.execute({ statement }).then(
                ({ result }) => result,
                (err: L4Error) => err.errno,
              ),
            );
          }
          return 0;
        },
      },
    );
    await eventually(() => results).toEqual(['nil', '2', 22]);
  });

  it('namespaces and files reach the tasks', async () => {
    let size = 0;
    const ned = run(
      'ld:start({ caps = { fs = { a = { b = "rom/x.cfg" } } } }, "rom/reader")',
      {
        reader: async ({ ipc, client }) => {
          const { capability } = await ipc.client(Namespace, client('fs')).query({ name: 'a/b' });
          size = (await ipc.client(Dataspace, capability as Capability).info()).size;
          return 0;
        },
      },
      '--wait-and-exit',
    );
    expect(await ned.status).toBe(0);
    expect(size).toBeGreaterThan(PREAMBLE.length);
  });

  it('a restarted server serves the same channel again', async () => {
    const ned = run(
      `local net = ld:new_channel()
       print("died", ld:start({ caps = { svr = net:svr() } }, "rom/dies"):wait())
       print(pcall(function() return net:create(0) end))
       ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")
       print("port", net:create(0))`,
      { dies: () => 1, vswitch },
    );
    await eventually(() => ned.lines('ned').join()).toContain('port\tL4::Cap');
  });
});
