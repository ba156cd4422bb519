/** `l4lab compose`: the committed file is what it writes, and scripts that it cannot read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ROOT, TestBed } from './harness.ts';

const SCRIPT = 'deploy/labs/compose/compose.cfg';

describe('l4lab compose', () => {
  let bed: TestBed;
  beforeEach(() => {
    bed = new TestBed();
  });
  afterEach(() => bed.close());

  it('writes docker-compose.yml as it is committed, and leaves nothing', async () => {
    const options = ['--web', 'ftp.de.debian.org', '--tap', 'deploy/labs/tap/tap.cfg'];
    const { status, run } = await bed.done(['compose', ...options, SCRIPT], { cwd: ROOT });
    expect([status, run.stderr]).toEqual([0, '']);
    expect(run.text).toBe(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'));
    expect(bed.files()).toEqual([]);
  });

  it('says of a script that never ends what is wrong with it', async () => {
    bed.file('loop.cfg', 'local L4 = require("L4"); while not io.open("rom/there") do L4.msleep(10) end');
    const { status, run } = await bed.done(['compose', 'loop.cfg']);
    expect([status, run.text]).toEqual([2, '']);
    expect(run.stderr).toMatch(
      /Cannot find out what loop\.cfg starts as it has not ended after 5 s: .*a loop/,
    );
    expect(bed.files()).toEqual([]);
  });

  it('of a script that fails: its error and place', async () => {
    bed.file('bad.cfg', 'local x = nil\nx.y = 1');
    bed.file(
      'late.cfg',
      'local L4 = require("L4"); L4.default_loader:start({}, "rom/x")\nL4.default_loader:new_channel():create(0)',
    );
    for (const [name, message] of [
      ['bad', /bad\.cfg:2: attempt to index a nil value/],
      ['late', /late\.cfg:2: Cannot call 'create' .* nobody can ever answer/],
    ] as const) {
      const { status, run } = await bed.done(['compose', `${name}.cfg`]);
      expect([status, run.text]).toEqual([2, '']);
      expect(run.stderr).toMatch(message);
    }
    expect(bed.files()).toEqual([]);
  });

  it.each([
    ['curl', 'machine io l4vio_switch ixl | curl'],
    ['lan', 'machine switch | httpd curl curl2'],
    ['monitor', 'machine switch | netdump httpd curl'],
    ['p2p', 'machine p2p | httpd curl'],
    ['script', 'machine | greeter words tree first second sleeper adder'],
    ['vbus', 'machine io sw-left ixl sw-right ixl-2 | '],
    ['vlan', 'machine switch | httpd10 httpd20 curl10 curl20 tagged cut curl'],
  ])('reads the lab %s: %s', async (lab, services) => {
    const { status, run } = await bed.done(['compose', `deploy/labs/${lab}/${lab}.cfg`], { cwd: ROOT });
    expect([status, run.stderr]).toEqual([0, '']);
    const found = [...run.text.matchAll(/^ {2}([\w-]+):\n((?: {4}.*\n)*)/gm)].filter(([, , text]) =>
      text?.includes('["component"'),
    );
    const names = (serves: boolean) =>
      found.filter(([, , text]) => text?.includes('healthcheck') === serves).map(([, name]) => name);
    expect(`${names(true).join(' ')} | ${names(false).join(' ')}`).toBe(services);
    // Its servers must not wait for a script that waits for them.
    const condition = /ned: \{condition: (\w+)\}/.exec(run.text)?.[1];
    expect(condition).toBe('service_started');
  });

  it('publishes ports of this host, and quotes what YAML and shells would take for something else', async () => {
    bed.file(
      'net.cfg',
      `local ld = require("L4").default_loader
       ld:start({ log = { "on" }, caps = { svr = ld:new_channel():svr() } }, "rom/l4vio_switch --vxlan vni=1,remote=192.0.2.1 --vxlan=vni=2,port=99,remote=192.0.2.1")
       ld:start({ log = { "null" } }, "rom/x")`,
    );
    const forwards = ['8080=10.0.2.15:80', 'udp:0.0.0.0:53=10.0.2.15:53'];
    const options = forwards.flatMap((forward) => ['--host-forward', forward]);
    const { status, run } = await bed.done(['compose', ...options, '-e', 'x = "$HOME"\ny = 1', 'net.cfg']);
    expect([status, run.stderr]).toEqual([0, '']);
    expect(run.text.split('\n')[0]).toBe(
      `# Made by: l4lab compose --host-forward ${forwards.join(' --host-forward ')} -e $'x = "$HOME"\\u000ay = 1' net.cfg`,
    );
    expect(run.text).toContain(
      '"--host-forward", "0.0.0.0:8080=10.0.2.15:80", "--host-forward", "udp:0.0.0.0:53=10.0.2.15:53"',
    );
    expect(run.text).toContain('"-e", "x = \\"$$HOME\\"\\ny = 1"');
    expect(run.text).toMatch(/machine:\n[\s\S]*ports: \["127\.0\.0\.1:8080:8080", "0\.0\.0\.0:53:53\/udp"\]/);
    expect(run.text).toMatch(
      / {2}"on":\n[\s\S]*networks: \[default\]\n {4}ports: \["4789:4789\/udp", "99:99\/udp"\]/,
    );
    expect(run.text).toMatch(/ {2}"null":\n[\s\S]*"on": \{condition: service_healthy\}/);
  });

  it.each([
    [['--nic', 'e1000,wire=tap:lab0'], /neither interfaces nor files .*or --tap SCRIPT/],
    [['--nic', 'e1000,record=x.pcapng'], /neither interfaces nor files .*l4lab capture/],
    [['--web', 'a/b'], /Cannot use --web a\/b as it must be the name of a host/],
    [['--tap', 'deploy/labs/none.cfg'], /Cannot use --tap deploy\/labs\/none\.cfg as there is no such file/],
  ])('refuses %j', async (options, message) => {
    const { status, run } = await bed.done(['compose', ...options, SCRIPT], { cwd: ROOT });
    expect([status, run.text, run.stderr]).toEqual([2, '', expect.stringMatching(message)]);
  });

  it('refuses a script for --tap that the image does not have, and a task with the name of a service', async () => {
    bed.file('net.cfg', 'require("L4").default_loader:start({ log = { "shm" } }, "rom/curl");');
    const tap = await bed.done(['compose', '--tap', 'net.cfg', join(ROOT, SCRIPT)]);
    expect(tap.run.stderr).toMatch(/Cannot use --tap net\.cfg as it must be in the image: name a script in/);
    const shm = await bed.done(['compose', 'net.cfg']);
    expect(shm.run.stderr).toMatch(/task 'shm' as there is a service of that name already: give it another/);
    expect([tap.status, shm.status]).toEqual([2, 2]);
  });

  it('follows restart policies of the script and of the command line', async () => {
    bed.file(
      'net.cfg',
      `local ld = require("L4").default_loader
       ld:start({ restart = "on-failure", log = { "a" } }, "rom/x")
       ld:start({ restart = "always", log = { "b" } }, "rom/x")
       ld:start({ log = { "c" } }, "rom/x")
       ld:start({ restart = "always", log = { "d" } }, "rom/x")`,
    );
    const { status, run } = await bed.done(['compose', '--restart', 'd=no', 'net.cfg']);
    expect([status, run.stderr]).toEqual([0, '']);
    const policies = [...run.text.matchAll(/^ {2}(\w+):\n(?: {4}.*\n)*? {4}restart: (.*)$/gm)];
    expect(policies.map(([, name, policy]) => `${name} ${policy}`)).toEqual([
      'shm unless-stopped',
      'ned unless-stopped',
      'machine unless-stopped',
      'a on-failure',
      'b unless-stopped',
      'c "no"',
      'd "no"',
    ]);
    expect(run.text).toContain('command: ["broker", "--restart", "d=no", "/lab/net.cfg"]');
  });

  it('has a driver for each --nic of a switch, none for one that drives its NICs itself', async () => {
    const services = async (options: string) => {
      bed.file(
        'net.cfg',
        `local L4 = require("L4"); local ld = L4.default_loader;
ld:start({ caps = { vbus = ld:new_channel(), svr = ld:new_channel():svr() } }, "rom/l4vio_switch ${options}");`,
      );
      const { run } = await bed.done(['compose', 'net.cfg']);
      return [...run.text.matchAll(/^ {2}(ixl\d*):/gm)].map((match) => match[1]);
    };
    expect(await services('')).toEqual(['ixl']);
    expect(await services('--nic 0,name=lan --nic=2')).toEqual(['ixl', 'ixl2']);
    expect(await services('--nic 1 --ixl=in-process')).toEqual([]);
  });

  it('mounts a script from elsewhere', async () => {
    bed.file('net.cfg', 'local L4 = require("L4"); L4.default_loader:start({ caps = {} }, "rom/curl");');
    const { status, run } = await bed.done(['compose', 'net.cfg', '--nic', 'none']);
    expect([status, run.stderr]).toEqual([0, '']);
    expect(run.text).toContain('command: ["broker", "--nic", "none", "/lab/net.cfg"]');
    expect(run.text).toContain('volumes: ["./:/lab:ro"]');
  });
});
