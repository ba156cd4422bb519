/** External loading: one broker, and components that the test starts, kills and starts again. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BROKER_GATE, LabSecret } from '#common/broker/secret';
import { Ipc } from '#common/ipc/ipc';
import { randomName } from '#common/shm/run_dir';
import { Broker } from '../../proto/gen/services.js';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';
import { linesOf } from './harness.ts';

const CLOSING_LINE = '</html>';
let lab: ExternalLab;

afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

/** A lab that is up, with servers that are started again when they end. */
async function up(script = SCALING): Promise<void> {
  lab = await ExternalLab.start(script);
  lab.startBroker();
  lab.supervise(...SERVERS);
  await lab.ready('ned', ...SERVERS);
}

describe('a lab of components', () => {
  it('comes up in any order, downloads the page, tells the truth, and leaves nothing', async () => {
    lab = await ExternalLab.start();
    const curl = lab.component('curl');
    for (const task of ['ixl', 'l4vio_switch', 'io', 'machine']) lab.component(task);
    await curl.saw(/component 'curl': waiting for the broker/);
    const broker = lab.startBroker();
    expect(await curl.exit).toBe(0);
    expect(curl.text).toContain(CLOSING_LINE);
    await broker.saw(/curl {4}\| <\/html>/);
    expect(await lab.tasks()).toEqual({
      machine: 'running',
      io: 'running',
      l4vio_switch: 'running',
      ixl: 'running',
      curl: 'exit 0',
    });
    await lab.ready('ned', ...SERVERS);
    expect(await lab.health('curl')).toEqual({
      status: 1,
      text: "curl is not ready: task 'curl' ended with status 0",
    });
    expect(await lab.end()).toEqual({ processes: [], files: [] });
  });

  it('gives each replica a port and takes it back', async () => {
    await up(SCALING.replace('"rom/l4vio_switch"', '"rom/l4vio_switch -p 4"'));
    for (let round = 0; round < 3; round++) {
      // More than four ports in three rounds: they are given back.
      const runs = [1, 2, 3].map(() => lab.component('curl'));
      expect(await Promise.all(runs.map(({ exit }) => exit))).toEqual([0, 0, 0]);
      for (const run of runs) expect(run.text).toContain(CLOSING_LINE);
      const addresses = runs.map((run) => /IP address: (\S+)/.exec(run.stderr)?.[1]);
      expect(new Set(addresses).size).toBe(3);
    }
    expect(await lab.tasks()).toMatchObject({ curl: 'exit 0', 'curl-2': 'exit 0', 'curl-3': 'exit 0' });
  });
});

describe('refusals', () => {
  it('a second start with values: the hint what to write', async () => {
    const values = readFileSync(join(import.meta.dirname, '../../deploy/labs/curl/curl.cfg'), 'utf8');
    await up(values);
    expect((await lab.curl()).text).toContain(CLOSING_LINE);
    const second = lab.bed.l4lab(['component', 'l4vio_switch']);
    expect(await second.exit).toBe(2);
    expect(second.stderr).toMatch(
      /Cannot start another 'l4vio_switch' as one is running \(process \d+ on \S+\) and its capabilities .* are values, .*virtnet = function\(\) return vswitch:create\(0\) end|svr = function/,
    );
    // The one before has ended: a new start is the same task again.
    expect((await lab.curl()).text).toContain(CLOSING_LINE);
    expect(Object.keys(await lab.tasks()).filter((name) => name.startsWith('curl'))).toEqual(['curl']);
  });

  it('a wrong name, a wrong secret, another version', async () => {
    lab = await ExternalLab.start();
    lab.startBroker();
    await lab.ready('ned');
    const wrong = await lab.bed.done(['component', 'crul']);
    expect([wrong.status, wrong.run.stderr]).toEqual([
      2,
      "l4lab: Cannot start 'crul' as the script starts no task of that name. Its tasks: machine, io, l4vio_switch, curl\n",
    ]);
    const foreign = lab.bed.l4lab(['component', 'curl'], { env: { L4LAB_SECRET: 'x'.repeat(32) } });
    expect(await foreign.exit).toBe(2);
    expect(foreign.stderr).toMatch(/Cannot start 'curl' as the broker refused this secret: give every part/);
    const dir = join(lab.bed.base, 'broker');
    const secret = new LabSecret(readFileSync(join(dir, 'secret'), 'utf8'));
    const ipc = new Ipc({ runDir: dir, task: randomName() });
    const request = { task: 'curl', instance: randomName(), version: '9.9.9', host: 'x', pid: 1 };
    await expect(ipc.client(Broker, secret.brokerCapability).fetch(request)).rejects.toThrow(
      /must be of the same version: the broker on \S+ is l4lab 0\.1\.0, this component is l4lab 9\.9\.9/,
    );
    ipc.close();
    expect(BROKER_GATE).toMatch(/^[0-9a-f]{32}$/);
  });

  it('--wait: nobody there, a broker that is away, a task that the script does not start in time', async () => {
    lab = await ExternalLab.start(
      'local L4 = require("L4") while not io.open("rom/go") do L4.msleep(20) end',
    );
    const late = async (wait: string, env: Record<string, string> = {}) => {
      const run = lab.bed.l4lab(['component', 'someone', '--wait', wait], { env });
      return [await run.exit, run.stderr];
    };
    expect(await late('soon')).toEqual([
      2,
      expect.stringContaining("0..1000000 seconds: current value is 'soon'"),
    ]);
    const nobody =
      /^l4lab: Cannot start 'someone' within 0 s \(--wait\) as there is no broker in \S+\/broker \(l4lab broker/;
    expect(await late('0')).toEqual([1, expect.stringMatching(nobody)]);
    expect(await late('0.1', { L4LAB_SECRET: 'x'.repeat(32) })).toEqual([
      1,
      expect.stringMatching(
        /^l4lab: Cannot start 'someone' within 0.1 s .* as the broker in \S+ does not answer: start it/m,
      ),
    ]);
    expect(lab.bed.files()).toEqual([]);
    const broker = lab.startBroker();
    await broker.saw(/Ned: loading file/);
    const [status, text] = await late('2');
    expect([status, text]).toEqual([1, expect.stringMatching(/within 2 s \(--wait\) as /)]);
    lab.bed.file('go', '');
    await lab.ready('ned');
    expect(await late('1000')).toEqual([
      2,
      expect.stringContaining('the script starts no task of that name'),
    ]);
  });

  it('a second broker in the same directory', async () => {
    lab = await ExternalLab.start();
    const first = lab.startBroker();
    await lab.ready('ned');
    const second = lab.startBroker();
    expect(await second.exit).toBe(2);
    expect(second.stderr).toMatch(/Cannot start a broker in \S+ as one is running there/);
    lab.broker = first;
  });
});

describe('kill -9 and start again', () => {
  it.each(SERVERS)(
    'of %s: a curl started afterwards works, the others have not been touched',
    async (task) => {
      await up();
      await lab.curl();
      const others = ['machine', 'io', 'l4vio_switch'].filter((name) => name !== task);
      const before = others.map((name) => lab.running.get(name)?.child.pid);
      await lab.kill(task);
      await lab.curl();
      expect(others.map((name) => lab.running.get(name)?.child.pid)).toEqual(before);
      expect(await lab.tasks()).toMatchObject({ [task]: 'running' });
    },
  );

  it('of the broker: components go on, are known again, and a new curl works', async () => {
    await up();
    await lab.curl();
    const before = [...SERVERS].map((name) => lab.running.get(name)?.child.pid);
    await lab.kill('broker');
    const alone =
      /its broker has ended; its components go on, and l4lab broker, started there again, finds them/;
    expect((await lab.bed.done(['ps'])).run.text).toMatch(alone);
    const stop = await lab.bed.done(['stop']);
    expect([stop.status, stop.run.stderr]).toEqual([2, expect.stringMatching(alone)]);
    const broker = lab.startBroker();
    await lab.ready('ned', ...SERVERS);
    expect((await lab.curl()).text).toContain(CLOSING_LINE);
    expect([...SERVERS].map((name) => lab.running.get(name)?.child.pid)).toEqual(before);
    expect(broker.text).toMatch(/task 'l4vio_switch' \(process \d+ on \S+\) goes on/);
    expect(await lab.tasks()).toMatchObject({
      machine: 'running',
      io: 'running',
      l4vio_switch: 'running',
      ixl: 'running',
    });
    // And what ends from now on heals as before.
    await lab.kill('ixl');
    expect((await lab.curl()).text).toContain(CLOSING_LINE);
    expect((await lab.end()).files).toEqual([]);
  });

  it('of a component while there is no broker: it is known as ended afterwards', async () => {
    await up();
    await lab.kill('broker');
    await lab.kill('l4vio_switch');
    lab.startBroker();
    expect((await lab.curl()).text).toContain(CLOSING_LINE);
  });
});

describe('l4lab stop and logs', () => {
  it('end components and broker, and show what components print', async () => {
    lab = await ExternalLab.start();
    const broker = lab.startBroker();
    for (const task of SERVERS) lab.component(task);
    await lab.ready('ned', ...SERVERS);
    // What a component prints comes to the broker a moment after it was printed.
    await broker.saw(/io {6}\| Ready/);
    const { run: logs } = await lab.bed.done(['logs', 'io']);
    expect(linesOf(logs.text)).toEqual(['io      | Io service', 'io      | Ready. Waiting for requests.']);
    const { status, run } = await lab.bed.done(['stop']);
    expect([status, run.text]).toEqual([0, `stopped broker  ${lab.bed.scratch}/curl.cfg\n`]);
    const ends = await Promise.all([broker, ...lab.running.values()].map(({ exit }) => exit));
    // The switch ends its driver at once when it ends itself.
    expect(ends.slice(0, 4)).toEqual([143, 0, 0, 0]);
    expect([0, 137]).toContain(ends[4]);
    expect(await lab.end()).toEqual({ processes: [], files: [] });
  });
});

describe('the script', () => {
  it('ends a task for good with kill()', async () => {
    const script = `
      local L4 = require("L4")
      task = L4.default_loader:start({ caps = {} }, "rom/idle.mjs")
      while task:state() ~= "running" do L4.msleep(50) end
      print("kill:", task:kill())
    `;
    lab = await ExternalLab.start(script);
    lab.bed.file(
      'idle.mjs',
      'export const main = async () => new Promise((resolve) => setTimeout(resolve, 1e6));',
    );
    const broker = lab.startBroker();
    expect(await lab.component('idle.mjs').exit).toBe(137);
    await broker.saw(/kill:\s+killed/);
    const again = lab.component('idle.mjs');
    expect(await again.exit).toBe(2);
    expect(again.stderr).toMatch(/Cannot start 'idle.mjs' as the script has killed it/);
  });

  it('sees states, exit codes and ends of tasks that others start', async () => {
    const script = `
      local L4 = require("L4")
      local task = L4.default_loader:start({ caps = {} }, "rom/exit.mjs")
      print("state is", task:state())
      task:exit_handler(function(code) print("ended with", code, "and is", task:state()) end)
    `;
    lab = await ExternalLab.start(script);
    lab.bed.file(
      'exit.mjs',
      'export const main = async (env) => { console.log("I am", env.name); return 7; };',
    );
    const broker = lab.startBroker();
    await broker.saw(/state is\s+initializing/);
    for (const life of [1, 2]) {
      expect(await lab.component('exit.mjs').exit).toBe(7);
      // Before the next one: the state is that of the moment when the handler runs.
      await broker.saw(new RegExp(`(ended with\\s+7\\s+and is\\s+zombie[\\s\\S]*){${life}}`));
    }
    expect(broker.text).toMatch(/exit\.mjs\| I am exit\.mjs/);
    expect(await lab.tasks()).toMatchObject({ 'exit.mjs': 'exit 7' });
  });
});
