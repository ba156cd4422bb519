/** Labs whose networks have no network card: what their READMEs say, with the bytes compared. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PcapngReader } from '#common/capture/reader';
import { ROOT, type Run, TestBed } from './harness.ts';

const LABS = join(ROOT, 'deploy/labs');

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  expect([bed.processes(), bed.files()]).toEqual([[], []]);
  await bed.close();
});

/** The words of the first `./l4lab` command in a lab's README; a redirection is left out. */
function command(lab: string): string[] {
  const readme = readFileSync(join(LABS, lab, 'README.md'), 'utf8');
  const line = /^ {4}\.\/l4lab ([^>\n]*)/m.exec(readme)?.[1];
  if (line === undefined) throw new Error(`${lab}/README.md has no line "    ./l4lab ..."`);
  return line.trim().split(' ');
}

async function done(args: readonly string[], status = 0): Promise<Run> {
  const run = bed.l4lab(args, { cwd: ROOT });
  expect(await run.exit, `${run.text}\n${run.stderr}`).toBe(status);
  return run;
}

/** Lines of one task. */
function linesOf(run: Run, tag: string): string[] {
  const start = `${tag.padEnd(8)}| `;
  return run.text
    .split('\n')
    .filter((line) => line.startsWith(start))
    .map((line) => line.slice(start.length));
}

/** Lua: curl is started when the test has made the file `go`. */
const PATIENT_CURL = `local L4 = require("L4")
local ld = L4.default_loader
local start = ld.start
function ld:start(options, command, environment)
  if command:match("^rom/curl") then while not io.open("rom/go") do L4.msleep(20) end end
  return start(self, options, command, environment)
end`;

const page = (lab: string, name: string) => readFileSync(join(LABS, lab, 'site', name), 'utf8');
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** A directory for --rom with site/big.bin, and that file's bytes. */
function bigFile(bytes: number): { rom: string; big: Buffer } {
  const rom = join(bed.scratch, 'rom');
  mkdirSync(join(rom, 'site'), { recursive: true });
  const big = randomBytes(bytes);
  writeFileSync(join(rom, 'site', 'big.bin'), big);
  return { rom, big };
}

describe('lan', () => {
  it('has two clients and a server on a switch without a network card', async () => {
    const run = await done(command('lan'));
    expect(run.stderr).toBe('');
    expect(`${linesOf(run, 'curl').join('\n')}\n`.endsWith(`\n${page('lan', 'pages/hello.txt')}`)).toBe(true);
    expect(`${linesOf(run, 'curl2').join('\n')}\n`.endsWith(`\n${page('lan', 'index.html')}`)).toBe(true);
    expect(linesOf(run, 'httpd').slice(-2).sort()).toEqual([
      '10.0.0.2 "GET /pages/hello.txt HTTP/1.1" 200 41',
      '10.0.0.3 "GET / HTTP/1.1" 200 93',
    ]);
    expect(linesOf(run, 'ned').at(-1)).toBe('curl has ended with 0, curl2 with 0');
  });

  it.each([['lan'], ['p2p']])('%s carries 16 MiB with the right hash', async (lab) => {
    const { rom, big } = bigFile(16 * 2 ** 20);
    const run = await done([
      'run',
      join(LABS, lab, `${lab}.cfg`),
      'big.bin',
      ...['--nic', 'none', '--rom', rom, '--wait-for', 'curl', '--raw', 'curl'],
    ]);
    expect([run.stdout.length, sha256(run.stdout)]).toEqual([big.length, sha256(big)]);
  });
});

describe('p2p', () => {
  it('joins a client and a server with a cable', async () => {
    const run = await done(command('p2p'));
    expect(linesOf(run, 'p2p').slice(0, 2)).toEqual([
      'Hello from l4vio_net_p2p',
      'Max number of buffers in virtqueue: 256',
    ]);
    expect(`${linesOf(run, 'curl').join('\n')}\n`.endsWith(`\n${page('p2p', 'index.html')}`)).toBe(true);
  });
});

describe('vlan', () => {
  it('has networks that do not meet, and who reaches nobody says so', async () => {
    const run = await done(command('vlan'));
    const last = (tag: string) => linesOf(run, tag).at(-1);
    expect([last('curl10'), last('curl20'), last('tagged')].map((line) => `${line}\n`)).toEqual([
      page('vlan', 'ten/index.html'),
      page('vlan', 'twenty/index.html'),
      page('vlan', 'twenty/index.html'),
    ]);
    for (const tag of ['cut', 'curl']) {
      expect(last(tag)).toMatch(
        /^curl: \(7\) Failed to connect to 10\.0\.0\.1 port 80 .*nobody on vn0 answers ARP requests/,
      );
    }
    expect(linesOf(run, 'ned')).toContain('in VLAN 10: 0, in VLAN 20: 0, tagged: 0');
    expect(last('ned')).toBe('trunk without the VLAN: 7, in VLAN 30: 7');
    expect(linesOf(run, 'httpd10').filter((line) => line.includes('GET'))).toEqual([
      '10.0.0.2 "GET / HTTP/1.1" 200 31',
    ]);
  });
});

describe('monitor', () => {
  it('writes a capture that has every byte of the page, with tags', async () => {
    const run = bed.l4lab([...command('monitor'), '--rom', bed.scratch, '-e', PATIENT_CURL], { cwd: ROOT });
    // A frame that nobody listens to yet is not captured.
    await run.saw(/netdump \| Listening on virtnet/);
    bed.file('go', '');
    expect(await run.exit, run.stderr).toBe(0);
    const reader = new PcapngReader();
    const frames = reader.push(run.stdout).map(({ bytes }) => Buffer.from(bytes));
    reader.end();
    const ofType = (type: number) => frames.filter((frame) => frame.readUInt16BE(16) === type);
    expect(frames.every((frame) => frame.readUInt32BE(12) === 0x81000007)).toBe(true);
    expect(ofType(0x0806).length).toBeGreaterThan(1);
    const wire = Buffer.concat(ofType(0x0800)).toString('latin1');
    expect(wire).toContain('GET / HTTP/1.1\r\n');
    expect(wire).toContain(page('monitor', 'index.html'));
  });
});
