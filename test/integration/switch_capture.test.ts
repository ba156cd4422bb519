/** `l4lab stats` and `capture` against real labs, and every frame compared. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { INBOUND, OUTBOUND } from '../../services/common/capture/pcapng.ts';
import { Download, hashOfFile, WebServer } from './download_lab.ts';
import { type Run, TestBed } from './harness.ts';
import { numberedFrame } from './numbered_frame.ts';
import { interrupt, LIMIT, POLL, parseCapture, SwitchLab } from './switch_lab.ts';

const MIB = 2 ** 20;

let bed: TestBed;
let lab: SwitchLab;
beforeEach(() => {
  bed = new TestBed();
  lab = new SwitchLab(bed);
});
afterEach(() => bed.close());

/** Names of doorbells, FIFOs and shared memory of the lab. */
function resources(): string[] {
  const [dir] = readdirSync(bed.base);
  return ['b', 'm', 'c'].flatMap((part) => readdirSync(join(bed.base, dir as string, part))).sort();
}

describe('l4lab stats and capture', LIMIT, () => {
  it('agree with every frame that was sent, dropped and received', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'src', 'mac=02:00:00:00:00:01');
    await lab.ok('port', 'add', 'dst [0]');
    const file = join(bed.scratch, 'all.pcapng');
    const run = await lab.capturing('src', 'dst [0]', '-w', file);
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '1000', '300');
    expect(await lab.ports()).toMatchObject({
      src: { in: { packets: 1000, bytes: 300_000 }, out: { packets: 0 }, drops: [] },
      'dst [0]': {
        in: { packets: 0 },
        out: { packets: 0, bytes: 0 },
        drops: [{ reason: 'not_ready', direction: 'out', count: 1000 }],
      },
    });
    const logs = bed.l4lab(['logs', '-f']);
    await lab.ok('port', 'run', 'dst [0]', 'rom/frame_client.js', 'sink', '200');
    await logs.saw(/sink has buffers/);
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '200', '1514');
    const [, hash] = await logs.saw(/received ([0-9a-f]{64})/);
    await interrupt(run);
    logs.child.kill();

    const { of, statistics, packets } = parseCapture(readFileSync(file));
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
    await lab.start();
    await lab.ok('port', 'add', 'src');
    const lines = await lab.capturing('src', '-c', '2');
    const cut = await lab.capturing('src', '-w', '-', '--snaplen', '64', '--count', '3');
    const watched = bed.l4lab(['stats', '--watch', '--json', '--interval', '0.2']);
    await watched.saw(/"intervalMs":null/);
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '50', '100');
    await watched.saw(/"packets":50,"bytes":5000,"packetsPerSecond":[1-9]/);
    watched.child.kill('SIGINT');
    expect(await watched.exit).toBe(0);
    for (const line of watched.text.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('switches');
    expect(await lines.exit).toBe(0);
    expect(lines.text).toMatch(
      /^\d\d:\d\d:\d\d\.\d{6} src in {2}02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, 0x88b5, length 100\n.*\n$/,
    );
    expect(await cut.exit).toBe(0);
    const { packets } = parseCapture(cut.stdout);
    expect(packets.map(({ bytes, originalLength }) => [bytes.length, originalLength])).toEqual([
      [64, 100],
      [64, 100],
      [64, 100],
    ]);
  });

  it('go on with the other ports when one goes, and end with the last', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'one');
    await lab.ok('port', 'add', 'two');
    const twice = await lab.capturing('one', '-w', '-');
    const run = await lab.capturing('one', 'two', '-w', '-');
    await lab.ok('port', 'run', '--wait', 'one', 'rom/frame_client.js', 'send', '10', '60');
    await lab.ok('port', 'del', 'one');
    await run.saw(/port 'one' is gone/);
    await lab.ok('port', 'run', '--wait', 'two', 'rom/frame_client.js', 'send', '20', '60');
    await lab.ok('port', 'del', 'two');
    expect([await run.exit, await twice.exit]).toEqual([0, 0]);
    const { of, statistics } = parseCapture(run.stdout);
    expect([of('one', INBOUND).length, of('two', OUTBOUND).length, of('two', INBOUND).length]).toEqual([
      10, 10, 20,
    ]);
    expect(statistics.map(({ interface: { name }, received }) => [name, received])).toEqual([
      ['one', 10],
      ['two', 30],
    ]);
    expect(parseCapture(twice.stdout).of('one', INBOUND)).toHaveLength(10);
  });
});

describe('a capture whose reader', LIMIT, () => {
  it('is slow loses frames of the capture alone, and says how many', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'src');
    await lab.ok('port', 'add', 'dst');
    const run = await lab.capturing('src', '-w', '-');
    run.child.stdout?.pause();
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '20000', '1514');
    expect((await lab.ports()).src).toMatchObject({ in: { packets: 20_000 } });
    run.child.stdout?.resume();
    // It has all that the ring holds before it ends.
    await lab.ok('port', 'del', 'src');
    expect(await run.exit).toBe(0);
    const { packets, statistics } = parseCapture(run.stdout);
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

  it(
    'stands still costs a download nothing: nobody waits for it, and it has lost what its ring could not take',
    LIMIT,
    async () => {
      const web = await WebServer.start();
      const size = 24 * MIB;
      const stopped: Run[] = [];
      try {
        const download = new Download(bed, web.port, size, { awaits: 'go' });
        await expect.poll(async () => Object.keys(await lab.ports()), POLL).toContain('[0]');
        for (let n = 0; n < 2; n++) stopped.push(await lab.capturing('[0]', 'ixl-e1000', '-w', '-'));
        for (const { child } of stopped) child.kill('SIGSTOP');
        bed.file('go', '');
        expect(await download.end()).toEqual({ status: 0, sha256: await hashOfFile(size) });
        for (const { child } of stopped) child.kill('SIGCONT');
        for (const run of stopped) {
          expect(await run.exit).toBe(0);
          const { packets, statistics } = parseCapture(run.stdout);
          const sum = (what: 'received' | 'dropped') =>
            statistics.reduce((all, one) => all + Number(one[what]), 0);
          expect(sum('dropped')).toBeGreaterThan(0);
          expect(packets.length + sum('dropped')).toBe(sum('received'));
        }
      } finally {
        for (const { child } of stopped) child.kill('SIGCONT');
        await web.close();
      }
    },
  );

  it('is killed leaves nothing behind, and the port can be captured again', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'src');
    const before = resources();
    const run = await lab.capturing('src', '-w', '-');
    expect(resources().length).toBeGreaterThan(before.length);
    run.child.kill('SIGKILL');
    await expect.poll(resources, POLL).toEqual(before);
    const again = await lab.capturing('src', '-w', '-', '--count', '5');
    await lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', '5', '60');
    expect(await again.exit).toBe(0);
    expect(parseCapture(again.stdout).packets).toHaveLength(5);
    await expect.poll(resources, POLL).toEqual(before);
  });

  it('has closed its pipe ends quietly, also when nothing comes', async () => {
    await lab.start();
    await lab.ok('port', 'add', 'src');
    const run = await lab.capturing('src', '-w', '-');
    run.child.stdout?.destroy();
    expect(await run.exit).toBe(0);
    expect(run.stderr).toMatch(/^l4lab: capturing 'src' of switch 'l4vio_switch'\n$/);
  });
});
