/** The documented example with real processes: what a user of `l4lab run` sees. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { labScript, ROM, WebServer } from './download_lab.ts';
import { L4LAB, offline, PATIENCE_MS, ROOT, TestBed } from './harness.ts';

const SCRIPT = join(ROOT, 'deploy/labs/curl/curl.cfg');
const MIB = 2 ** 20;

let web: WebServer;
let port: number;
let bed: TestBed;

beforeAll(async () => {
  web = await WebServer.start();
  port = web.port;
});
afterAll(() => web.close());
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

async function fetchHash(path: string): Promise<{ bytes: number; sha256: string }> {
  const bytes = Buffer.from(await (await fetch(`http://127.0.0.1:${port}${path}`)).arrayBuffer());
  return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

function hashOf(bytes: Uint8Array): { bytes: number; sha256: string } {
  return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

describe('l4lab run deploy/labs/curl/curl.cfg', () => {
  it('prints what the documentation shows, then the page, in order', async () => {
    const { status, run } = await bed.done(['run', SCRIPT, ...offline(port), '--wait-for', 'curl']);
    expect([status, run.stderr]).toEqual([0, '']);
    const wanted = [
      'ned     | Ned says: Hi World!',
      "ned     | Ned: loading file: 'rom/curl.cfg'",
      'io      | Io service',
      'io      | Ready. Waiting for requests.',
      'l4vio_sw| SWI: Arguments:',
      'l4vio_sw| Hello from l4virtio switch',
      'curl    | Waiting for DHCP to configure interfaces...',
      "curl    | Interface 'vn0' configured via DHCP:",
      'curl    |   IP address: 10.0.2.15',
      'curl    |   Netmask: 255.255.255.0',
      'curl    |   Gateway: 10.0.2.2',
      'curl    | <h1>Index of /debian/</h1>',
    ];
    const lines = run.text.split('\n');
    const found = wanted.map((line) => lines.indexOf(line));
    expect(
      found.every((at) => at >= 0),
      run.text,
    ).toBe(true);
    expect(lines).toContain('ixl     | [INFO ] Link speed is 1000 Mbit/s');
    expect(bed.files()).toEqual([]);
    expect(bed.processes()).toEqual([]);
  });

  it('--raw writes exactly the served bytes', async () => {
    const { status, run } = await bed.done([
      'run',
      SCRIPT,
      ...offline(port),
      '--wait-for',
      'curl',
      '--raw',
      'curl',
    ]);
    const page = run.text.slice(run.text.indexOf('<!DOCTYPE'));
    const served = await (await fetch(`http://127.0.0.1:${port}/debian/`)).text();
    expect([status, page]).toEqual([0, served]);
    expect(run.text.startsWith('<!DOCTYPE')).toBe(true);
    expect(run.stderr).toContain('Hello from l4virtio switch');
  });
});

describe('the whole chain', () => {
  it('carries 64 MiB with the right hash', async () => {
    const script = labScript(bed, {
      body: `ld:start({ caps = port() }, "rom/curl -s -S http://mirror/bytes/${64 * MIB}", { IFCONFIG_IP4_vn0 = "dhcp" })`,
    });
    const { status, run } = await bed.done([
      'run',
      script,
      ...ROM,
      ...offline(port, 'mirror'),
      '--wait-for',
      'curl',
      '--raw',
      'curl',
    ]);
    expect(status, run.stderr).toBe(0);
    expect(hashOf(run.stdout)).toEqual(await fetchHash(`/bytes/${64 * MIB}`));
  });

  it('serves eight curls through one switch at once', async () => {
    const size = 4 * MIB;
    const script = labScript(bed, {
      body: `local curls = {}
for n = 1, 8 do
  curls[n] = ld:start({ caps = port(), log = { "curl" .. n, "g" } },
    string.format("rom/curl -s -S -o %s/page%d http://mirror/bytes/${size}", "${bed.scratch}", n),
    { IFCONFIG_IP4_vn0 = "dhcp" })
end
for n = 1, 8 do print("curl" .. n .. " ended with " .. tostring(curls[n]:wait())) end`,
    });
    const run = bed.l4lab(['run', '--wait-and-exit', script, ...ROM, ...offline(port, 'mirror'), '--json']);
    const wanted = await fetchHash(`/bytes/${size}`);
    for (const n of [1, 2, 3, 4, 5, 6, 7, 8]) {
      await run.saw(new RegExp(`"curl${n} ended with 0"`));
      expect(hashOf(readFileSync(join(bed.scratch, `page${n}`)))).toEqual(wanted);
    }
    run.child.kill('SIGINT');
    expect(await run.exit).toBe(130);
  });

  it('one program uses several interfaces', async () => {
    const script = labScript(bed, {
      body: `ld:start({ caps = { virtnet = vswitch:create(0), virtnet_b = vswitch:create(0, "name=second"), etc = L4.Env.rom } },
  "rom/curl -s -S http://mirror/bytes/1000",
  { IFCONFIG_IP4_vn0 = "dhcp", IFCONFIG_IP4_vn1 = "10.99.0.1/24" })`,
    });
    const args = ['run', script, ...ROM, ...offline(port, 'mirror'), '--wait-for', 'curl', '--raw', 'curl'];
    const { status, run } = await bed.done(args);
    expect(status, run.stderr).toBe(0);
    expect(hashOf(run.stdout)).toEqual(await fetchHash('/bytes/1000'));
    expect(run.stderr).toMatch(/Interface 'vn\d' configured via DHCP:\n.*10\.0\.2\.15/);
    expect(run.stderr).toMatch(/Interface 'vn\d' configured statically:\n.*10\.99\.0\.1/);
  });

  it('two labs at once know nothing of each other', async () => {
    const args = ['run', SCRIPT, ...offline(port), '--wait-for', 'curl', '--raw', 'curl'];
    const both = await Promise.all([bed.done(args), bed.done(args)]);
    for (const { status, run } of both) {
      expect([status, run.text.includes('<h1>Index of /debian/</h1>')], run.stderr).toEqual([0, true]);
    }
    expect(bed.files()).toEqual([]);
  });
});

describe('the end of a lab', () => {
  it('Ctrl-C ends every process and removes every file', async () => {
    const run = bed.l4lab(['run', SCRIPT, ...offline(port)]);
    await run.saw(/<h1>Index of/);
    expect(bed.processes().length).toBeGreaterThanOrEqual(5);
    run.child.kill('SIGINT');
    expect(await run.exit).toBe(130);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it('kill -9 of the launcher leaves no process, and the next start no file', async () => {
    const run = bed.l4lab(['run', SCRIPT, ...offline(port)]);
    await run.saw(/<h1>Index of/);
    const pids = bed.processes();
    run.child.kill('SIGKILL');
    await run.exit;
    await expect.poll(() => bed.processes(), { timeout: PATIENCE_MS }).toEqual([]);
    expect(pids.length).toBeGreaterThanOrEqual(5);
    expect(bed.files()).not.toEqual([]);
    const { status, run: next } = await bed.done(['run', SCRIPT, ...offline(port), '--wait-for', 'curl']);
    expect(status).toBe(0);
    expect(next.stderr).toMatch(/cleaned the leftovers of a lab whose launcher was killed/);
    expect(bed.files()).toEqual([]);
  });

  it('ps, logs and stop show and end a running lab', async () => {
    const run = bed.l4lab(['run', SCRIPT, ...offline(port)]);
    await run.saw(/<h1>Index of/);
    const { run: ps } = await bed.done(['ps', '--json']);
    const [lab] = JSON.parse(ps.text) as [
      { id: string; tasks: { name: string; state: string }[]; nics: { mac: string }[] },
    ];
    expect(lab.tasks.map((task) => task.name).sort()).toEqual(
      expect.arrayContaining(['io', 'ixl', 'l4vio_switch']),
    );
    expect(lab.nics).toMatchObject([{ mac: '52:54:00:12:34:56' }]);
    const { run: logs } = await bed.done(['logs', 'curl']);
    expect(logs.text).toContain('<h1>Index of /debian/</h1>');
    expect(logs.text).not.toContain('Io service');
    const { run: stopped } = await bed.done(['stop']);
    expect(stopped.text).toMatch(new RegExp(`^stopped ${lab.id}`));
    expect(await run.exit).toBe(143);
    expect(bed.files()).toEqual([]);
    expect((await bed.done(['ps'])).run.text).toBe('No lab is running.\n');
  });
});

it('the launcher is executable as it is', async () => {
  const child = spawn(L4LAB, ['--version'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
});
