/** VXLAN ports of real switches: one to the other over loopback, and with the Linux kernel's vxlan device in a namespace. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashOfFile, WEB_SERVER } from './download_lab.ts';
import { ROOT, TestBed } from './harness.ts';

const MIB = 2 ** 20;
const CHECKSUMS_OFF = join(ROOT, 'dist/test/integration/checksums_off.js');

let bed: TestBed;
const children: ChildProcess[] = [];

beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  await bed.close();
  for (const child of children.splice(0)) {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await gone;
  }
});

/** A switch without NIC, with that option, and one program on it. */
function lab(name: string, option: string, program: string, ip: string): string {
  return bed.file(
    `${name}.cfg`,
    `local L4 = require("L4");
local ld = L4.default_loader;
local lan = ld:new_channel();
ld:start({ caps = { svr = lan:svr() } }, "rom/l4vio_switch -v ${option}");
ld:start({ caps = { virtnet = lan:create(0, "name=${name}"), rom = L4.Env.rom }, log = { "${name}", "g" } },
         "${program}", { IFCONFIG_IP4_vn0 = "${ip}/24" });
`,
  );
}

/** A process that keeps a network namespace of its own. */
async function namespace(): Promise<string> {
  const child = spawn('unshare', ['-n', 'sh', '-c', 'ip link set lo up && echo up && exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return String(child.pid);
}

const within = (pid: string) => ['nsenter', '-t', pid, '-n'] as const;
const ip = (pid: string, words: string) =>
  execFileSync('nsenter', ['-t', pid, '-n', 'ip', ...words.split(' ')], { encoding: 'utf8' });

/** Why namespaces with a vxlan device cannot be made here. */
function refusal(): string | undefined {
  const { status, stderr } = spawnSync(
    'unshare',
    ['-n', 'ip', 'link', 'add', 'x', 'type', 'vxlan', 'id', '1', 'dstport', '4789'],
    { encoding: 'utf8' },
  );
  return status === 0 ? undefined : stderr.trim() || 'no unshare';
}

describe('VXLAN', () => {
  it('joins two switches: a download from one to the other, and only for those who name each other', async () => {
    // Addresses that no other run has, and a port that the kernel gives nobody by itself.
    const [x, y] = [20 + randomInt(200), randomInt(256)];
    const port = 20_000 + randomInt(12_000);
    const end = (me: number, other: number) =>
      `--vxlan vni=7,port=${port},local=127.${x}.${y}.${me},remote=127.${x}.${y}.${other}:${port}`;
    const bytes = bed.file('big', 'l4lab '.repeat(400_000));
    const server = bed.l4lab(['run', lab('web', end(1, 2), 'rom/httpd rom/', '10.1.0.1'), '--nic', 'none'], {
      env: { L4LAB_RUN_BASE: bed.base },
    });
    await server.saw(/web {5}\| .*serv/i);
    const url = 'http://10.1.0.1/big';
    const client = bed.l4lab([
      'run',
      lab('curl', end(2, 1), `rom/curl -s ${url}`, '10.1.0.2'),
      '--nic',
      'none',
      '--wait-for',
      'curl',
      '--raw',
      'curl',
    ]);
    expect(await client.exit, client.stderr).toBe(0);
    const hash = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
    expect(hash(client.stdout)).toBe(hash(readFileSync(bytes)));
    expect(client.stderr).toMatch(/Port 'vxlan7' \(0\): VXLAN 7 with 127\.\d+\.\d+\.1:/);

    const stranger = bed.l4lab([
      'run',
      lab('curl', end(3, 1), `rom/curl -s --connect-timeout 2 ${url}`, '10.1.0.3'),
      '--nic',
      'none',
      '--wait-for',
      'curl',
    ]);
    expect(await stranger.exit).toBe(28);
  });

  it('says what is wrong with an address that this host does not have', async () => {
    const script = lab('curl', '--vxlan vni=7,remote=127.0.0.2,local=192.0.2.77', 'rom/curl', '10.1.0.2');
    const run = bed.l4lab(['run', script, '--nic', 'none', '--wait-for', 'l4vio_switch']);
    expect(await run.exit).toBe(1);
    expect(run.text).toMatch(
      /Cannot open VXLAN port 'vxlan7' at 192\.0\.2\.77:4789 \(bind: EADDRNOTAVAIL\): this host has no such address/,
    );
  });

  const reason = refusal();
  if (reason) console.warn(`test/integration/vxlan: the kernel's device is left out as ${reason}`);

  it.skipIf(reason)(
    'speaks with the vxlan device of Linux: ARP, ping size, 16 MiB with the right hash',
    async () => {
      const [ours, theirs] = [await namespace(), await namespace()];
      ip(ours, `link add va mtu 1600 type veth peer name vb mtu 1600 netns ${theirs}`);
      for (const [pid, device, address] of [
        [ours, 'va', '10.9.0.1'] as const,
        [theirs, 'vb', '10.9.0.2'] as const,
      ]) {
        ip(pid, `addr add ${address}/24 dev ${device}`);
        ip(pid, `link set ${device} up`);
      }
      ip(theirs, 'link add vx0 mtu 1500 type vxlan id 42 dstport 4789 local 10.9.0.2 remote 10.9.0.1');
      ip(theirs, 'addr add 192.168.7.1/24 dev vx0');
      ip(theirs, 'link set vx0 up');
      execFileSync('nsenter', ['-t', theirs, '-n', process.execPath, CHECKSUMS_OFF, 'vx0']);
      const web = spawn('nsenter', ['-t', theirs, '-n', process.execPath, WEB_SERVER, '80', '192.168.7.1'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(web);
      await once(web.stdout as NodeJS.ReadableStream, 'data');
      const script = lab(
        'curl',
        '--vxlan vni=42,remote=10.9.0.2,local=10.9.0.1',
        `rom/curl -s http://192.168.7.1/bytes/${16 * MIB}`,
        '192.168.7.2',
      );
      const run = bed.l4lab(['run', script, '--nic', 'none', '--wait-for', 'curl', '--raw', 'curl'], {
        under: within(ours),
      });
      expect(await run.exit, run.stderr).toBe(0);
      expect(createHash('sha256').update(run.stdout).digest('hex')).toBe(await hashOfFile(16 * MIB));
      const neighbours = ip(theirs, 'neigh show dev vx0');
      expect(neighbours).toMatch(/^192\.168\.7\.2 lladdr [0-9a-f:]{17} /m);
      const { stats64 } = JSON.parse(ip(theirs, '-j -s link show vx0'))[0];
      expect(stats64.rx.errors + stats64.tx.errors).toBe(0);
    },
  );
});
