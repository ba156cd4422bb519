/** The lab under pm2: the committed ecosystem file, scaling, reload, and what is left over. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { directoryPage } from '../../services/web/site.ts';
import { labScript } from './download_lab.ts';
import { offline, ROOT, TestBed } from './harness.ts';
import { type App, Pm2Bed } from './pm2_bed.ts';

const FILE = join(ROOT, 'deploy/pm2/ecosystem.config.cjs');
const TASKS = ['machine', 'io', 'l4vio_switch', 'ixl', 'curl', 'web', 'ned'];
const PAGE = directoryPage('/debian/');

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  await Pm2Bed.endAll();
  await bed.close();
});

function states(apps: readonly App[], name: string): string[] {
  return apps.filter((app) => app.name === name).map(({ status, exitCode }) => `${status} ${exitCode}`);
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('deploy/pm2/ecosystem.config.cjs', () => {
  it('is what l4lab pm2 writes', async () => {
    const committed = readFileSync(FILE, 'utf8');
    const words = /^\/\/ Made by: l4lab (.*)$/m.exec(committed)?.[1]?.split(' ') ?? [];
    const path = 'deploy/pm2/ecosystem.config.cjs';
    const elsewhere = join(bed.scratch, 'made.cjs');
    const { status, run } = await bed.done(
      words.map((word) => (word === path ? elsewhere : word)),
      { cwd: ROOT },
    );
    expect([status, run.text, run.stderr]).toEqual([0, '', '']);
    // Outside of the checkout it names the checkout.
    const made = readFileSync(elsewhere, 'utf8').replace(elsewhere, path);
    expect(made.replace(`'${ROOT.slice(0, -1)}'`, "join(__dirname, '../..')")).toBe(committed);
    expect(bed.files()).toEqual([]);
  });

  it('runs two labs of one user side by side; scales; leaves nothing', async () => {
    await using one = new Pm2Bed(bed);
    await using other = new Pm2Bed(bed);
    await Promise.all([one, other].map((daemon) => daemon.pm2('start', FILE)));
    for (const daemon of [one, other]) {
      await daemon.until('the page', () => (daemon.log('curl').length >= PAGE.length ? true : undefined));
      expect(daemon.log('curl')).toBe(PAGE);
    }
    const apps = await one.until('the end of curl', async () => {
      const list = await one.apps();
      return list.some(({ status }) => status === 'stopped') ? list : undefined;
    });
    expect(apps.map(({ name }) => name)).toEqual(TASKS);
    expect(states(apps, 'curl')).toEqual(['stopped 0']);
    expect(apps.filter(({ status }) => status === 'online').map(({ name }) => name)).toEqual(
      TASKS.filter((name) => name !== 'curl'),
    );
    expect(await one.pm2('logs', 'curl', '--nostream', '--lines', '100')).toContain('</html>');

    await one.pm2('scale', 'curl', '4');
    const scaled = await one.until('four downloads', async () => {
      const list = await one.apps();
      return states(list, 'curl').filter((state) => state === 'stopped 0').length === 4 ? list : undefined;
    });
    expect(scaled.map(({ restarts }) => restarts)).toEqual(scaled.map(() => 0));
    // pm2 writes what an app has printed a moment after it knows that it has ended.
    const addresses = await one.until('their output', () => {
      const found = one.log('curl', 'error').match(/IP address: \S+/g) ?? [];
      return found.length === 4 && one.log('curl').length === 4 * PAGE.length ? found : undefined;
    });
    expect(new Set(addresses).size).toBe(4);

    await one.pm2('delete', 'all');
    expect(one.processes()).toHaveLength(1);
    expect(bed.files().filter((name) => !name.includes('/'))).toHaveLength(1);
    expect(states(await other.apps(), 'machine')).toEqual(['online undefined']);
    await other.pm2('stop', 'all');
    expect((await other.apps()).map(({ status }) => status)).toEqual(TASKS.map(() => 'stopped'));
    expect(bed.files()).toEqual([]);
    for (const daemon of [one, other]) {
      await daemon.pm2('kill');
      // The command is over a moment before the daemon is.
      await daemon.until('the end of the daemon', () => daemon.processes().length === 0 || undefined);
      expect(daemon.sockets()).toEqual([]);
    }
  });

  it('says what to do when l4lab is not built', () => {
    const copy = join(bed.scratch, 'ecosystem.config.cjs');
    copyFileSync(FILE, copy);
    expect(() => createRequire(import.meta.url)(copy)).toThrow(
      /Cannot start the lab as l4lab is not built: npm run build in /,
    );
  });
});

describe('l4lab pm2', () => {
  /** What pm2 reads of the file for that script. */
  async function appsOf(body: string, ...options: string[]): Promise<Record<string, unknown>[]> {
    const script = bed.file('net.cfg', `local ld = require("L4").default_loader; ${body}`);
    const file = join(bed.scratch, 'eco.config.cjs');
    const { status, run } = await bed.done(['pm2', '-o', file, ...options, script, 'a b']);
    if (status !== 0) throw new Error(run.stderr);
    return (createRequire(import.meta.url)(file) as { apps: Record<string, unknown>[] }).apps;
  }

  it('follows restart policies, names files absolutely, and passes options on', async () => {
    const apps = await appsOf(
      `local c = ld:new_channel()
       ld:start({ caps = { svr = c:svr() } }, "rom/server")
       ld:start({ restart = "no", caps = { svr = c:svr() } }, "rom/once")
       ld:start({ log = { "client" } }, "rom/x")
       ld:start({ log = { "loop" } }, "rom/x")
       ld:start({ caps = { vbus = c } }, "rom/l4vio_switch --nic 0,name=lan --nic=1")`,
      ...['--restart', 'loop=always', '--nic', 'none', '-e', `x = "it's"`],
    );
    const policy = ({ autorestart, stop_exit_codes }: Record<string, unknown>) => [
      autorestart,
      stop_exit_codes,
    ];
    expect(apps.map((app) => [app.name, ...policy(app)])).toEqual([
      ['machine', true, undefined],
      ['server', true, undefined],
      ['once', false, undefined],
      ['client', true, [0]],
      ['loop', true, undefined],
      ['l4vio_switch', true, [0]],
      ['ixl', true, undefined],
      ['ixl1', true, undefined],
      ['ned', true, undefined],
    ]);
    const script = join(bed.scratch, 'net.cfg');
    const given = ['--nic', 'none', '-e', `x = "it's"`, '--restart', 'loop=always'];
    expect(apps.at(-1)).toMatchObject({ args: ['broker', ...given, script, 'a b'], cwd: ROOT.slice(0, -1) });
    expect(bed.files()).toEqual([]);
  });

  it.each([
    [
      ['--restart', 'crul'],
      /Cannot use --restart crul as the script starts no task of that name\. Its tasks: x\n/,
    ],
    [
      ['--web', 'w', '-e', 'n = "web"'],
      /Cannot make a service of task 'web' as there is a service of that name/,
    ],
    [['-o', '/nowhere/x.cjs'], /Cannot write \/nowhere\/x\.cjs \(-o\) as .*no such file or directory/],
  ])('refuses %j', async (options, message) => {
    const script = bed.file('net.cfg', 'require("L4").default_loader:start({ log = { n or "x" } }, "rom/x")');
    const { status, run } = await bed.done(['pm2', ...options, script]);
    expect([status, run.text]).toEqual([2, '']);
    expect(run.stderr).toMatch(message);
  });
});

describe('pm2 reload l4vio_switch', () => {
  const HALF = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('');
  let server: Server;
  let release: () => void;

  beforeEach(async () => {
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    server = createServer(async (_request, response) => {
      response.on('error', () => {});
      response.writeHead(200, { 'Content-Length': 2 * HALF.length });
      response.write(HALF);
      await released;
      response.end(HALF);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it('with a download running: it goes on in the same process, and nobody else is touched', async () => {
    await using daemon = new Pm2Bed(bed);
    for (const name of ['ixl.vbus', 'resolv.conf'])
      bed.file(name, readFileSync(join(ROOT, 'deploy/labs/curl', name), 'utf8'));
    // Not through pm2, which on a busy machine loses the last lines of an app that ends.
    const text = join(bed.scratch, 'text');
    const downloaded = () => (existsSync(text) ? readFileSync(text, 'utf8') : '');
    const script = labScript(bed, {
      body: `ld:start({ caps = { virtnet = function() return vswitch:create(0) end, etc = L4.Env.rom } },
        "rom/curl -s -S -o ${text} http://mirror/text", { IFCONFIG_IP4_vn0 = "dhcp" })`,
    });
    const file = join(bed.scratch, 'eco.config.cjs');
    const web = offline((server.address() as AddressInfo).port, 'mirror');
    const { status, run } = await bed.done(['pm2', ...web, '-o', file, script]);
    expect([status, run.stderr]).toEqual([0, '']);
    await daemon.pm2('start', file);
    await daemon.until('half of the text', () => (downloaded() === HALF ? true : undefined));
    const before = await daemon.apps();
    await daemon.pm2('reload', 'l4vio_switch');
    release();
    const after = await daemon.until('the end of curl', async () => {
      const apps = await daemon.apps();
      return states(apps, 'curl')[0] === 'stopped 0' ? apps : undefined;
    });
    expect(sha256(downloaded())).toBe(sha256(HALF + HALF));
    expect(after.find(({ name }) => name === 'curl')).toMatchObject({ restarts: 0 });
    const pids = (apps: readonly App[]) =>
      Object.fromEntries(apps.map(({ name, pid, restarts }) => [name, `${pid} ${restarts}`]));
    for (const name of ['machine', 'io', 'ned']) expect(pids(after)[name]).toBe(pids(before)[name]);
    expect(after.find(({ name }) => name === 'l4vio_switch')).toMatchObject({
      status: 'online',
      restarts: 1,
    });
    await daemon.pm2('delete', 'all');
    expect(bed.files()).toEqual([]);
  });
});
