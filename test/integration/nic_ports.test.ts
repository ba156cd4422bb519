/** Several NICs as ports of one switch, with names and VLANs, in whole labs with real processes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CapturedPacket, PcapngReader } from '../../services/common/capture/reader.ts';
import { labScript, ROM, WebServer } from './download_lab.ts';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';
import { offline, type Run, TestBed } from './harness.ts';

const SECOND_MAC = '52:54:00:00:00:99';
const PAGE = `"rom/curl -s -S http://mirror/debian/", { IFCONFIG_IP4_vn0 = "dhcp" }`;

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

/** A lab with these cables, and a curl at a port with these arguments; its output and exit status. */
async function download(
  wires: readonly [string, string],
  switchOptions: string,
  port = '',
): Promise<{ status: unknown; run: Run }> {
  const script = labScript(bed, { switchOptions, body: `ld:start({ caps = port(${port}) }, ${PAGE})` });
  const nics = ['--nic', `e1000,wire=${wires[0]}`, '--nic', `e1000,mac=${SECOND_MAC},wire=${wires[1]}`];
  return bed.done(['run', script, ...ROM, ...offline(web.port, 'mirror'), ...nics, '--wait-for', 'curl']);
}

function packetsOf(path: string): CapturedPacket[] {
  const reader = new PcapngReader();
  const packets = reader.push(readFileSync(path));
  reader.end();
  return packets;
}

/** 802.1Q tag of a frame, undefined without. */
function tagOf({ bytes }: CapturedPacket): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint16(12) === 0x8100 ? view.getUint16(14) : undefined;
}

describe('two NICs on one bus', { timeout: 300_000 }, () => {
  it.each(['task', 'in-process'])('are two ports of the switch by themselves (--ixl=%s)', async (mode) => {
    const { status, run } = await download(['none', 'user'], `-v --ixl=${mode}`);
    expect(status, run.stderr).toBe(0);
    expect(run.text).toContain('<h1>Index of /debian/</h1>');
    expect(run.text).toMatch(/NIC port 'ixl-e1000' 52:54:00:12:34:56, link speed 1000/);
    expect(run.text).toMatch(new RegExp(`NIC port 'ixl-e1000\\[1\\]' ${SECOND_MAC}, link speed 1000`));
    expect([bed.processes(), bed.files()]).toEqual([[], []]);
  });

  it.each(['task', 'in-process'])(
    'have the names and VLANs of --nic: an access port carries the download, a trunk gets it tagged (--ixl=%s)',
    async (mode) => {
      const file = join(bed.scratch, 'trunk.pcapng');
      const options = `-v --ixl=${mode} --nic 0,name=lan,vlan=access=7 --nic 1,name=uplink,vlan=trunk=7,8`;
      const { status, run } = await download(['user', `pcap:${file}`], options, '"vlan=access=7"');
      expect(status, run.stderr).toBe(0);
      expect(run.text).toContain('<h1>Index of /debian/</h1>');
      expect(run.text).toMatch(/NIC port 'lan' 52:54:00:12:34:56/);
      expect(run.text).toMatch(new RegExp(`NIC port 'uplink' ${SECOND_MAC}`));
      const packets = packetsOf(file);
      // At least DISCOVER and the ARP requests of both sides.
      expect(packets.length).toBeGreaterThan(2);
      expect(new Set(packets.map(tagOf))).toEqual(new Set([7]));
    },
  );

  it('keep VLANs apart: a client of another one gets no address from the first NIC', async () => {
    const file = join(bed.scratch, 'trunk.pcapng');
    const options = '--nic 0,vlan=access=7 --nic 1,vlan=trunk=8';
    const body = `ld:start({ caps = port("vlan=access=8") }, "rom/curl -s -S --connect-timeout 1 http://10.0.2.2/", { IFCONFIG_IP4_vn0 = "10.0.2.15/24 via 10.0.2.2" })`;
    const script = labScript(bed, { switchOptions: options, body });
    const nics = ['--nic', 'e1000,wire=user', '--nic', `e1000,mac=${SECOND_MAC},wire=pcap:${file}`];
    const { status, run } = await bed.done(['run', script, ...ROM, ...nics, '--wait-for', 'curl']);
    // Nobody answers its ARP request, which goes out at the trunk alone.
    expect([7, 28], run.stderr).toContain(status);
    expect(new Set(packetsOf(file).map(tagOf))).toEqual(new Set([8]));
  });

  it('are driven one by one if only some are named, and a NIC that is not there is said', async () => {
    const { status, run } = await download(['none', 'user'], '-v --nic 1 --nic 2');
    expect(status, run.stderr).toBe(0);
    expect(run.text).not.toContain('52:54:00:12:34:56');
    expect(run.text).toMatch(
      /ERROR: The switch works without NIC 2 of 'vbus': Cannot find NIC 2 as the index must be 0\.\.1/,
    );
  });
});

it('with external loading each driver is a component, and both hear of the end of the machine', async () => {
  const script = SCALING.replace('"rom/l4vio_switch"', '"rom/l4vio_switch --nic 0 --nic 1,name=wan"');
  const lab = await ExternalLab.start(script);
  try {
    lab.startBroker('--nic', 'e1000,wire=none', '--nic', `e1000,mac=${SECOND_MAC},wire=user`);
    const drivers = ['ixl', 'ixl1'];
    lab.supervise(...SERVERS, 'ixl1');
    await lab.ready('ned', ...SERVERS, 'ixl1');
    expect((await lab.curl()).text).toContain('</html>');
    // Nobody sends a frame: only the end of the connection can tell them.
    const ends = drivers.map((name) => lab.running.get(name)?.exit);
    await lab.kill('machine');
    expect(await Promise.all(ends)).toEqual([1, 1]);
    await lab.ready(...SERVERS, 'ixl1');
    expect((await lab.curl()).text).toContain('</html>');
  } finally {
    await lab[Symbol.asyncDispose]();
  }
}, 300_000);
