/** Every wire, two NICs, and the driver inside the switch, each in a whole lab with real processes. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { INBOUND, OUTBOUND } from '../../services/common/capture/pcapng.ts';
import { type CapturedPacket, PcapngReader } from '../../services/common/capture/reader.ts';
import { DHCP_TYPE, decodeDhcp } from '../../services/common/wire/dhcp.ts';
import { dhcpType } from '../../services/common/wire/dhcp_options.ts';
import { udpOf } from '../../services/machine/wires/testing/guest.ts';
import { Download, hashOfFile, labScript, ROM, WEB_SERVER, WebServer } from './download_lab.ts';
import { L4LAB, offline, Run, TestBed } from './harness.ts';

const MIB = 2 ** 20;
/** Neither DHCP nor DNS: nobody answers on these cables. */
const ALONE = 'IFCONFIG_IP4_vn0 = "10.0.2.15/24 via 10.0.2.2"';
const IMPATIENT = `local caps = port()
while not io.open("rom/go") do L4.msleep(20) end
ld:start({ caps = caps }, "rom/curl -s -S --connect-timeout 1 http://10.0.2.100/", { ${ALONE} })`;
const GAVE_UP = /Ned: task 'curl' ended with status 28\n/;

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

function packetsOf(path: string): CapturedPacket[] {
  const reader = new PcapngReader();
  const packets = reader.push(readFileSync(path));
  reader.end();
  return packets;
}

/** Message types of the DHCP exchange in a capture, in order, with their directions. */
function dhcpIn(packets: readonly CapturedPacket[]): string[] {
  const names = new Map(Object.entries(DHCP_TYPE).map(([name, type]) => [type as number, name]));
  return packets.flatMap(({ bytes, direction }) => {
    const message = udpOf(bytes, 67) ?? udpOf(bytes, 68);
    if (!message) return [];
    const type = dhcpType(decodeDhcp(message, 0, message.length)) ?? 0;
    return `${names.get(type)} ${direction === OUTBOUND ? 'out' : 'in'}`;
  });
}

/**
 * A lab whose curl, started when it has said `ready`, gives up, because nobody is on the cable; it ends when it has
 * said `last`, too.
 */
async function lonely(nic: string, ready = /Link speed is/, last = GAVE_UP): Promise<Run> {
  const script = labScript(bed, { body: IMPATIENT });
  const run = bed.l4lab(['run', script, ...ROM, '--rom', bed.scratch, '--nic', nic]);
  await run.saw(ready);
  const go = bed.file('go', '');
  await Promise.all([run.saw(GAVE_UP), run.saw(last)]);
  run.child.kill('SIGINT');
  expect(await run.exit, run.stderr).toBe(130);
  rmSync(go);
  return run;
}

describe('l4lab run --nic e1000,wire=...', () => {
  it('user,record=FILE: the capture has the DHCP exchange and the page, both ways', async () => {
    const file = join(bed.scratch, 'lab.pcapng');
    const body = `ld:start({ caps = port() }, "rom/curl -s -S http://mirror/debian/", { IFCONFIG_IP4_vn0 = "dhcp" })`;
    const nic = `e1000,wire=user,record=${file}`;
    const args = ['run', labScript(bed, { body }), ...ROM, ...offline(web.port, 'mirror'), '--nic', nic];
    const { status, run } = await bed.done([...args, '--wait-for', 'curl']);
    expect(status, run.stderr).toBe(0);
    const packets = packetsOf(file);
    expect(dhcpIn(packets).slice(0, 4)).toEqual(['DISCOVER out', 'OFFER in', 'REQUEST out', 'ACK in']);
    const inbound = packets.filter(({ direction }) => direction === INBOUND);
    const page = Buffer.concat(inbound.map(({ bytes }) => bytes)).toString('latin1');
    expect(page).toContain('<h1>Index of /debian/</h1>');
    const { status: read, stdout } = spawnSync('tcpdump', ['-nr', file], { encoding: 'utf8' });
    if (read !== null) expect(stdout).toContain('BOOTP/DHCP, Reply');
  });

  it('pcap:FILE records what the NIC sends; replay:FILE gives another NIC what a NIC received', async () => {
    const sent = join(bed.scratch, 'sent.pcapng');
    await lonely(`e1000,wire=pcap:${sent}`);
    const packets = packetsOf(sent);
    expect(packets.length).toBeGreaterThan(0);
    expect(packets.every(({ direction }) => direction === OUTBOUND)).toBe(true);
    // A file without directions: all of it is played.
    const heard = join(bed.scratch, 'heard.pcapng');
    const source = join(bed.scratch, 'in.pcapng');
    const bytes = readFileSync(sent);
    for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
      // The flags are the last option before the end of options and the trailer.
      if (bytes.readUInt32LE(at) === 6) bytes.writeUInt32LE(0, at + bytes.readUInt32LE(at + 4) - 12);
    }
    writeFileSync(source, bytes);
    const run = await lonely(
      `e1000,wire=replay:${source},loop=3,record=${heard}`,
      undefined,
      /Replayed .*times/,
    );
    expect(run.text + run.stderr).toMatch(new RegExp(`Replayed .*: ${packets.length} frames, 3 times`));
    const inbound = packetsOf(heard).filter(({ direction }) => direction === INBOUND);
    const played = packets.map((packet) => Buffer.from(packet.bytes).toString('hex'));
    expect(inbound.map((packet) => Buffer.from(packet.bytes).toString('hex'))).toEqual([
      ...played,
      ...played,
      ...played,
    ]);
  });

  it('none: the lab runs, and curl says in time that nobody answers', async () => {
    await lonely('e1000,wire=none', /Link speed is 1000 Mbit\/s/);
  });

  it('none,link=down: the driver says so, and the lab runs all the same', async () => {
    await lonely('e1000,wire=none,link=down', /No link yet: going on without it\./);
  });
});

describe('tap', () => {
  const refusal = tapRefusal();
  if (refusal !== undefined) console.warn(`Skipped the lab on a tap interface: ${refusal}`);

  it.skipIf(refusal !== undefined)(
    'downloads from a server on the Linux host behind the interface',
    async () => {
      const size = 16 * MIB;
      const body = `ld:start({ caps = port() }, "rom/curl -s -S http://10.0.2.2:8080/bytes/${size}", { ${ALONE} })`;
      const script = labScript(bed, { body });
      const lab = [
        L4LAB,
        'run',
        script,
        ...ROM,
        '--nic',
        'e1000,wire=tap:lab0',
        '--wait-for',
        'curl',
        '--raw',
        'curl',
      ];
      // A network of the test's own: the interface, its address and the server exist in there only.
      const inside = [
        'ip tuntap add dev lab0 mode tap && ip addr add 10.0.2.2/24 dev lab0 && ip link set lab0 up || exit 99',
        // It prints a line as soon as it listens.
        '"$1" "$2" 8080 10.0.2.2 >web & server=$!',
        'until [ -s web ]; do kill -0 $server || exit 98; sleep 0.1; done',
        'node=$1; shift 2; "$node" "$@"; status=$?',
        'kill $server; exit $status',
      ].join('\n');
      const child = spawn('unshare', ['-n', 'sh', '-c', inside, 'sh', process.execPath, WEB_SERVER, ...lab], {
        cwd: bed.scratch,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: process.env.PATH, L4LAB_RUN_BASE: bed.base },
      });
      const run = new Run(child);
      expect(await run.exit, run.stderr).toBe(0);
      expect(createHash('sha256').update(run.stdout).digest('hex')).toBe(await hashOfFile(size));
      expect([bed.processes(), bed.files()]).toEqual([[], []]);
    },
  );
});

function tapRefusal(): string | undefined {
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun';
  const { status, stderr, error } = spawnSync(
    'unshare',
    ['-n', 'ip', 'tuntap', 'add', 'dev', 'x', 'mode', 'tap'],
    {
      encoding: 'utf8',
    },
  );
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

describe('two NICs', () => {
  const NICS = ['--nic', 'e1000', '--nic', 'e1000,mac=52:54:00:00:00:99'];

  it('are both on the vbus of the documented lab, whose switch takes the first if told so', async () => {
    const body = `ld:start({ caps = port() }, "rom/curl -s -S http://mirror/debian/", { IFCONFIG_IP4_vn0 = "dhcp" })`;
    const args = [
      'run',
      labScript(bed, { switchOptions: '--nic 0', body }),
      ...ROM,
      ...offline(web.port, 'mirror'),
      ...NICS,
    ];
    const { status, run } = await bed.done([...args, '--wait-for', 'curl']);
    expect(status, run.stderr).toBe(0);
    expect(run.text).toContain('Using MAC address 52:54:00:12:34:56');
    expect(run.text).not.toContain('52:54:00:00:00:99');
  });

  it('on a bus each, with a switch and a download each: one driver a task, one in its switch', async () => {
    const size = 8 * MIB;
    bed.file('resolv.conf', 'nameserver 10.0.2.3\n');
    bed.file(
      'two.vbus',
      `local nics = Io.system_bus():match("PCI/CC_0200");
local function bus(n)
  return Io.Vi.System_bus(function()
    Property.num_msis = 1;
    PCI0 = Io.Vi.PCI_bus(function() nic = wrap(nics[n]); end);
  end);
end
Io.add_vbusses { eth0 = bus(1); eth1 = bus(2); }
`,
    );
    const script = bed.file(
      'two.cfg',
      `local L4 = require("L4");
local ld = L4.default_loader;
local buses = { ld:new_channel(), ld:new_channel() };
ld:start({ caps = { sigma0 = L4.Env.sigma0; icu = L4.Env.icu; iommu = L4.Env.iommu; eth0 = buses[1]:svr(); eth1 = buses[2]:svr() } },
         "rom/io rom/two.vbus");
local tasks = {};
for n, option in ipairs { "", "--ixl=in-process" } do
  local lan = ld:new_channel();
  ld:start({ caps = { vbus = buses[n], svr = lan:svr() }, log = { "switch" .. n, "g" } }, "rom/l4vio_switch -v " .. option);
  tasks[n] = ld:start({ caps = { virtnet = lan:create(0), etc = L4.Env.rom }, log = { "curl" .. n, "y" } },
    "rom/curl -s -S -o ${bed.scratch}/page" .. n .. " http://mirror/bytes/${size}", { IFCONFIG_IP4_vn0 = "dhcp" });
end
for n = 1, 2 do print("curl" .. n .. " ended with " .. tostring(tasks[n]:wait())); end
`,
    );
    const run = bed.l4lab(['run', script, ...offline(web.port, 'mirror'), ...NICS]);
    await run.saw(/curl2 ended with 0/);
    expect(run.text).toMatch(/curl1 ended with 0/);
    const wanted = await hashOfFile(size);
    for (const n of [1, 2]) {
      const page = readFileSync(join(bed.scratch, `page${n}`));
      expect(createHash('sha256').update(page).digest('hex')).toBe(wanted);
    }
    await run.saw(/switch1 .*NIC port 'ixl-e1000' 52:54:00:12:34:56, link speed 1000/);
    await run.saw(/switch2 .*NIC port 'ixl-e1000' 52:54:00:00:00:99, link speed 1000/);
    run.child.kill('SIGINT');
    expect(await run.exit).toBe(130);
  });
});

describe('l4vio_switch --ixl=in-process', () => {
  it('downloads with the right hash, without a task ixl', async () => {
    const size = 64 * MIB;
    const download = new Download(bed, web.port, size, { switchOptions: '--ixl=in-process' });
    await download.reached(MIB);
    expect(() => download.signal('ixl', 'SIGCONT')).toThrow('0 processes "ixl"');
    expect(await download.end()).toEqual({ status: 0, sha256: await hashOfFile(size) });
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });
});
