/**
 * What a user gets for bad input: one clear message with its place, the reason and a hint, a status that is not 0 when a
 * command was waiting, and never a hang or a stack of Node.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebServer } from './download_lab.ts';
import { offline, ROOT, type Run, TestBed } from './harness.ts';

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(async () => {
  await bed.close();
  expect(bed.processes()).toEqual([]);
});

const PREAMBLE = 'local L4 = require("L4")\nlocal ld = L4.default_loader\n';
const NIC_AND_SWITCH = `local vbus_eth = ld:new_channel()
ld:start({ caps = { sigma0 = L4.Env.sigma0, icu = L4.Env.icu, iommu = L4.Env.iommu, ethdevs = vbus_eth:svr() } }, "rom/io rom/ixl.vbus")
local vswitch = ld:new_channel()
ld:start({ caps = { vbus = vbus_eth, svr = vswitch:svr() } }, "rom/l4vio_switch")
`;

/** Writes net.cfg with the usual beginning, which has two lines, and what it needs. */
function prepare(script: string): void {
  for (const name of ['ixl.vbus', 'resolv.conf']) {
    copyFileSync(join(ROOT, 'deploy/labs/curl', name), join(bed.scratch, name));
  }
  bed.file('net.cfg', PREAMBLE + script);
}

function start(script: string, ...args: string[]): Run {
  prepare(script);
  return bed.l4lab(['run', 'net.cfg', ...args]);
}

/** Waits for the end and returns status and everything that was printed, in which there is no stack of Node. */
async function ended(run: Run): Promise<{ status: unknown; output: string }> {
  const status = await run.exit;
  const output = `${run.text}\n${run.stderr}`;
  expect(output).not.toMatch(/^.*\bat .*(node:internal|dist\/services|node_modules).*$/m);
  expect(bed.files()).toEqual([]);
  return { status, output };
}

/** Waits until the output has every pattern, in any order. */
async function sees(run: Run, ...patterns: RegExp[]): Promise<void> {
  for (const pattern of patterns) await run.saw(pattern);
}

async function interrupted(run: Run): Promise<{ status: unknown; output: string }> {
  run.child.kill('SIGINT');
  return ended(run);
}

describe('a script that does not run', () => {
  it.each([
    ['x = = 3', /lua error: rom\/net.cfg:3: unexpected symbol near '='\.\nned +\| hint: /],
    [
      'local function f(t)\n  return t.a.b\nend\nlocal function g()\n  return (f({}))\nend\ng()',
      /lua error: rom\/net.cfg:4: attempt to index a nil value \(field 'a'\)\.\nned +\| +called at rom\/net.cfg:7\n/,
    ],
    ['error({ 1 })', /lua error: rom\/net.cfg:3: \(error object is a table value\)/],
    ['dofile("rom/lib.lua")', /lua error: rom\/lib.lua:2: attempt to index a nil value \(local 'y'\)/],
    [
      'dofile("lib.lua")',
      /lua error: rom\/net.cfg:3: cannot open lib.lua: .*\nned +\| hint: .*'rom\/lib.lua'/,
    ],
    ['package.path = "rom/?.lua"\nrequire("broken")', /rom\/broken.lua:1: .* near 'error'/],
    [
      'ld:new_channel():create(0)',
      /lua error: rom\/net.cfg:3: Cannot call 'create' .* as nobody can ever answer: .*svr\(\) in its caps/,
    ],
    [
      'local net = ld:new_channel()\nld:start({ caps = { svr = net:svr() } }, "rom/nosuch")\nnet:create(0)',
      /rom\/net.cfg:5: Cannot call 'create' on capability "net" .*\(created at rom\/net.cfg:3\) has no server any more: task 'nosuch' ended with status 70/,
    ],
  ])('%s', async (script, message) => {
    bed.file('lib.lua', 'local y = nil\ny.x = 1');
    bed.file('broken.lua', 'return syntax error here');
    const { status, output } = await ended(start(script, '--wait-for', 'curl'));
    expect(output).toMatch(message);
    // ned ends when nothing runs any more; which of the two the launcher learns first is up to the machine.
    expect(output).toMatch(
      /^l4lab: (Cannot wait for task 'curl' as the script failed: |the lab ended before task 'curl' did: ned ended with status 1; see what it printed)/m,
    );
    expect(status).toBe(1);
  });
});

describe('a task that does not run', () => {
  it.each([
    ['rom/nosuch', 70, /Cannot find 'nosuch' in rom as there is no such file \(searched: \/.*\)/],
    ['rom/L4VIO-switch', 70, /did you mean 'l4vio_switch'\?/],
    ['rom/text.txt', 1, /FATAL: Could not load binary 'rom\/text.txt': a program is a JavaScript module/],
    ['rom/empty.mjs', 1, /FATAL: Could not load binary .*\/empty.mjs does not export a function main/],
    ['rom/broken.mjs', 1, /FATAL: Could not load binary .*\/broken.mjs:2: Unexpected token/],
  ])('%s', async (program, wanted, message) => {
    bed.file('text.txt', 'hello');
    bed.file('empty.mjs', 'export const x = 1');
    bed.file('broken.mjs', 'const a = 1\nconst b = = 1');
    const run = start(`ld:start({}, "${program}")`, '--wait-for', program.replace('rom/', ''));
    const { status, output } = await ended(run);
    expect([status, output]).toEqual([wanted, expect.stringMatching(message)]);
  });

  it('--wait-for and --raw say so when their task never starts', async () => {
    const script = 'ld:start({}, "rom/nosuch")';
    const waiting = await ended(start(script, '--wait-for', 'curl'));
    expect(waiting.status).toBe(1);
    expect(waiting.output).toContain(
      "l4lab: Cannot wait for task 'curl' as the script has ended without starting it; tasks so far: nosuch\n",
    );
    const raw = await ended(bed.l4lab(['run', '--wait-and-exit', '--raw', 'curl', 'net.cfg']));
    expect([raw.status, raw.output]).toEqual([
      1,
      expect.stringMatching(
        /l4lab: Cannot write the output of task 'curl' \(--raw\) as no task of that name/,
      ),
    ]);
  });
});

describe('a machine that cannot be', () => {
  it.each([
    [['--nic', 'foo'], /Cannot use --nic foo as the model must be one of e1000/],
    [['--nic', 'e1000,mac=zz'], /the MAC must be six bytes in hex, .*: current value is "zz"/],
    [['--nic', 'e1000,wire=foo'], /Cannot use wire foo as it must be one of user, none/],
    [
      ['--nic', 'e1000,mac=52:54:00:00:00:01', '--nic', 'e1000,mac=52:54:00:00:00:01'],
      /each NIC needs its own MAC/,
    ],
    [['--host', 'foo'], /Cannot use --host foo as it must be NAME=IP/],
    [['--guest-forward', 'foo'], /Cannot use --guest-forward foo as it must be IP:PORT=HOST:PORT/],
  ])('%s', async (options, message) => {
    const { status, output } = await ended(start('L4.sleep(20)', ...options, '--wait-for', 'curl'));
    expect([status, output]).toEqual([1, expect.stringMatching(message)]);
    expect(output).toMatch(
      /l4lab: the lab ended before task 'curl' did: the machine ended with status 1: all NICs are gone; see what it/,
    );
  });
});

it('create() says what is wrong with its arguments', async () => {
  const run = start(
    `local vswitch = ld:new_channel()
ld:start({ caps = { svr = vswitch:svr() } }, "rom/l4vio_switch")
local function try(...)
  local ok, err = pcall(vswitch.create, vswitch, ...)
  if ok then kept = err end
  print(ok and "created" or tostring(err.msg or err))
end
try(0, "mac=02:00:00:00:00:01", "name=first")
try(7) try(0, "ds-max=abc") try(0, "ds-max=81") try(0, "type=foo") try(0, "vlan=access=0") try(0, "vlan=trunk=1, 2")
try(0, "vlan=foo") try(0, "mac=1:2:3") try(0, "frob") try(0, "17") try(0, "vlan=access=3", "vlan=trunk=4")
try(0, "mac=02:00:00:00:00:01") try("x")
vswitch:create(0, "ds-max=0")`,
    '--wait-for',
    'curl',
  );
  const { status, output } = await ended(run);
  const wanted = [
    'created',
    'op_create: Invalid object type',
    "Bad parameter 'ds-max='. Invalid number specified",
    "Bad parameter 'ds-max='. It must be 1..80: current value is 81",
    "Unknown type 'foo'",
    "Invalid VLAN access port id '0'",
    "Invalid VLAN trunk port spec '1, 2'",
    'Invalid VLAN specification',
    "Invalid mac address '1:2:3'",
    "Unknown option 'frob'",
    'Unexpected type for argument 2',
    'VLAN port cannot be access and trunk simultaneously',
    'Insufficient memory (-12): Rejecting port .* MAC address already in use. .* of port .first.',
    "bad argument #1 to 'create'",
  ];
  const lines = output.split('\n').filter((line) => /^ned +\| (created|rom\/net.cfg:6: )/.test(line));
  expect(lines.length, output).toBe(wanted.length);
  for (const [n, text] of wanted.entries())
    expect(lines[n]).toMatch(new RegExp(text.replace(/[()#]/g, '\\$&')));
  expect(output).toMatch(
    /lua error: rom\/net.cfg:14: runtime error Invalid argument \(-22\): Bad parameter 'ds-max='/,
  );
  expect(status).toBe(1);
});

describe('io', () => {
  const bus = (name: string, match: string, property = 'Property.num_msis = 25') =>
    `${name} = Io.Vi.System_bus(function() ${property}
      PCI0 = Io.Vi.PCI_bus(function() nic = wrap(hw:match("${match}")) end) end)`;
  const vbus = (...busses: string[]) =>
    `local hw = Io.system_bus()\nIo.add_vbusses { ${busses.join(',\n')} }\n`;

  it('says what is wrong with its busses and files', async () => {
    const ETHERNET = 'PCI/CC_0200';
    const ios: [tag: string, capability: string, file: string, message: RegExp][] = [
      [
        'typo',
        'ethdev',
        vbus(bus('ethdevs', ETHERNET)),
        /'ethdevs' \(rom\/typo.vbus:2\) has 1 device, but nobody can reach it, .* add `ethdevs = <channel>:svr\(\)`/,
      ],
      [
        'empty',
        'e',
        vbus(bus('e', 'PCI/CC_0201')),
        /vbus 'e' \(.*\) is empty: match\("PCI\/CC_0201"\) at rom\/empty.vbus:\d+ found nothing; the machine has: /,
      ],
      ['nomsis', 'e', vbus(bus('e', ETHERNET, '')), /no Property.num_msis: .* add `Property.num_msis = 25`/],
      [
        'both',
        'e',
        vbus(bus('e', ETHERNET), bus('f', ETHERNET)),
        /8086:100e .* is on vbus 'e' .* and on vbus 'f' .*: only one driver can use it/,
      ],
      [
        'syntax',
        'e',
        'Io.add_vbusses { x = = }',
        /syntax.vbus: error using as lua config: .*:1: unexpected symbol/,
      ],
      ['raises', 'e', 'local x = nil\nx.y = 1', /raises.vbus: error executing lua config: .*raises.vbus:2: /],
      ['missing', 'e', '', /rom\/missing.vbus: cannot open\/read file: .* no such file .*searched/],
    ];
    for (const [tag, , text] of ios) if (tag !== 'missing') bed.file(`${tag}.vbus`, text);
    const run = start(
      ios
        .map(
          ([tag, capability]) =>
            `ld:start({ log = { "${tag}" }, caps = { sigma0 = L4.Env.sigma0, icu = L4.Env.icu, iommu = L4.Env.iommu, ${capability} = ld:new_channel():svr() } }, "rom/io rom/${tag}.vbus")`,
        )
        .join('\n'),
    );
    await sees(run, ...ios.map(([, , , message]) => message), /Ned: task 'missing' ended with status 1/);
    expect((await interrupted(run)).status).toBe(130);
  });

  it('a vbus channel without server is an error for the switch, not a hang', async () => {
    const run = start(`${NIC_AND_SWITCH.replace('ethdevs = vbus_eth:svr()', 'ethdevs = vbus_eth')}
vswitch:create(0) print("port made")`);
    await sees(
      run,
      /write `ethdevs = <channel>:svr\(\)` in the caps of Io/,
      /Warning: channel 'vbus_eth' \(created at rom\/net.cfg:3\) has no server: .*; start its server with vbus_eth:svr\(\)/,
      /VSwitch: ERROR: .*server end of channel 'vbus_eth' .* was given to no task/,
      /port made/,
    );
    await interrupted(run);
  });

  it('the switch goes on without a NIC and says why', async () => {
    const run = start(`${NIC_AND_SWITCH}vswitch:create(0) print("port made")`, '--nic', 'none');
    await sees(run, /vbus 'ethdevs' .* is empty/, /VSwitch: ERROR: .*no Ethernet controller/, /port made/);
    await interrupted(run);
  });
});

describe('the network', () => {
  let web: WebServer;
  beforeAll(async () => {
    web = await WebServer.start();
  });
  afterAll(() => web.close());

  type Case = [tag: string, words: string, environment: string, status: number, message: RegExp];
  /** Starts one curl for each case on ports of one switch and waits for their ends. */
  async function curls(cases: readonly Case[], ...args: string[]): Promise<void> {
    const starts = cases.map(
      ([tag, words, environment]) =>
        `ld:start({ log = { "${tag}" }, caps = { virtnet = vswitch:create(0), etc = L4.Env.rom } }, "rom/curl -sS ${words}", { ${environment} })`,
    );
    const run = start(NIC_AND_SWITCH + starts.join('\n'), ...args);
    for (const [tag, , , status, message] of cases) {
      await sees(run, new RegExp(`Ned: task '${tag}' ended with status ${status}\n`));
      expect(run.text).toMatch(new RegExp(`^${tag.padEnd(8)}\\| .*${message.source}`, 'm'));
    }
    await interrupted(run);
  }
  const at = (host: number) => `IFCONFIG_IP4_vn0 = "10.0.2.${host}/24 via 10.0.2.2"`;

  it('what a curl cannot do is told with its reason and status', async () => {
    await curls(
      [
        ['noname', 'http://nosuch.example.test/', at(31), 6, /curl: \(6\) Could not resolve host: .*\)/],
        [
          'refused',
          'http://10.0.2.2:1/',
          at(32),
          7,
          /curl: \(7\) Failed to connect to 10.0.2.2 port 1 .* refused it/,
        ],
        [
          'gone',
          '-f http://mirror/nosuchpage',
          at(33),
          22,
          /curl: \(22\) The requested URL returned error: 404/,
        ],
        ['noaddr', 'http://mirror/', '', 6, /interface vn0 has no IPv4 address: set IFCONFIG_IP4_vn0/],
        [
          'badaddr',
          'http://mirror/',
          'IFCONFIG_IP4_vn0 = "10.0.2.300"',
          70,
          /IFCONFIG_IP4_vn0 must be "dhcp"/,
        ],
        [
          'badname',
          'http://mirror/',
          'IFCONFIG_IP4_eth0 = "dhcp"',
          6,
          /Warning: IFCONFIG_IP4_eth0 is ignored/,
        ],
      ],
      ...offline(web.port, 'mirror'),
    );
  });

  it('no DHCP answer is an error when a limit is set', async () => {
    const limit = 'IFCONFIG_IP4_vn0 = "dhcp", IFCONFIG_DHCP_TIMEOUT = "1"';
    await curls(
      [
        [
          'nodhcp',
          'http://mirror/',
          limit,
          70,
          /no DHCP server gave a lease within 1 s: .* IFCONFIG_DHCP_TIMEOUT/,
        ],
      ],
      '--nic',
      'e1000,wire=none',
    );
  });

  it('a resolv.conf that is missing, and a port that is none, are told', async () => {
    const run = start(
      `${NIC_AND_SWITCH}
ld:start({ log = { "noconf" }, caps = { virtnet = vswitch:create(0) } }, "rom/curl -sS -o /dev/null http://mirror/", { IFCONFIG_IP4_vn0 = "dhcp" })
ld:start({ log = { "noport" }, caps = { virtnet = vswitch } }, "rom/curl -sS http://mirror/")`,
      ...offline(web.port, 'mirror'),
    );
    await sees(
      run,
      /noconf +\| Note: there is no \/etc\/resolv.conf; using the name servers from DHCP/,
      /noport +\| +what: .*Cannot use "virtnet" as a virtio device/,
      /Ned: task 'noport' ended with status 70/,
    );
    await interrupted(run);
  });
});

describe('a full /dev/shm', () => {
  const allowed = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/dev/shm']).status === 0;
  const CURL =
    'ld:start({ caps = { virtnet = vswitch:create(0) } }, "rom/curl -sS http://10.0.2.99/", { IFCONFIG_IP4_vn0 = "dhcp", IFCONFIG_DHCP_TIMEOUT = "1" })';

  it.for([
    [
      '4k',
      [2],
      /^l4lab: Cannot start the lab in .* as write failed: no space left on device \(ENOSPC\); end labs/m,
    ],
    // The first to need a page is ned (the script fails) or a task.
    ['16k', [1, 70], /the file system of .* is full: free some of it/],
    ['256k', [70], /curl +\| +what: Insufficient memory: .*the file system of .* is full/],
    ['2m', [70], /VSwitch: ERROR: .*Cannot create a dataspace of \d+ bytes as the file system of .* is full/],
  ] as const)('of %s', async ([size, wanted, message], context) => {
    if (!allowed) {
      context.skip('this machine does not allow unshare -m and mount, so /dev/shm cannot be made small');
    }
    prepare(NIC_AND_SWITCH + CURL);
    const mount = `mount -t tmpfs -o size=${size} none /dev/shm && mkdir -m 700 ${bed.base} && exec "$@"`;
    const run = bed.l4lab(['run', 'net.cfg', '--wait-for', 'curl'], {
      under: ['unshare', '-m', 'sh', '-c', mount, 'sh'],
    });
    const { status, output } = await ended(run);
    expect(output).toMatch(message);
    expect(wanted).toContain(status);
  });
});
