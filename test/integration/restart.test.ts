/** Restart policies in a real lab: servers are killed and come back, new clients work. */
import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { fileBlocks } from '../../services/web/site.ts';
import { labScript, ROM, signalTask, WebServer } from './download_lab.ts';
import { offline, PATIENCE_MS, type Run, TestBed } from './harness.ts';

const SIZE = 2 ** 20;
const PATIENCE = { timeout: PATIENCE_MS };
const IDLE = `export async function main(env) {
  console.log("up");
  await new Promise((end) => env.signal.addEventListener("abort", end));
}`;

let web: WebServer;
let bed: TestBed;

beforeAll(async () => {
  web = await WebServer.start();
});
afterAll(() => web.close());
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

/** A lab whose tasks `go1`, `go2`, ... start a download when they end; the bytes come on stdout. */
function start(downloads: number, ...options: string[]): Run {
  bed.file('idle.mjs', IDLE);
  const script = labScript(bed, {
    body: `for n = 1, ${downloads} do
  ld:start({ log = { "go" .. n } }, "rom/idle.mjs"):exit_handler(function()
    ld:start({ caps = port() }, "rom/curl -s -S http://mirror/bytes/${SIZE}", { IFCONFIG_IP4_vn0 = "dhcp" })
      :exit_handler(function(code) print("download", n, "ended with", code) end)
  end)
end`,
  });
  return bed.l4lab(['run', script, ...ROM, ...offline(web.port, 'mirror'), '--raw', 'curl', ...options]);
}

/** Hash of what so many downloads bring. */
async function hashOf(downloads: number): Promise<string> {
  const hash = createHash('sha256');
  for (let i = 0; i < downloads; i++) for await (const block of fileBlocks(SIZE)) hash.update(block);
  return hash.digest('hex');
}

describe('a lab with --restart', () => {
  it('has io and the switch again after kill -9; downloads started afterwards are right', async () => {
    const run = start(3, '--restart', 'io', '--restart', 'l4vio_switch=always');
    const download = async (n: number) => {
      await run.saw(new RegExp(`go${n} +\\| up`));
      signalTask(bed, `go${n}`, 'SIGKILL');
      await run.saw(new RegExp(`download\\s+${n}\\s+ended with\\s+0`));
    };
    await download(1);
    signalTask(bed, 'io', 'SIGKILL');
    await run.saw(/task 'io' was ended by SIGKILL; it is started again in 500 ms \(restart "on-failure"\)/);
    await run.saw(/(io {6}\| Ready\. Waiting[\s\S]*){2}/);
    await download(2);
    signalTask(bed, 'l4vio_switch', 'SIGKILL');
    // Its port is asked for while the switch is away: the script waits.
    await run.saw(/task 'l4vio_switch' was ended by SIGKILL; it is started again in 500 ms/);
    await download(3);
    const { run: ps } = await bed.done(['ps']);
    expect(ps.text).toMatch(/ io +running \(1 restart\)/);
    expect(ps.text).toMatch(/ l4vio_switch +running \(1 restart\)/);
    run.child.kill('SIGINT');
    expect(await run.exit, run.stderr).toBe(130);
    expect(createHash('sha256').update(run.stdout).digest('hex')).toBe(await hashOf(3));
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it('ends at once on Ctrl-C though a task waits to be started again', async () => {
    const run = start(0, '--restart', 'io=always', '--json');
    // Waits grow; the fourth is long enough for a busy machine to see that nothing is started in it.
    for (const life of [1, 2, 3, 4]) {
      await run.saw(new RegExp(`("text":"Ready\\. Waiting[\\s\\S]*){${life}}`));
      signalTask(bed, 'io', 'SIGKILL');
    }
    await run.saw(/started again in 4000 ms/);
    run.child.kill('SIGINT');
    expect(await run.exit, run.stderr).toBe(130);
    expect(run.stderr.match(/"kind":"start"[^\n]*"rom\/io"/g)).toHaveLength(4);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it('removes what a killed task has left, while the lab goes on', async () => {
    const run = bed.l4lab(['run', labScript(bed, { body: '' }), ...ROM]);
    const shared = () => bed.files().filter((path) => /\/[mb]\//.test(path));
    const ready = async () => {
      const { run: stats } = await bed.done(['stats', '--json', '--interval', '0']);
      const [lan] = (JSON.parse(stats.text || '{}').switches ?? []) as { ports: { ready: boolean }[] }[];
      return lan?.ports.map((port) => port.ready) ?? [];
    };
    await run.saw(/Link speed/);
    await expect.poll(ready, PATIENCE).toEqual([true]);
    const before = shared();
    signalTask(bed, 'ixl', 'SIGKILL');
    await run.saw(/NIC is back/);
    await expect.poll(ready, PATIENCE).toEqual([true]);
    // As much as before, but the new driver's.
    const now = () => {
      const paths = shared();
      return { count: paths.length, same: before.every((path) => paths.includes(path)) };
    };
    await expect.poll(now, PATIENCE).toEqual({ count: before.length, same: false });
    run.child.kill('SIGINT');
    expect(await run.exit, run.stderr).toBe(130);
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it.each(['io=sometimes', '=always'])('refuses --restart %s', async (value) => {
    const { status, run } = await bed.done(['run', bed.file('x.cfg', ''), '--restart', value]);
    expect([status, run.stderr]).toEqual([
      2,
      expect.stringMatching(/^l4lab: Cannot use --restart \S+ as [^\n]+\n$/),
    ]);
  });
});
