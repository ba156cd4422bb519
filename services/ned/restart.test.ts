import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { bind } from '#common/ipc/service';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Factory } from '../../proto/gen/services.js';
import { FakeLab, type FakeProgram, untilEnded } from './testing/fake_lab.ts';

const eventually = <T>(look: () => T) => expect.poll(look);
const PREAMBLE = 'local L4 = require("L4") local ld = L4.default_loader\n';

class RestartLab extends FakeLab {
  static choices = '{}';

  protected override variables(): [string, string][] {
    return [['L4LAB_RESTART', RestartLab.choices]];
  }

  async task(name: string): Promise<m.ITaskStatus | undefined> {
    return (await this.control.status()).tasks.find((task) => task.name === name);
  }
}

let lab: RestartLab | undefined;

function run(
  script: string,
  programs: Record<string, FakeProgram>,
  choices: Record<string, string> = {},
): RestartLab {
  RestartLab.choices = JSON.stringify(choices);
  lab = new RestartLab({ 'x.cfg': PREAMBLE + script }, programs, 'rom/x.cfg');
  return lab;
}

afterEach(async () => {
  await lab?.[Symbol.asyncDispose]();
  lab = undefined;
});

/** Ends with these statuses, one in each life; after them it runs until it is ended. */
function ending(...statuses: number[]): FakeProgram & { lives: m.ILaunchRecord[] } {
  const lives: m.ILaunchRecord[] = [];
  const program: FakeProgram = async ({ record, signal }) => {
    const status = statuses[lives.length];
    lives.push(record);
    if (status === undefined) await untilEnded(signal);
    return status ?? 0;
  };
  return Object.assign(program, { lives });
}

/** Makes ports and says which are gone. */
const vswitch: FakeProgram = async (task) => {
  const gate = await task.ipc.serve(task.server('svr'));
  let made = 0;
  const create = (holder: string) => {
    const number = ++made;
    const onGone = () => task.print(`port ${number} gone\n`);
    return { object: gate.export([bind(Factory, { create: () => ({}) })], { holder, onGone }) };
  };
  gate.setRoot([bind(Factory, { create: (_request, { task: holder }) => create(holder) })]);
  await untilEnded(task.signal);
  return 0;
};

const objectOf = (record: m.ILaunchRecord | undefined, name: string) =>
  record?.capabilities?.find((cap) => cap.name === name)?.client?.object;

describe('a task with a restart policy', () => {
  it('is started again as the same task after a failure; its exit handler runs at the last end', async () => {
    const program = ending(3, 0);
    const ned = run(
      'ld:start({ restart = "on-failure" }, "rom/p a"):exit_handler(function(code) print("ended with", code) end)',
      { p: program },
    );
    await eventually(() => ned.lines('ned')).toContain('ended with\t0');
    expect(program.lives).toHaveLength(2);
    expect(program.lives[1]).toMatchObject({ ...program.lives[0], parent: expect.anything() });
    expect(program.lives[0]?.restart).toBe('on-failure');
    expect(ned.lines('ned')).toContain(
      `Ned: task 'p' ended with status 3; it is started again in 500 ms (restart "on-failure")`,
    );
    expect(ned.lines('ned').filter((line) => line.startsWith('ended with'))).toHaveLength(1);
    expect(await ned.task('p')).toMatchObject({ state: 'zombie', restarts: 1, restart: 'on-failure' });
  });

  it('"always" starts it again after status 0 as well, "no" never', async () => {
    const [always, no] = [ending(0), ending(1)];
    const ned = run('ld:start({ restart = "always" }, "rom/a") ld:start({ restart = "no" }, "rom/n")', {
      a: always,
      n: no,
    });
    await eventually(() => always.lives.length).toBe(2);
    await eventually(async () => (await ned.task('n'))?.state).toBe('zombie');
    expect(no.lives).toHaveLength(1);
    expect(await ned.task('a')).toMatchObject({
      state: 'running',
      restarts: 1,
      lastEnd: 'ended with status 0',
    });
    expect(await ned.task('n')).toMatchObject({ state: 'zombie', exitCode: 1, restart: 'no' });
  });

  it('gets its gates back: a call made while it is away waits, then reaches it', async () => {
    let lives = 0;
    const server: FakeProgram = (task) => (++lives === 1 ? 1 : vswitch(task));
    const ned = run(
      `local net = ld:new_channel()
       ld:start({ restart = "on-failure", caps = { svr = net:svr() } }, "rom/vswitch")
       net:create(0) print("created")`,
      { vswitch: server },
    );
    await eventually(() => ned.lines('ned')).toContain('created');
    expect(lives).toBe(2);
  });

  it('keeps values and gets functions anew; what functions made is given back', async () => {
    const client = ending(1, 1, 0);
    const ned = run(
      `local net = ld:new_channel()
       ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")
       ld:start({ restart = "on-failure", caps = { fixed = net:create(0), own = function() return net:create(0) end } }, "rom/client")`,
      { vswitch, client },
    );
    await eventually(() => ned.lines('vswitch').length).toBe(4);
    expect(new Set(client.lives.map((record) => objectOf(record, 'fixed'))).size).toBe(1);
    expect(new Set(client.lives.map((record) => objectOf(record, 'own'))).size).toBe(3);
    expect(client.lives[1]?.capabilities?.map(({ name }) => name)).toEqual(['fixed', 'own', 'rom']);
    // Port 1 is the value: it outlives all but the last life.
    const gone = ned.lines('vswitch');
    expect(gone.slice(0, 2)).toEqual(['port 2 gone', 'port 3 gone']);
    expect(gone.slice(2).sort()).toEqual(['port 1 gone', 'port 4 gone']);
  });

  it('keeps values of a task without functions, too, until its last end', async () => {
    const client = ending(1, 0);
    const ned = run(
      `local net = ld:new_channel()
       ld:start({ caps = { svr = net:svr() } }, "rom/vswitch")
       ld:start({ restart = "on-failure", caps = { fixed = net:create(0) } }, "rom/client")`,
      { vswitch, client },
    );
    await eventually(() => ned.lines('vswitch')).toEqual(['port 1 gone']);
    expect(new Set(client.lives.map((record) => objectOf(record, 'fixed'))).size).toBe(1);
    expect(client.lives).toHaveLength(2);
  });

  it('a function that fails counts as an end', async () => {
    const client = ending(1);
    const ned = run(
      `local n = 0
       ld:start({ restart = "on-failure", caps = { x = function() n = n + 1 if n == 2 then error("not now") end return L4.Env.log end } }, "rom/client")`,
      { client },
    );
    await eventually(() => client.lives.length).toBe(2);
    expect(ned.lines('ned').join('\n')).toMatch(
      /task 'client' could not be started: Cannot start 'client' as a function among its capabilities failed: .*not now; it is started again in 1000 ms/,
    );
  });

  it('task:kill() is its end, also while it waits to be started again', async () => {
    const program = ending(1);
    const ned = run(
      // Functions are evaluated in the server loop: it waits as long as the script runs.
      `local t = ld:start({ restart = "always", caps = { x = function() return L4.Env.log end } }, "rom/p")
       t:exit_handler(function(code) print("ended with", code) end)
       while t:state() ~= "initializing" do L4.msleep(10) end
       print("state", t:state(), "kill", t:kill())`,
      { p: program },
    );
    await eventually(() => ned.lines('ned')).toContain('ended with\tnil');
    expect(ned.lines('ned')).toContain('state\tinitializing\tkill\tkilled');
    expect(program.lives).toHaveLength(1);
    expect(await ned.task('p')).toMatchObject({ state: 'zombie', killed: true });
  });

  it("does not keep the lab's end waiting", async () => {
    const program = ending(1);
    const ned = run('ld:start({ restart = "always" }, "rom/p")', { p: program });
    await eventually(async () => (await ned.task('p'))?.lastEnd).toBe('ended with status 1');
    expect(await ned.stop()).toBe(0);
    const { length } = program.lives;
    await sleep(600);
    expect(program.lives).toHaveLength(length);
  });

  it('is given up after five ends within a minute; its callers learn of it', async () => {
    const program = ending(1, 1, 1, 1, 7);
    const ned = run(
      `local net = ld:new_channel()
       ld:start({ restart = "on-failure", caps = { svr = net:svr() } }, "rom/p"):exit_handler(function(code) print("ended with", code) end)
       print(pcall(net.create, net, 0))`,
      { p: program },
    );
    await eventually(() => ned.lines('ned')).toContain('ended with\t7');
    const printed = ned.lines('ned').join('\n');
    expect(printed).toContain(
      `Ned: task 'p' ended with status 7; it is given up after 5 ends within a minute (restart "on-failure")`,
    );
    expect(printed).toContain(
      "channel 'net' (created at rom/x.cfg:2) has no server any more: task 'p' ended with status 7",
    );
    expect(program.lives).toHaveLength(5);
  }, 40_000);
});

describe('--restart', () => {
  it('wins over the script, and says what it has no effect on', async () => {
    const [p, q] = [ending(1), ending(1)];
    const ned = run(
      'ld:start({ restart = "always" }, "rom/p") ld:start({}, "rom/q")',
      { p, q },
      { p: 'no', q: 'on-failure', crul: 'always' },
    );
    await eventually(() => q.lives.length).toBe(2);
    expect(p.lives).toHaveLength(1);
    await eventually(() => ned.lines('ned')).toContain(
      'Warning: --restart crul has no effect as the script has started no task of that name so far; its tasks: p, q',
    );
  });
});
