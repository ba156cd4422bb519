/** `l4lab compose`: the committed file is what it writes, and scripts that it cannot read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ROOT, TestBed } from './harness.ts';

const SCRIPT = 'deploy/labs/compose/compose.cfg';

describe('l4lab compose', { timeout: 30_000 }, () => {
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

  it('says of a script that blocks where it waits and what to write instead', async () => {
    const { status, run } = await bed.done(['compose', 'deploy/labs/curl/curl.cfg'], { cwd: ROOT });
    expect(status).toBe(2);
    expect(run.text).toBe('');
    expect(run.stderr).toMatch(/as it has not ended after 5 s \(rom\/curl\.cfg:27: waiting for a server on/);
    expect(run.stderr).toContain('e.g. virtnet = function() return vswitch:create(0) end');
    expect(bed.files()).toEqual([]);
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
