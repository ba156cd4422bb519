/** `l4lab port` against real labs, and which labs and switches commands find. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestBed } from './harness.ts';
import { interrupt, LIMIT, POLL, PROGRAMS, parseCapture, SwitchLab } from './switch_lab.ts';

let bed: TestBed;
let lab: SwitchLab;
beforeEach(() => {
  bed = new TestBed();
  lab = new SwitchLab(bed);
});
afterEach(() => bed.close());

describe('l4lab port', LIMIT, () => {
  it('adds a port for a program that loses its device when the port is deleted; others go on', async () => {
    const run = await lab.start();
    await lab.ok('port', 'add', 'other', 'vlan=access=7');
    const added = await lab.ok('port', 'add', 'victim', '--run', 'rom/frame_client.js sink 1');
    expect(added).toMatch(
      /^Created port 'victim' \(1\), MAC .*\nTask 'frame_client.js' runs on port 'victim'/,
    );
    await run.saw(/sink has buffers/);
    expect(await lab.ok('port', 'list')).toMatch(
      /1 {2}victim +port +\S+ +native +up +ready +frame_client.js\n/,
    );
    expect(await lab.ok('port', 'del', 'victim')).toMatch(/task 'frame_client.js' has lost its network/);
    await run.saw(/frame_cl\| .*Cannot use "virtnet" any more as its server has given it up/);
    expect(Object.keys(await lab.ports())).toEqual(['other']);
    const short = await lab.ok('port', 'add', 'short', '--wait', '--run', 'rom/frame_client.js send 3 60');
    expect(short).toContain("port 'short'");
    await expect.poll(async () => Object.keys(await lab.ports()), POLL).toEqual(['other']);
  });

  it('takes links down and up', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'src');
    await lab.ok('port', 'add', 'dst');
    expect(await lab.ok('port', 'link', 'src', 'down')).toMatch(/^Link down at port 'src' \(0\)/);
    const run = await lab.capturing('src', '-w', '-');
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '5', '60');
    expect(await lab.ports()).toMatchObject({
      src: { link: 'down', in: { packets: 5 }, drops: [{ reason: 'link_down', direction: 'in', count: 5 }] },
      dst: { link: 'up', out: { packets: 0 }, drops: [] },
    });
    await lab.ok('port', 'link', 'src', 'up');
    await lab.ok('port', 'link', 'dst', 'down');
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '7', '60');
    expect(await lab.ports()).toMatchObject({
      src: { link: 'up', in: { packets: 12 }, drops: [{ count: 5 }] },
      dst: { link: 'down', drops: [{ reason: 'link_down', direction: 'out', count: 7 }] },
    });
    await interrupt(run);
    const dropped = parseCapture(run.stdout).packets.filter(({ comment }) => comment.includes('link_down'));
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
    const run = bed.l4lab(['run', script, ...PROGRAMS, '--restart', 'l4vio_switch']);
    await run.saw(/ports: *\n/);
    await lab.ok('port', 'add', 'src', 'vlan=access=7');
    await lab.ok('port', 'add', 'dst', 'vlan=access=7', 'mac=02:00:00:00:00:07');
    await run.saw(/ports: src dst/);
    const before = await lab.ok('port', 'list');
    for (let kill = 1; kill <= 2; kill++) {
      process.kill(await lab.pidOf('l4vio_switch'), 'SIGKILL');
      await run.saw(new RegExp(`(Started again, with the ports src dst[^]*){${kill}}`));
      await expect.poll(async () => (await bed.done(['port', 'list'])).run.text, POLL).toBe(before);
      await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '9', '60');
      expect(await lab.ports()).toMatchObject({
        src: { in: { packets: 9 } },
        dst: { mac: '02:00:00:00:00:07', drops: [{ reason: 'not_ready', count: 9 }] },
      });
    }
    // The reader has mapped its page before all of that.
    await lab.ok('port', 'del', 'dst');
    await lab.ok('port', 'add', 'new');
    await run.saw(/ports: src new/);
    run.child.kill('SIGINT');
    await run.exit;
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it('refuses with a sentence what cannot be', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'one');
    const refusals: [string[], RegExp][] = [
      [['port', 'add', 'one'], /Cannot create port 'one' as its name must not be in use/],
      [['port', 'add', 'two', 'vlan=access=4095'], /VLAN access port id '4095': it must be 1..4094/],
      [['port', 'add', 'name=two', 'vlan=access=4'], /without '=': l4lab port add two vlan=access=4$/m],
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

describe('labs and switches', LIMIT, () => {
  it('several switches are told apart by their tasks and by their ports', async () => {
    await lab.start(['', '-p 2']);
    await lab.ok('port', 'add', '--switch', 'l4vio_switch-2', 'there');
    expect((await bed.done(['port', 'add', 'x'])).run.stderr).toMatch(
      /name one with --switch: l4vio_switch, l4vio_switch-2/,
    );
    expect(await lab.ok('stats', '--interval', '0', 'l4vio_switch-2')).toMatch(
      /^switch l4vio_switch-2 of lab .*: 1 of 2 ports/,
    );
    const run = await lab.capturing('there');
    expect(run.stderr).toContain("capturing 'there' of switch 'l4vio_switch-2'");
    await interrupt(run);
    expect(await lab.ok('port', 'del', 'there')).toMatch(/Removed port 'there'/);
  });

  it('a switch that was killed and is started again is found again, also by those who watch', async () => {
    const run = await lab.start([''], '--restart', 'l4vio_switch=always');
    await lab.ok('port', 'add', 'before');
    const watched = bed.l4lab(['stats', '--watch', '--json', '--interval', '0.2']);
    await watched.saw(/"name":"before"/);
    const capture = await lab.capturing('before', '-w', '-');
    process.kill(await lab.pidOf('l4vio_switch'), 'SIGKILL');
    expect(await capture.exit).toBe(0);
    expect(capture.stderr).toMatch(/switch 'l4vio_switch' is gone/);
    await lab.added('after');
    await watched.saw(/"name":"after"/);
    expect(Object.keys(await lab.ports())).toEqual(['before', 'after']);
    run.child.kill('SIGTERM');
    expect(await watched.exit).toBe(0);
    expect(watched.stderr).toMatch(/lab \w+ has ended/);
    await run.exit;
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
    await lab.added('one', '--lab', dir);
    const sender = await lab.ok('port', 'run', '--lab', dir, 'one', 'rom/frame_client.js', 'send', '9', '60');
    expect(sender).toContain('start it with l4lab component frame_client.js');
    expect(await component('frame_client.js').exit).toBe(0);
    expect(await lab.ok('stats', '--lab', dir, '--interval', '0')).toMatch(
      /one +port +\S+ +native +up +\S+ +9 /,
    );
    first.child.kill('SIGKILL');
    await first.exit;
    const gone = await bed.done(['port', 'list', '--lab', dir]);
    expect([gone.status, gone.run.stderr]).toEqual([
      2,
      expect.stringMatching(/Cannot find a switch in lab broker/),
    ]);
    const second = component('l4vio_switch');
    await lab.added('two', '--lab', dir);
    expect(await lab.ok('port', 'list', '--lab', dir)).toMatch(
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
    await lab.start();
    const pid = await lab.pidOf('l4vio_switch');
    process.kill(pid, 'SIGSTOP');
    for (const args of [['stats'], ['capture', 'x'], ['port', 'list']]) {
      const { status, run } = await bed.done(args);
      expect([status, run.stderr]).toEqual([
        2,
        expect.stringMatching(/did not answer in time: is its process stopped/),
      ]);
    }
    process.kill(pid, 'SIGCONT');
    expect(await lab.ok('port', 'list')).toBe('There are no ports.\n');
  });
});
