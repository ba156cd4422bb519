/** The cable of a NIC, pulled out and plugged in again in whole labs with real processes: what its port shows and carries. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MachineControl } from '../../proto/gen/services.js';
import { type LabRecord, labIn } from '../../services/cli/registry.ts';
import { Ipc } from '../../services/common/ipc/ipc.ts';
import { randomName } from '../../services/common/shm/run_dir.ts';
import { labScript, ROM } from './download_lab.ts';
import { ROOT, TestBed } from './harness.ts';

let bed: TestBed;
beforeEach(() => {
  bed = new TestBed();
});
afterEach(() => bed.close());

interface PortJson {
  readonly name: string;
  readonly link: string;
  readonly carrier: boolean;
  readonly out: { readonly packets: number };
  readonly drops: readonly { readonly reason: string; readonly direction: string; readonly count: number }[];
}

async function ok(...args: string[]): Promise<string> {
  const { status, run } = await bed.done(args);
  expect([status, run.stderr]).toEqual([0, '']);
  return run.text;
}

/** The port of the NIC as `l4lab stats` shows it. */
async function nicPort(): Promise<PortJson | undefined> {
  const { switches } = JSON.parse(await ok('stats', '--json', '--interval', '0')) as {
    switches: { ports: PortJson[] }[];
  };
  return switches[0]?.ports.find(({ name }) => name === 'ixl-e1000');
}

const link = async () => (await nicPort())?.link;
const becomes = (state: string) => vi.waitFor(async () => expect(await link()).toBe(state), 10_000);

/** Plugs the cable of the only NIC of the only lab. */
async function plug(plugged: boolean): Promise<void> {
  const [dir] = readdirSync(bed.base) as [string];
  const { control, ...lab } = labIn(join(bed.base, dir)) as LabRecord;
  const ipc = new Ipc({ runDir: lab.dir, task: randomName() });
  const capability = { gate: control.gate, object: 0, masks: [], proof: Buffer.from(control.proof, 'hex') };
  try {
    await ipc.client(MachineControl, capability).cable({ nic: 0, plugged });
  } finally {
    ipc.close();
  }
}

/** A lab with one NIC and a switch whose ports the test makes. */
async function start(wire: string, ixl: string): Promise<void> {
  const script = labScript(bed, { switchOptions: `--ixl=${ixl}`, body: '' });
  const frames = ['--rom', join(ROOT, 'dist/test/integration')];
  const lab = bed.l4lab(['run', script, ...ROM, ...frames, '--nic', `e1000,wire=${wire}`]);
  await lab.saw(/Hello from l4virtio switch/);
  await vi.waitFor(async () => expect((await bed.done(['port', 'list'])).status).toBe(0), 10_000);
}

describe.each(['task', 'in-process'])('the cable of a NIC (--ixl=%s)', { timeout: 60_000 }, (ixl) => {
  it('that is pulled out takes the link of its port down, and up again', async () => {
    await start('none', ixl);
    await becomes('up');
    await vi.waitFor(async () => expect((await bed.done(['port', 'add', 'src'])).status).toBe(0), 10_000);
    const send = (count: number) =>
      ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', String(count), '60');
    await send(3);
    expect(await nicPort()).toMatchObject({ carrier: true, out: { packets: 3 }, drops: [] });
    await plug(false);
    await becomes('down');
    expect(await ok('port', 'list')).toMatch(/ixl-e1000 .* no carrier /);
    await send(5);
    const down = [{ reason: 'link_down', direction: 'out', count: 5 }];
    expect(await nicPort()).toMatchObject({ carrier: false, out: { packets: 3 }, drops: down });
    // The user cannot bring up what has no cable.
    expect(await ok('port', 'link', 'ixl-e1000', 'up')).toMatch(
      /; but its NIC has no link: see to its cable$/m,
    );
    expect(await link()).toBe('down');
    await plug(true);
    await becomes('up');
    await send(7);
    expect(await nicPort()).toMatchObject({ carrier: true, out: { packets: 10 }, drops: down });
    // Nor does a cable bring up what the user has taken down.
    await ok('port', 'link', 'ixl-e1000', 'down');
    await plug(false);
    await vi.waitFor(
      async () => expect(await nicPort()).toMatchObject({ link: 'down', carrier: false }),
      10_000,
    );
    await plug(true);
    await vi.waitFor(
      async () => expect(await nicPort()).toMatchObject({ link: 'down', carrier: true }),
      10_000,
    );
    await ok('port', 'link', 'ixl-e1000', 'up');
    expect(await link()).toBe('up');
  });

  it('that is not there at the start is seen', async () => {
    await start('none,link=down', ixl);
    await becomes('down');
    expect(await nicPort()).toMatchObject({ carrier: false });
  });
});
