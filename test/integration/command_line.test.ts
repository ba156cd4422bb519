/** The command line as people use it: refusals, Ctrl-C at any moment, parts that die, much output, the prompt, ps, logs, stop. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { signalTask } from './download_lab.ts';
import { PATIENCE_MS, ROOT, type Run, TestBed } from './harness.ts';

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  await bed.close();
  expect(bed.processes()).toEqual([]);
});

const PREAMBLE = 'local L4 = require("L4")\nlocal ld = L4.default_loader\n';
const CURL_LAB = join(ROOT, 'deploy/labs/curl/curl.cfg');

function script(text: string, name = 'x.cfg'): string {
  return bed.file(name, PREAMBLE + text);
}

interface LabView {
  readonly id: string;
  readonly pid: number;
  readonly scriptState: string;
  readonly tasks: { readonly name: string; readonly state: string; readonly pid: number; exitCode: number }[];
}

async function ps(): Promise<LabView[]> {
  return JSON.parse((await bed.done(['ps', '--json'])).run.text) as LabView[];
}

async function pidOf(name: string): Promise<number> {
  const pid = (await ps())[0]?.tasks.findLast((task) => task.name === name && task.state === 'running')?.pid;
  if (!pid) throw new Error(`no task ${name}`);
  return pid;
}

describe('what cannot be carried out is refused with status 2', () => {
  it.each([
    [['run', 'nosuch.cfg'], /^l4lab: Cannot run nosuch.cfg as there is no such file: name a ned script/],
    [['run', '.'], /^l4lab: Cannot run \. as it is not a file/],
    [['run', '--rom', '/nosuch', 'x.cfg'], /^l4lab: Cannot use --rom \/nosuch as it is not a directory/],
    [['run', '--wait-for', '', 'x.cfg'], /^l4lab: Cannot use --wait-for as it needs the name of a task/],
    [['run', '--foo', 'x.cfg'], /^l4lab: unknown option '--foo'\n\(l4lab run --help tells what there is\)/],
    [['run'], /^l4lab: missing required argument 'script'\n\(l4lab run --help/],
    [['run', '--exit', '--wait-and-exit', 'x.cfg'], /^l4lab: option '--exit' cannot be used with/],
    [['frob'], /^l4lab: unknown command 'frob'\n\(l4lab --help/],
    [['ps', 'extra'], /^l4lab: too many arguments for 'ps'.*\n\(l4lab ps --help/],
    [['logs'], /^l4lab: Cannot find a lab as none is running: start one with l4lab run SCRIPT/],
    [['stop', 'abc'], /^l4lab: Cannot stop abc as no lab has that id. Running: none/],
  ])('%s', async (args, message) => {
    script('');
    const { status, run } = await bed.done(args);
    expect([status, run.text, run.stderr]).toEqual([2, '', expect.stringMatching(message)]);
  });

  it('a run base that is not ours alone', async () => {
    chmodSync(bed.base, 0o755);
    const { status, run } = await bed.done(['run', script('')]);
    expect([status, run.stderr]).toEqual([2, expect.stringMatching(/closed to others .*: its mode is 0755/)]);
  });
});

it('--help of every command names its options and no internals', async () => {
  const helps = await Promise.all(
    [[], ['run'], ['ps'], ['logs'], ['stop']].map((command) => bed.done([...command, '--help'])),
  );
  for (const { status, run } of helps) {
    expect([status, run.stderr]).toEqual([0, '']);
    expect(run.text).toMatch(/^Usage: l4lab/);
    expect(run.text).not.toContain('default: []');
  }
  const [, run] = helps.map(({ run: help }) => help.text);
  for (const option of [
    '--rom',
    '--nic',
    '--host',
    '--guest-forward',
    '--wait-for',
    '--raw',
    '--json',
    '-e, ',
  ])
    expect(run).toContain(option);
});

it('-e, --exit and --wait-and-exit do what ned does with them', async () => {
  const failing = bed.file('seven.mjs', 'export const main = async () => 7');
  const path = script(`print("x is", x, arg[1]) ld:start({}, "rom/${failing.split('/').at(-1)}")`);
  const args = ['-e', 'x = 5', '-e', 'error("no")', '-e', 'y = = 1', path, 'word'];
  const { status, run } = await bed.done(['run', '--wait-and-exit', ...args]);
  expect([status, run.stderr]).toEqual([0, '']);
  expect(run.text).toMatch(
    /ned +\| lua error: \[string "error\("no"\)"\]:1: no\.\nned +\| Error executing cmdline/,
  );
  expect(run.text).toMatch(/:1: unexpected symbol near '='\./);
  expect(run.text).toMatch(/ned +\| x is\t5\tword\n[\s\S]*Ned: task 'seven.mjs' ended with status 7\n/);
  expect((await bed.done(['run', '--exit', script('error("bad", 0)')])).status).toBe(1);
  expect((await bed.done(['run', '--exit', script('ld:start({}, "rom/io")')])).status).toBe(0);
  expect(bed.files()).toEqual([]);
});

/** How many times as long as the smallest lab takes, from its start to its end, the end of one may take. */
const AT_ONCE = 8;

describe('Ctrl-C', () => {
  it.each([
    ['as soon as anything is printed', /\|/],
    ['while the script is loaded', /Ned: loading file/],
    ['when io starts', /Io service/],
    ['when the switch starts', /Hello from l4virtio switch/],
    ['when the driver starts', /Trying e1000/],
    ['when the link is up', /Link speed is/],
    ['when curl waits for its lease', /Waiting for DHCP/],
  ])('%s ends the lab at once, with status 130 and nothing left', async (_, moment) => {
    const start = performance.now();
    expect((await bed.done(['run', '--exit', script('')])).status).toBe(0);
    const smallest = performance.now() - start;
    const run = bed.l4lab(['run', CURL_LAB]);
    await run.saw(moment);
    const begun = performance.now();
    // A terminal's Ctrl-C reaches the whole group, people press it twice, and timeout(1) sends it twice.
    run.child.kill('SIGINT');
    run.child.kill('SIGINT');
    expect(await run.exit).toBe(130);
    expect(performance.now() - begun).toBeLessThan(AT_ONCE * smallest);
    expect(`${run.text}${run.stderr}`).not.toMatch(/terminate called|node:internal/);
    expect([bed.files(), bed.processes()]).toEqual([[], []]);
  });

  it('ends a script that never ends', async () => {
    const run = bed.l4lab(['run', script('print("spinning") while true do end')]);
    await run.saw(/spinning/);
    run.child.kill('SIGINT');
    expect([await run.exit, bed.files()]).toEqual([130, []]);
  });
});

describe('a part that dies', () => {
  it('io and the switch: it is said who died and who is concerned, ps knows it, stop works', async () => {
    bed.file(
      'idle.mjs',
      `export const main = ({ signal }) => new Promise((end) => signal.addEventListener('abort', () => end(0)))`,
    );
    const path = script(`local bus, net = ld:new_channel(), ld:new_channel()
ld:start({ caps = { sigma0 = L4.Env.sigma0, icu = L4.Env.icu, iommu = L4.Env.iommu, ethdevs = bus:svr() } }, "rom/io rom/ixl.vbus")
ld:start({ caps = { vbus = bus, svr = net:svr() } }, "rom/l4vio_switch")
ld:start({ caps = { virtnet = net:create(0) } }, "rom/idle.mjs") print("all started")`);
    const run = bed.l4lab(['run', '--rom', join(ROOT, 'deploy/labs/curl'), path]);
    await run.saw(/all started/);
    process.kill(await pidOf('io'), 'SIGKILL');
    await run.saw(/Ned: task 'io' was ended by SIGKILL; what it served is lost to .*task 'ixl' \(.*vbus.*\)/);
    process.kill(await pidOf('l4vio_switch'), 'SIGKILL');
    await run.saw(
      /Ned: task 'l4vio_switch' was ended by SIGKILL; what it served is lost to task 'idle.mjs' \(virtnet\)/,
    );
    const states = async () => Object.fromEntries((await ps())[0]?.tasks.map((t) => [t.name, t.state]) ?? []);
    await expect
      .poll(states, { timeout: PATIENCE_MS })
      .toEqual({ io: 'zombie', l4vio_switch: 'zombie', ixl: 'zombie', 'idle.mjs': 'running' });
    const { run: stopped } = await bed.done(['stop', '--json']);
    expect(JSON.parse(stopped.text)).toMatchObject([{ how: 'stopped' }]);
    expect([await run.exit, bed.files()]).toEqual([143, []]);
  });

  it.each([
    [
      'machine',
      /l4lab: the lab ended before task 'io' did: the machine was ended by SIGKILL: all NICs are gone/,
    ],
    ['ned', /l4lab: the lab ended before task 'io' did: ned was ended by SIGKILL/],
  ])('%s: the lab ends with status 1', async (name, message) => {
    const path = script('ld:start({ caps = { sigma0 = L4.Env.sigma0 } }, "rom/io")');
    const run = bed.l4lab(['run', path, '--wait-for', 'io']);
    await run.saw(/Ready/);
    signalTask(bed, name, 'SIGKILL');
    expect([await run.exit, run.stderr]).toEqual([1, expect.stringMatching(message)]);
    expect([bed.files(), bed.processes()]).toEqual([[], []]);
  });
});

describe('much output', () => {
  it('megabytes come whole and in order', async () => {
    const lines = 60_000;
    const path = script(`for i = 1, ${lines} do print(i, ("x"):rep(60)) end`);
    const { status, run } = await bed.done(['run', '--exit', path]);
    const numbers = [...run.text.matchAll(/^ned {5}\| (\d+)\t/gm)].map(([, number]) => Number(number));
    expect([status, numbers.length, run.stderr]).toEqual([0, lines, '']);
    expect(numbers.every((number, n) => number === n + 1)).toBe(true);
  });

  it('only a line feed ends a line', async () => {
    const { status, run } = await bed.done(['run', '--exit', script('print("a\\u{2028}b\\u{85}c\\rd")')]);
    expect([status, run.stderr]).toEqual([0, '']);
    expect(run.text.split('\n')).toContain('ned     | a\u2028b\u0085c\rd');
  });

  it('binary garbage and a line of 10 MB are cut into lines for the log, and exact with --raw', async () => {
    const BLOCKS = 10;
    bed.file(
      'noise.mjs',
      `import { createHash } from 'node:crypto';
      export async function main({ stdout }) {
        for (let n = 0; n < ${BLOCKS}; n++) await stdout.write(createHash('shake256', { outputLength: 1e5 }).update(String(n)).digest());
        await stdout.write('y'.repeat(10e6));
        await stdout.write('end');
        return 0;
      }`,
    );
    const path = script('ld:start({}, "rom/noise.mjs")');
    const log = await bed.done(['run', path, '--wait-for', 'noise.mjs']);
    expect([log.status, log.run.stderr]).toEqual([0, '']);
    expect(log.run.text.endsWith('yyyend\n')).toBe(true);
    expect(Math.max(...log.run.text.split('\n').map((line) => line.length))).toBeLessThan(70_000);
    const raw = await bed.done(['run', path, '--wait-for', 'noise.mjs', '--raw', 'noise.mjs']);
    expect([raw.status, raw.run.stdout.length]).toEqual([0, BLOCKS * 1e5 + 10e6 + 3]);
    for (let n = 0; n < BLOCKS; n++) {
      const noise = createHash('shake256', { outputLength: 1e5 }).update(String(n)).digest();
      expect(noise.equals(raw.run.stdout.subarray(n * 1e5, (n + 1) * 1e5)), `block ${n}`).toBe(true);
    }
  });

  it('a reader that goes away ends the lab and leaves nothing', async () => {
    const run = bed.l4lab(['run', script('for i = 1, 1e9 do print(i, ("x"):rep(60)) end')]);
    await run.saw(/\| 1\t/);
    run.child.stdout?.destroy();
    expect([await run.exit, bed.files()]).toEqual([141, []]);
  });
});

describe('ned-prompt', () => {
  const PROMPT = `x = 5
local ch = ld:new_channel()
ld:start({ caps = { svr = ch }, log = L4.Env.log }, "rom/ned-prompt")
L4.server_loop(ch)`;

  it('takes statements from a pipe and ends with it', async () => {
    const input = 'x + 1\ny = 7\nreturn y\nerror("bad", 0)\nz = = 1\n\nprint("hi", {} ~= nil)\n';
    const run = bed.l4lab(['run', script(PROMPT), '--wait-for', 'ned-prompt'], { input });
    expect([await run.exit, run.stderr]).toEqual([0, '']);
    const said = run.text.slice(run.text.indexOf('Welcome to ned prompt.')).split('\n');
    expect(said.map((line) => line.replace(/^ned +\| /, ''))).toEqual(
      expect.arrayContaining(['6', '7', 'Error calling ned: -5 (bad)', 'hi\ttrue']),
    );
    expect(run.text).toMatch(/Error calling ned: -22 \(.*unexpected symbol near '='\)/);
    expect(run.text).toMatch(/lua couldn't execute 'error\("bad", 0\)': bad\.\n/);
  });

  it('has a history, Ctrl-C for the line and Ctrl-D for the end on a terminal', async (context) => {
    if (spawnSync('python3', ['-c', 'import pty']).status !== 0) {
      context.skip('python3 with its module pty is missing: it makes the terminal of this test');
    }
    const driver = bed.file(
      'terminal.py',
      `import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
def until(text):
    global seen
    while text not in seen: seen += os.read(fd, 65536)
    seen = seen[seen.index(text) + len(text):]
def say(keys, answer):
    os.write(fd, keys)
    until(answer)
    until(b'Cmd> ')
until(b'Cmd> ')
say(b'40 + 2\\r', b'\\n42')
say(b'"abc"\\r', b'\\nabc')
os.write(fd, b'\\x1b[A\\x1b[A')
until(b'40 + 2')
say(b'\\r', b'\\n42')
os.write(fd, b'garbage')
until(b'garbage')
os.write(fd, b'\\x03')
say(b'70 + 7\\r', b'\\n77')
os.write(fd, b'\\x04')
try:
    while os.read(fd, 65536): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`,
    );
    const run = bed.l4lab(['run', script(PROMPT), '--wait-for', 'ned-prompt'], {
      under: ['python3', driver],
      env: { TERM: 'xterm' },
    });
    expect([await run.exit, run.stderr]).toEqual([0, '']);
  });
});

it('logs -f follows to the end, --json are records, and labs are told apart', async () => {
  const program = `export async function main({ stdout, signal }) {
    await stdout.write('first\\n');
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await stdout.write('last\\n');
    return 0;
  }`;
  bed.file('talker.mjs', program);
  const path = script('ld:start({}, "rom/talker.mjs")');
  const run = bed.l4lab(['run', path]);
  await run.saw(/first/);
  const follow = bed.l4lab(['logs', '-f', 'talker.mjs']);
  const json = bed.l4lab(['logs', '-f', '--json', 'talker.mjs']);
  await Promise.all([follow.saw(/first/), json.saw(/first/)]);
  const unknown = await bed.done(['logs', 'nobody']);
  expect([unknown.status, unknown.run.stderr]).toEqual([
    2,
    expect.stringMatching(
      /Cannot show logs of nobody as no such task has printed anything: there are .*talker.mjs/,
    ),
  ]);
  const second = bed.l4lab(['run', path]);
  await second.saw(/first/);
  const labs = await ps();
  expect(labs.map(({ scriptState, tasks }) => [scriptState, tasks.map(({ name }) => name)])).toEqual([
    ['serving', ['talker.mjs']],
    ['serving', ['talker.mjs']],
  ]);
  expect((await bed.done(['logs'])).run.stderr).toMatch(
    /2 labs are running: name one with --lab ID. Running: /,
  );
  const idOf = ({ child }: Run) => labs.find(({ pid }) => pid === child.pid)?.id ?? '';
  expect((await bed.done(['logs', '--lab', idOf(run)])).run.text).toMatch(/^talker.m\| first$/m);
  const stopped = await bed.done(['stop', idOf(run)]);
  expect(stopped.run.text).toMatch(new RegExp(`^stopped ${idOf(run)} `));
  expect(await run.exit).toBe(143);
  expect([await follow.exit, await json.exit]).toEqual([0, 0]);
  expect(follow.text).toBe('talker.m| first\ntalker.m| last\n');
  for (const line of json.text.trim().split('\n'))
    expect(JSON.parse(line)).toMatchObject({ task: 'talker.mjs' });
  expect((await ps()).map(({ id }) => id)).toEqual([idOf(second)]);
  expect((await bed.done(['stop', '--json'])).status).toBe(0);
  expect([await second.exit, (await bed.done(['stop'])).run.text]).toEqual([143, 'No lab is running.\n']);
});
