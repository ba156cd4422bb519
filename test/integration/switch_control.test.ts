/** `l4lab stats`, `capture` and `port` against real labs, and every frame compared. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { INBOUND, OUTBOUND } from '../../services/common/capture/pcapng.ts';
import { type CapturedPacket, PcapngReader } from '../../services/common/capture/reader.ts';
import { Download, hashOfFile, WebServer } from './download_lab.ts';
import { ROOT, type Run, TestBed } from './harness.ts';
import { numberedFrame } from './numbered_frame.ts';

const PROGRAMS = ['--nic', 'none', '--rom', join(ROOT, 'dist/test/integration')];
const MIB = 2 ** 20;

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

/** A lab with nothing but switches. */
async function startSwitches(
  first: string | { readonly run: readonly string[] },
  ...rest: string[]
): Promise<Run> {
  const options = typeof first === 'string' ? [first, ...rest] : rest;
  const more = typeof first === 'string' ? [] : first.run;
  const starts = options.map(
    (line, n) =>
      `local c${n} = ld:new_channel(); ld:start({ caps = { svr = c${n}:svr() } }, "rom/l4vio_switch ${line}")`,
  );
  const script = bed.file('switch.cfg', `local ld = require("L4").default_loader\n${starts.join('\n')}\n`);
  const lab = bed.l4lab(['run', script, ...PROGRAMS, ...more]);
  for (const _ of options) await lab.saw(/Hello from l4virtio switch/);
  await vi.waitFor(async () => expect((await bed.done(['port', 'list'])).status).toBe(0), {
    timeout: 10_000,
  });
  return lab;
}

/** Runs a command that must succeed; its stdout. */
async function ok(...args: string[]): Promise<string> {
  const { status, run } = await bed.done(args);
  expect([status, run.stderr]).toEqual([0, '']);
  return run.text;
}

async function pidOf(task: string): Promise<number> {
  const [{ tasks }] = JSON.parse(await ok('ps', '--json')) as [{ tasks: { name: string; pid: number }[] }];
  return tasks.find(({ name }) => name === task)?.pid as number;
}

interface PortJson {
  readonly name: string;
  readonly number: number;
  readonly mac: string | null;
  readonly ready: boolean;
  readonly in: { readonly packets: number; readonly bytes: number };
  readonly out: { readonly packets: number; readonly bytes: number };
  readonly drops: readonly { readonly reason: string; readonly direction: string; readonly count: number }[];
}

async function ports(): Promise<Record<string, PortJson>> {
  const { switches } = JSON.parse(await ok('stats', '--json', '--interval', '0')) as {
    switches: { ports: PortJson[] }[];
  };
  return Object.fromEntries(switches.flatMap((one) => one.ports).map((port) => [port.name, port]));
}

/** What a capture wrote: its packets by interface, and its statistics. */
function parse(bytes: Uint8Array) {
  const reader = new PcapngReader();
  const packets = reader.push(bytes);
  reader.end();
  const of = (name: string, direction: number): CapturedPacket[] =>
    packets.filter((packet) => packet.interface.name === name && packet.direction === direction);
  return { packets, of, statistics: reader.statistics };
}

async function capturing(...args: string[]): Promise<Run> {
  const run = bed.l4lab(['capture', ...args]);
  await run.saw(/capturing/);
  return run;
}

/** Ends a capture as Ctrl-C does. */
async function interrupt(run: Run): Promise<void> {
  run.child.kill('SIGINT');
  expect([await run.exit, run.stderr]).toEqual([0, expect.stringMatching(/frames captured/)]);
}

/** Names of doorbells, FIFOs and shared memory of the lab. */
function resources(): string[] {
  const [lab] = readdirSync(bed.base);
  return ['b', 'm', 'c'].flatMap((part) => readdirSync(join(bed.base, lab as string, part))).sort();
}

describe('l4lab stats and capture', { timeout: 60_000 }, () => {
  it('agree with every frame that was sent, dropped and received', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src', 'mac=02:00:00:00:00:01');
    await ok('port', 'add', 'dst [0]');
    const file = join(bed.scratch, 'all.pcapng');
    const run = await capturing('src', 'dst [0]', '-w', file);
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '1000', '300');
    expect(await ports()).toMatchObject({
      src: { in: { packets: 1000, bytes: 300_000 }, out: { packets: 0 }, drops: [] },
      'dst [0]': {
        in: { packets: 0 },
        out: { packets: 0, bytes: 0 },
        drops: [{ reason: 'not_ready', direction: 'out', count: 1000 }],
      },
    });
    const lab = bed.l4lab(['logs', '-f']);
    await ok('port', 'run', 'dst [0]', 'rom/frame_client.js', 'sink', '200');
    await lab.saw(/sink has buffers/);
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '200', '1514');
    const [, hash] = await lab.saw(/received ([0-9a-f]{64})/);
    await interrupt(run);
    lab.child.kill();

    const { of, statistics, packets } = parse(readFileSync(file));
    const sent = of('src', INBOUND);
    expect(sent).toHaveLength(1200);
    for (const [n, { bytes, comment }] of sent.entries()) {
      const wanted = n < 1000 ? numberedFrame(n, 300) : numberedFrame(n - 1000, 1514);
      expect([Buffer.compare(bytes, wanted), comment]).toEqual([0, '']);
    }
    const out = of('dst [0]', OUTBOUND);
    const dropped = out.filter(({ comment }) => comment.startsWith('dropped (not_ready)'));
    expect([out.length, dropped.length]).toEqual([1200, 1000]);
    const received = createHash('sha256');
    for (const { bytes, comment } of out) if (comment === '') received.update(bytes);
    expect(received.digest('hex')).toBe(hash);
    expect(statistics).toMatchObject([
      { interface: { name: 'src' }, received: 1200, dropped: 0 },
      { interface: { name: 'dst [0]' }, received: 1200, dropped: 0 },
    ]);
    const times = packets.map(({ timeNs }) => timeNs);
    expect(times).toEqual([...times].sort((a, b) => (a < b ? -1 : 1)));
    expect(Math.abs(Number((times[0] as bigint) / 1_000_000n) - Date.now())).toBeLessThan(600_000);
  });

  it('prints lines, cuts frames, ends after a count; rates and a stream of JSON', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src');
    const lines = await capturing('src', '-c', '2');
    const cut = await capturing('src', '-w', '-', '--snaplen', '64', '--count', '3');
    const watched = bed.l4lab(['stats', '--watch', '--json', '--interval', '0.2']);
    await watched.saw(/"intervalMs":null/);
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '50', '100');
    await watched.saw(/"packets":50,"bytes":5000,"packetsPerSecond":[1-9]/);
    watched.child.kill('SIGINT');
    expect(await watched.exit).toBe(0);
    for (const line of watched.text.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('switches');
    expect(await lines.exit).toBe(0);
    expect(lines.text).toMatch(
      /^\d\d:\d\d:\d\d\.\d{6} src in {2}02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, 0x88b5, length 100\n.*\n$/,
    );
    expect(await cut.exit).toBe(0);
    const { packets } = parse(cut.stdout);
    expect(packets.map(({ bytes, originalLength }) => [bytes.length, originalLength])).toEqual([
      [64, 100],
      [64, 100],
      [64, 100],
    ]);
  });

  it('go on with the other ports when one goes, and end with the last', async () => {
    await startSwitches('');
    await ok('port', 'add', 'one');
    await ok('port', 'add', 'two');
    const twice = await capturing('one', '-w', '-');
    const run = await capturing('one', 'two', '-w', '-');
    await ok('port', 'run', '--wait', 'one', 'rom/frame_client.js', 'send', '10', '60');
    await ok('port', 'del', 'one');
    await run.saw(/port 'one' is gone/);
    await ok('port', 'run', '--wait', 'two', 'rom/frame_client.js', 'send', '20', '60');
    await ok('port', 'del', 'two');
    expect([await run.exit, await twice.exit]).toEqual([0, 0]);
    const { of, statistics } = parse(run.stdout);
    expect([of('one', INBOUND).length, of('two', OUTBOUND).length, of('two', INBOUND).length]).toEqual([
      10, 10, 20,
    ]);
    expect(statistics.map(({ interface: { name }, received }) => [name, received])).toEqual([
      ['one', 10],
      ['two', 30],
    ]);
    expect(parse(twice.stdout).of('one', INBOUND)).toHaveLength(10);
  });
});

describe('a capture whose reader', { timeout: 60_000 }, () => {
  it('is slow loses frames of the capture alone, and says how many', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src');
    await ok('port', 'add', 'dst');
    const run = await capturing('src', '-w', '-');
    run.child.stdout?.pause();
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '20000', '1514');
    expect((await ports()).src).toMatchObject({ in: { packets: 20_000 } });
    run.child.stdout?.resume();
    await vi.waitFor(() => expect(run.stdout.length).toBeGreaterThan(8 * MIB), { timeout: 20_000 });
    await interrupt(run);
    const { packets, statistics } = parse(run.stdout);
    const lost = statistics[0]?.dropped as number;
    expect(lost).toBeGreaterThan(0);
    expect([statistics[0]?.received, packets.length + lost]).toEqual([20_000, 20_000]);
    expect(run.stderr).toContain(
      `${packets.length} frames captured, lost as this reader was too slow: 'src' ${lost}`,
    );
    for (const { bytes } of packets) {
      const n = Buffer.from(bytes).readUInt32BE(14);
      expect(Buffer.compare(bytes, numberedFrame(n, 1514))).toBe(0);
    }
  });

  it('stands still costs a download neither a byte nor its speed', { timeout: 120_000 }, async () => {
    const web = await WebServer.start();
    const size = 24 * MIB;
    const wanted = { status: 0, sha256: await hashOfFile(size) };
    /** Milliseconds for the second half, with captures that stand still meanwhile. */
    const secondHalf = async (captures: number): Promise<number> => {
      const stopped: Run[] = [];
      const awaits = `go${captures}`;
      try {
        const download = new Download(bed, web.port, size, { awaits });
        await vi.waitFor(async () => expect(await ports()).toHaveProperty('[0]'), { timeout: 30_000 });
        for (let n = 0; n < captures; n++) stopped.push(await capturing('[0]', 'ixl-e1000'));
        for (const { child } of stopped) child.kill('SIGSTOP');
        bed.file(awaits, '');
        await download.reached(size / 2);
        const begin = performance.now();
        expect(await download.end()).toEqual(wanted);
        return performance.now() - begin;
      } finally {
        for (const { child } of stopped) child.kill('SIGCONT');
        for (const { exit } of stopped) expect(await exit).toBe(0);
      }
    };
    try {
      const alone = await secondHalf(0);
      const watched = await secondHalf(2);
      // Copying takes its share; waiting for a reader would take for ever.
      expect(watched / alone).toBeLessThan(5);
    } finally {
      await web.close();
    }
  });

  it('is killed leaves nothing behind, and the port can be captured again', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src');
    const before = resources();
    const run = await capturing('src', '-w', '-');
    expect(resources().length).toBeGreaterThan(before.length);
    run.child.kill('SIGKILL');
    await vi.waitFor(() => expect(resources()).toEqual(before), { timeout: 10_000 });
    const again = await capturing('src', '-w', '-', '--count', '5');
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '5', '60');
    expect(await again.exit).toBe(0);
    expect(parse(again.stdout).packets).toHaveLength(5);
    await vi.waitFor(() => expect(resources()).toEqual(before), { timeout: 10_000 });
  });

  it('has closed its pipe ends quietly, also when nothing comes', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src');
    const run = await capturing('src', '-w', '-');
    run.child.stdout?.destroy();
    expect(await run.exit).toBe(0);
    expect(run.stderr).toMatch(/^l4lab: capturing 'src' of switch 'l4vio_switch'\n$/);
  });
});

describe('l4lab port', { timeout: 60_000 }, () => {
  it('adds a port for a program that loses its device when the port is deleted; others go on', async () => {
    const lab = await startSwitches('');
    await ok('port', 'add', 'other', 'vlan=access=7');
    const added = await ok('port', 'add', 'victim', '--run', 'rom/frame_client.js sink 1');
    expect(added).toMatch(
      /^Created port 'victim' \(1\), MAC .*\nTask 'frame_client.js' runs on port 'victim'/,
    );
    await lab.saw(/sink has buffers/);
    expect(await ok('port', 'list')).toMatch(/1 {2}victim +port +\S+ +native +up +ready +frame_client.js\n/);
    expect(await ok('port', 'del', 'victim')).toMatch(/task 'frame_client.js' has lost its network/);
    await lab.saw(/frame_cl\| .*Cannot use "virtnet" any more as its server has given it up/);
    expect(Object.keys(await ports())).toEqual(['other']);
    const short = await ok('port', 'add', 'short', '--wait', '--run', 'rom/frame_client.js send 3 60');
    expect(short).toContain("port 'short'");
    await vi.waitFor(async () => expect(Object.keys(await ports())).toEqual(['other']), { timeout: 10_000 });
  });

  it('takes links down and up', async () => {
    await startSwitches('');
    await ok('port', 'add', 'src');
    await ok('port', 'add', 'dst');
    expect(await ok('port', 'link', 'src', 'down')).toMatch(/^Link down at port 'src' \(0\)/);
    const run = await capturing('src', '-w', '-');
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '5', '60');
    expect(await ports()).toMatchObject({
      src: { link: 'down', in: { packets: 5 }, drops: [{ reason: 'link_down', direction: 'in', count: 5 }] },
      dst: { link: 'up', out: { packets: 0 }, drops: [] },
    });
    await ok('port', 'link', 'src', 'up');
    await ok('port', 'link', 'dst', 'down');
    await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '7', '60');
    expect(await ports()).toMatchObject({
      src: { link: 'up', in: { packets: 12 }, drops: [{ count: 5 }] },
      dst: { link: 'down', drops: [{ reason: 'link_down', direction: 'out', count: 7 }] },
    });
    await interrupt(run);
    const dropped = parse(run.stdout).packets.filter(({ comment }) => comment.includes('link_down'));
    expect(dropped).toHaveLength(5);
  });

  it('come back after kill -9 of the switch: ports that were made here, and the page of a statistics reader', async () => {
    const script = bed.file(
      'stats.cfg',
      `local ld = require("L4").default_loader
local lan = ld:new_channel()
ld:start({ caps = { svr = lan:svr() } }, "rom/l4vio_switch")
ld:start({ caps = { stats = lan:create(1) }, log = { "stats" } }, "rom/statistics_client.js")
`,
    );
    const lab = bed.l4lab(['run', script, ...PROGRAMS, '--restart', 'l4vio_switch']);
    await lab.saw(/ports: *\n/);
    await ok('port', 'add', 'src', 'vlan=access=7');
    await ok('port', 'add', 'dst', 'vlan=access=7', 'mac=02:00:00:00:00:07');
    await lab.saw(/ports: src dst/);
    const before = await ok('port', 'list');
    for (let kill = 1; kill <= 2; kill++) {
      process.kill(await pidOf('l4vio_switch'), 'SIGKILL');
      await lab.saw(new RegExp(`(Started again, with the ports src dst[^]*){${kill}}`));
      await vi.waitFor(async () => expect((await bed.done(['port', 'list'])).run.text).toBe(before), 10_000);
      await ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '9', '60');
      expect(await ports()).toMatchObject({
        src: { in: { packets: 9 } },
        dst: { mac: '02:00:00:00:00:07', drops: [{ reason: 'not_ready', count: 9 }] },
      });
    }
    // The reader has mapped its page before all of that.
    await ok('port', 'del', 'dst');
    await ok('port', 'add', 'new');
    await lab.saw(/ports: src new/);
    lab.child.kill('SIGINT');
    await lab.exit;
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it('refuses with a sentence what cannot be', async () => {
    await startSwitches('');
    await ok('port', 'add', 'one');
    const refusals: [string[], RegExp][] = [
      [['port', 'add', 'one'], /Cannot create port 'one' as its name must not be in use/],
      [['port', 'add', 'two', 'vlan=access=4095'], /VLAN access port id '4095': it must be 1..4094/],
      [['port', 'del', 'two'], /Cannot find port 'two' .*it has 'one' \(0\)/],
      [['port', 'link', 'one', 'off'], /must be up or down: current value is 'off'/],
      [['port', 'run', 'one', '--wait', 'rom/curl'], /options must stand before the port/],
      [['capture', 'two'], /Cannot find port 'two' .*it has 'one' \(0\)/],
      [['capture', 'one', '-w', '/none/x'], /\/none\/x/],
      [['capture', 'one', '--snaplen', '2'], /must be a number of at least 14/],
      [['stats', 'none'], /Cannot find switch 'none' .*its switches are l4vio_switch/],
    ];
    for (const [args, message] of refusals) {
      const { status, run } = await bed.done(args);
      expect([args, status, run.stderr]).toEqual([args, 2, expect.stringMatching(message)]);
    }
  });
});

describe('labs and switches', { timeout: 60_000 }, () => {
  it('several switches are told apart by their tasks and by their ports', async () => {
    await startSwitches('', '-p 2');
    await ok('port', 'add', '--switch', 'l4vio_switch-2', 'there');
    expect((await bed.done(['port', 'add', 'x'])).run.stderr).toMatch(
      /name one with --switch: l4vio_switch, l4vio_switch-2/,
    );
    expect(await ok('stats', '--interval', '0', 'l4vio_switch-2')).toMatch(
      /^switch l4vio_switch-2 of lab .*: 1 of 2 ports/,
    );
    const run = await capturing('there');
    expect(run.stderr).toContain("capturing 'there' of switch 'l4vio_switch-2'");
    await interrupt(run);
    expect(await ok('port', 'del', 'there')).toMatch(/Removed port 'there'/);
  });

  it('a switch that was killed and is started again is found again, also by those who watch', async () => {
    const lab = await startSwitches({ run: ['--restart', 'l4vio_switch=always'] }, '');
    await ok('port', 'add', 'before');
    const watched = bed.l4lab(['stats', '--watch', '--json', '--interval', '0.2']);
    await watched.saw(/"name":"before"/);
    const run = await capturing('before', '-w', '-');
    process.kill(await pidOf('l4vio_switch'), 'SIGKILL');
    expect(await run.exit).toBe(0);
    expect(run.stderr).toMatch(/switch 'l4vio_switch' is gone/);
    await vi.waitFor(async () => expect((await bed.done(['port', 'add', 'after'])).status).toBe(0), {
      timeout: 10_000,
    });
    await watched.saw(/"name":"after"/);
    expect(Object.keys(await ports())).toEqual(['before', 'after']);
    lab.child.kill('SIGTERM');
    expect(await watched.exit).toBe(0);
    expect(watched.stderr).toMatch(/lab \w+ has ended/);
    await lab.exit;
    expect([bed.files(), bed.processes()]).toEqual([[], []]);
  });

  it('components of a broker are reached as well, by its directory wherever it is', async () => {
    const dir = join(bed.base, 'elsewhere', 'broker');
    mkdirSync(join(bed.base, 'elsewhere'), { mode: 0o700 });
    const script = bed.file(
      'switch.cfg',
      'local ld = require("L4").default_loader\nlocal c = ld:new_channel(); ld:start({ caps = { svr = c:svr() } }, "rom/l4vio_switch")\n',
    );
    const broker = bed.l4lab(['broker', script, '--run-dir', dir, ...PROGRAMS]);
    const component = (task: string) => bed.l4lab(['component', task, '--run-dir', dir]);
    const first = component('l4vio_switch');
    await first.saw(/Hello from l4virtio switch/);
    const add = async (name: string) => (await bed.done(['port', 'add', name, '--lab', dir])).status;
    await vi.waitFor(async () => expect(await add('one')).toBe(0), { timeout: 10_000 });
    const sender = await ok('port', 'run', '--lab', dir, 'one', 'rom/frame_client.js', 'send', '9', '60');
    expect(sender).toContain('start it with l4lab component frame_client.js');
    expect(await component('frame_client.js').exit).toBe(0);
    expect(await ok('stats', '--lab', dir, '--interval', '0')).toMatch(/one +port +\S+ +native +up +\S+ +9 /);
    first.child.kill('SIGKILL');
    await first.exit;
    const gone = await bed.done(['port', 'list', '--lab', dir]);
    expect([gone.status, gone.run.stderr]).toEqual([
      2,
      expect.stringMatching(/Cannot find a switch in lab broker/),
    ]);
    const second = component('l4vio_switch');
    await vi.waitFor(async () => expect(await add('two')).toBe(0), { timeout: 10_000 });
    expect(await ok('port', 'list', '--lab', dir)).toMatch(
      /^SWITCH.*\n\S+ +0 {2}one .*\n\S+ +1 {2}two .*\n$/,
    );
    for (const { child } of [second, broker]) child.kill('SIGTERM');
    await Promise.all([second.exit, broker.exit]);
    expect([existsSync(dir), bed.processes()]).toEqual([false, []]);
  });

  it('a lab without a switch, a switch that stands still, and no lab are told in two seconds', async () => {
    expect((await bed.done(['stats'])).run.stderr).toMatch(/Cannot find a lab as none is running/);
    const empty = bed.l4lab(['run', bed.file('empty.cfg', 'print("empty")'), ...PROGRAMS]);
    await empty.saw(/empty/);
    expect((await bed.done(['stats'])).run.stderr).toMatch(
      /Cannot find a switch in lab \w+ .* no running task of it is one/,
    );
    empty.child.kill('SIGTERM');
    await empty.exit;
    await startSwitches('');
    const pid = await pidOf('l4vio_switch');
    process.kill(pid, 'SIGSTOP');
    for (const args of [['stats'], ['capture', 'x'], ['port', 'list']]) {
      const { status, run } = await bed.done(args);
      expect([status, run.stderr]).toEqual([
        2,
        expect.stringMatching(/did not answer in time: is its process stopped/),
      ]);
    }
    process.kill(pid, 'SIGCONT');
    expect(await ok('port', 'list')).toBe('There are no ports.\n');
  });
});
