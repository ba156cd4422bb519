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

const hash = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

/** Why namespaces with a vxlan device cannot be made here. */
function refusal(): string | undefined {
  return tried('ip link add x type vxlan id 1 dstport 4789');
}

/** Why there is no IPv6 in them. */
function ipv6Refusal(): string | undefined {
  return tried('ip link set lo up', 'ip addr add fd00:9::1/64 dev lo nodad');
}

/** Does it in a namespace of its own. Why it cannot be done, or undefined. */
function tried(...commands: string[]): string | undefined {
  const { status, stderr } = spawnSync('unshare', ['-n', 'sh', '-c', commands.join(' && ')], {
    encoding: 'utf8',
  });
  return status === 0 ? undefined : stderr?.trim() || 'no unshare';
}

const reason = refusal();
const noIpv6 = reason ?? ipv6Refusal();
if (reason) console.warn(`test/integration/vxlan: the kernel's device is left out as ${reason}`);
else if (noIpv6) console.warn(`test/integration/vxlan: IPv6 is left out as ${noIpv6}`);

/** What cannot be, and what is said of it. */
const WRONG: [string, RegExp][] = [
  [
    'vni=7,group=239.1.1.1,dev=nosuch',
    /'vxlan7' at .* on nosuch.*: interface "nosuch" must be up and have an IPv4/,
  ],
  ['vni=7,remote=10.9.0.2,dev=nosuch', /interface nosuch: ENODEV\): this host has no such interface/],
  ['vni=7,group=239.1.1.1,remote=10.9.0.2,dev=eth0', /either a group or remotes/],
];
if (!noIpv6)
  WRONG.push([
    'vni=7,remote=[fd00:9::2],local=fd00:9::77',
    /bind: EADDRNOTAVAIL\): this host has no such address/,
  ]);

describe('VXLAN', { timeout: 300_000 }, () => {
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

  describe.skipIf(reason)('in namespaces', () => {
    it('speaks with the vxlan device of Linux: ARP, ping size, 16 MiB with the right hash', async () => {
      const [ours, theirs] = await ends(2);
      await kernelEnd(theirs, 'local 10.9.0.2 remote 10.9.0.1');
      await downloads(ours, 'vni=42,remote=10.9.0.2,local=10.9.0.1', 16 * MIB);
      expectNoErrors(theirs);
    });

    it.skipIf(noIpv6)(
      'speaks with it over IPv6, and takes datagrams without a checksum as RFC 7348 says',
      async () => {
        const [ours, theirs] = await ends(2);
        await kernelEnd(theirs, 'local fd00:9::2 remote fd00:9::1 udp6zerocsumtx');
        await downloads(ours, 'vni=42,remote=[fd00:9::2],local=[fd00:9::1]', 16 * MIB);
        expectNoErrors(theirs);
      },
    );

    it.skipIf(noIpv6).each([
      ['any addresses', (other: number) => `remote=[fd00:9::${other}]`],
      [
        'link-local addresses',
        (other: number) => `remote=[fe80::${other}],local=fe80::${3 - other},dev=eth0`,
      ],
    ])('joins two switches over IPv6 by %s', async (_what, option) => {
      const [ours, theirs] = await ends(2);
      const bytes = await webSwitch(theirs, `vni=42,${option(1)}`);
      const client = fetch(ours, `vni=42,${option(2)}`, 'http://192.168.7.3/big');
      expect(await client.exit, client.stderr).toBe(0);
      expect(hash(client.stdout)).toBe(bytes);
    });

    it.each([
      ['239.1.1.1', 'group=239.1.1.1,dev=eth0'],
      ...(noIpv6
        ? []
        : [
            ['ff05::4242', 'group=[ff05::4242],dev=eth0'],
            ['ff02::4242', 'group=[ff02::4242],dev=eth0'],
          ]),
    ])('meets it, and another switch, in the group %s', async (group, option) => {
      const [ours, theirs, third] = await ends(3);
      await kernelEnd(theirs, `group ${group} dev eth0`);
      const bytes = await webSwitch(third, `vni=42,${option}`);
      // From the kernel's end, then from the other switch's: both were found by asking the group.
      await downloads(ours, `vni=42,${option}`, 4 * MIB);
      const client = fetch(ours, `vni=42,${option}`, 'http://192.168.7.3/big');
      expect(await client.exit, client.stderr).toBe(0);
      expect(hash(client.stdout)).toBe(bytes);
      expect(client.stderr).toMatch(/VXLAN 42 with group .* on eth0/);
      expectNoErrors(theirs);
    });

    it('does not listen to who is not in the networks of its interface', async () => {
      const [ours, theirs] = await ends(2);
      await kernelEnd(theirs, 'group 239.1.1.1 dev eth0');
      const url = `http://192.168.7.1/bytes/${MIB}`;
      const denied = fetch(
        ours,
        'vni=42,group=239.1.1.1,dev=eth0,allow=10.8.0.0/16',
        url,
        '--connect-timeout 2',
      );
      expect(await denied.exit).toBe(28);
      const allowed = fetch(ours, 'vni=42,group=239.1.1.1,dev=eth0,allow=10.9.0.2', url);
      expect(await allowed.exit, allowed.stderr).toBe(0);
    });

    it.each(WRONG)('says what is wrong with %s', async (option, message) => {
      const [ours] = await ends(1);
      const run = bed.l4lab(
        [
          'run',
          lab('curl', `--vxlan ${option}`, 'rom/curl', '10.1.0.2'),
          '--nic',
          'none',
          '--wait-for',
          'l4vio_switch',
        ],
        { under: within(ours) },
      );
      expect(await run.exit).toBe(1);
      expect(run.text).toMatch(message);
    });
  });
});

/** Namespaces on one cable, each with `eth0`: 10.9.0.N, fd00:9::N. */
async function ends(count: number): Promise<[string, string, string]> {
  const hub = await namespace();
  ip(hub, 'link add br0 type bridge mcast_snooping 0');
  ip(hub, 'link set br0 up');
  const pids: string[] = [];
  for (let n = 1; n <= count; n++) {
    const pid = await namespace();
    pids.push(pid);
    ip(hub, `link add p${n} mtu 1600 type veth peer name eth0 mtu 1600 netns ${pid}`);
    ip(hub, `link set p${n} master br0`);
    ip(hub, `link set p${n} up`);
    ip(pid, `addr add 10.9.0.${n}/24 dev eth0`);
    if (!noIpv6) ip(pid, `addr add fd00:9::${n}/64 dev eth0 nodad`);
    if (!noIpv6) ip(pid, 'link set eth0 addrgenmode none');
    ip(pid, 'link set eth0 up');
    if (!noIpv6) ip(pid, `addr add fe80::${n}/64 dev eth0 nodad`);
  }
  return pids as [string, string, string];
}

/** The kernel's end, 192.168.7.1, with a web server behind it. */
async function kernelEnd(pid: string, options: string): Promise<void> {
  ip(pid, `link add vx0 mtu 1500 type vxlan id 42 dstport 4789 ${options}`);
  ip(pid, 'addr add 192.168.7.1/24 dev vx0');
  ip(pid, 'link set vx0 up');
  execFileSync('nsenter', ['-t', pid, '-n', process.execPath, CHECKSUMS_OFF, 'vx0']);
  const web = spawn('nsenter', ['-t', pid, '-n', process.execPath, WEB_SERVER, '80', '192.168.7.1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(web);
  await once(web.stdout as NodeJS.ReadableStream, 'data');
}

/** A switch with that VXLAN port and a web server, 192.168.7.3. Resolves with the hash of its file `big`. */
async function webSwitch(pid: string, option: string): Promise<string> {
  const path = bed.file('big', 'l4lab '.repeat(400_000));
  const script = lab('web', `--vxlan ${option}`, 'rom/httpd rom/', '192.168.7.3');
  const server = bed.l4lab(['run', script, '--nic', 'none'], {
    env: { L4LAB_RUN_BASE: bed.base },
    under: within(pid),
  });
  await server.saw(/web {5}\| .*serv/i);
  return hash(readFileSync(path));
}

/** A switch with that VXLAN port and a curl, 192.168.7.2. */
function fetch(pid: string, option: string, url: string, more = '') {
  const script = lab('curl', `--vxlan ${option}`, `rom/curl -s ${more} ${url}`, '192.168.7.2');
  return bed.l4lab(['run', script, '--nic', 'none', '--wait-for', 'curl', '--raw', 'curl'], {
    under: within(pid),
  });
}

/** Downloads from the kernel's end. */
async function downloads(pid: string, option: string, bytes: number): Promise<void> {
  const run = fetch(pid, option, `http://192.168.7.1/bytes/${bytes}`);
  expect(await run.exit, run.stderr).toBe(0);
  expect(hash(run.stdout)).toBe(await hashOfFile(bytes));
}

function expectNoErrors(pid: string): void {
  expect(ip(pid, 'neigh show dev vx0')).toMatch(/^192\.168\.7\.2 lladdr [0-9a-f:]{17} /m);
  const { stats64 } = JSON.parse(ip(pid, '-j -s link show vx0'))[0];
  expect(stats64.rx.errors + stats64.tx.errors).toBe(0);
}
