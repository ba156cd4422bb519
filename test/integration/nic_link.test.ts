/** The cable of a NIC, pulled out and plugged in again in whole labs with real processes: what its port shows and carries. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MachineControl } from '../../proto/gen/services.js';
import { type LabRecord, labIn } from '../../services/cli/registry.ts';
import { Ipc } from '../../services/common/ipc/ipc.ts';
import { randomName } from '../../services/common/shm/run_dir.ts';
import { labScript, ROM } from './download_lab.ts';
import { ROOT, TestBed } from './harness.ts';
import { LIMIT, POLL, SwitchLab } from './switch_lab.ts';

let bed: TestBed;
let lab: SwitchLab;
beforeEach(() => {
  bed = new TestBed();
  lab = new SwitchLab(bed);
});
afterEach(() => bed.close());

/** The port of the NIC as `l4lab stats` shows it. */
const nicPort = async () => (await lab.ports())['ixl-e1000'];
const becomes = (wanted: object) => expect.poll(nicPort, POLL).toMatchObject(wanted);

/** Plugs the cable of the only NIC of the only lab. */
async function plug(plugged: boolean): Promise<void> {
  const [dir] = readdirSync(bed.base) as [string];
  const { control, dir: runDir } = labIn(join(bed.base, dir)) as LabRecord;
  const ipc = new Ipc({ runDir, task: randomName() });
  const capability = { gate: control.gate, object: 0, masks: [], proof: Buffer.from(control.proof, 'hex') };
  try {
    await ipc.client(MachineControl, capability).cable({ nic: 0, plugged });
  } finally {
    ipc.close();
  }
}

/** A lab with one NIC and a switch whose ports the test makes; resolves when it serves. */
async function start(wire: string, ixl: string): Promise<void> {
  const body = 'local reader = vswitch:create(1); print("the switch serves")';
  const script = labScript(bed, { switchOptions: `--ixl=${ixl}`, body });
  const frames = ['--rom', join(ROOT, 'dist/test/integration')];
  const run = bed.l4lab(['run', script, ...ROM, ...frames, '--nic', `e1000,wire=${wire}`]);
  await run.saw(/the switch serves/);
}

describe.each(['task', 'in-process'])('the cable of a NIC (--ixl=%s)', LIMIT, (ixl) => {
  it('that is pulled out takes the link of its port down, and up again', async () => {
    await start('none', ixl);
    await becomes({ link: 'up' });
    await lab.ok('port', 'add', 'src');
    const send = (count: number) =>
      lab.ok('port', 'run', '--wait', 'src', 'rom/frame_client.js', 'send', String(count), '60');
    await send(3);
    expect(await nicPort()).toMatchObject({ carrier: true, out: { packets: 3 }, drops: [] });
    await plug(false);
    await becomes({ link: 'down' });
    expect(await lab.ok('port', 'list')).toMatch(/ixl-e1000 .* no carrier /);
    await send(5);
    const down = [{ reason: 'link_down', direction: 'out', count: 5 }];
    expect(await nicPort()).toMatchObject({ carrier: false, out: { packets: 3 }, drops: down });
    // The user cannot bring up what has no cable.
    expect(await lab.ok('port', 'link', 'ixl-e1000', 'up')).toMatch(
      /; but its NIC has no link: see to its cable$/m,
    );
    expect(await nicPort()).toMatchObject({ link: 'down' });
    await plug(true);
    await becomes({ link: 'up' });
    await send(7);
    expect(await nicPort()).toMatchObject({ carrier: true, out: { packets: 10 }, drops: down });
    // Nor does a cable bring up what the user has taken down.
    await lab.ok('port', 'link', 'ixl-e1000', 'down');
    await plug(false);
    await becomes({ link: 'down', carrier: false });
    await plug(true);
    await becomes({ link: 'down', carrier: true });
    await lab.ok('port', 'link', 'ixl-e1000', 'up');
    expect(await nicPort()).toMatchObject({ link: 'up' });
  });

  it('that is not there at the start is seen', async () => {
    await start('none,link=down', ixl);
    await becomes({ link: 'down' });
    expect(await nicPort()).toMatchObject({ carrier: false });
  });
});
