/**
 * Notification suppression between two processes: scheduler, pump and port here, a driver with its own pump there.
 * Both sleep whenever they can, and have to be woken for the rest of what is on its way; the 16-bit indices wrap; a wake-up that is lost ends the transfer for good.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { Pump } from '#common/shm/pump';
import { testRunDir } from '#common/testing/run_dir';
import { DeviceQueue } from '#common/virtio/device_queue';
import { F_EVENT_IDX, featureSet } from '#common/virtio/features';
import { layoutQueue } from '#common/virtio/layout';
import { Regions } from '#common/virtio/regions';
import { Fabric } from './fabric.ts';
import { Scheduler } from './scheduler.ts';
import type { SourceFrame } from './source_frame.ts';
import { TAG_KEEP } from './tag.ts';
import type { Report } from './testing/echo_driver.ts';
import { DRAINS, echoLayout } from './testing/echo_layout.ts';
import { SCRATCH_BYTES, VirtioPort } from './virtio_port.ts';

const DRIVER = fileURLToPath(new URL('./testing/echo_driver.ts', import.meta.url));
/** The indices wrap at 65,536. */
const FRAMES = 150_000;

class Echo extends Fabric {
  drops = 0;

  connect(port: VirtioPort): void {
    this.endpoints[0] = port;
  }

  override forward(from: number, frame: SourceFrame): void {
    if ((this.endpoint(from)?.deliver(frame, TAG_KEEP, 0) ?? 0) < 0) this.drops += 1;
    this.touch(from);
  }
}

it.each([
  ['EVENT_IDX', 256, true],
  ['EVENT_IDX', 2, true],
  ['flags', 256, false],
])('no wake-up is lost with %s and %d entries, and most are not needed', async (_name, entries, eventIdx) => {
  using dir = testRunDir();
  const arena = new Arena(2 ** 24);
  const memories = new SharedMemories(dir.path, arena);
  const doorbells = new Doorbells(dir.path);
  const at = echoLayout(entries);
  const memory = memories.create(at.bytes);
  const kick = doorbells.create();
  const frames = entries > 2 ? FRAMES : FRAMES / 2;
  const args = [dir.path, memory.ref.name, memory.size, kick.name, frames, entries, eventIdx ? 1 : 0];
  const child = spawn(
    process.execPath,
    ['--conditions=source', '--import', 'tsx', DRIVER, ...args.map(String)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const bell = doorbells.open((await lines.next()).value);
  const failures: Error[] = [];
  const fabric = new Echo(1);
  const port = new VirtioPort({
    number: 0,
    nic: false,
    memory: arena,
    scratch: arena.mapPrivate(SCRATCH_BYTES),
    fabric,
    device: {
      fail: (error) => failures.push(error),
      interrupt: () => bell.ring(),
      invalidRequest: () => failures.push(new Error('invalid request')),
    },
  });
  fabric.connect(port);
  const scheduler = new Scheduler(fabric);
  const pump = new Pump(scheduler, { spinMs: 0 });
  kick.listen(() => {
    scheduler.activate(0);
    pump.kick();
  });
  const regions = new Regions(1);
  regions.add(0, memory.size, memory.offset, true);
  const features = featureSet(...(eventIdx ? [F_EVENT_IDX] : []));
  const [rx, tx] = [at.rx, at.tx].map(
    (offset) => new DeviceQueue(arena, layoutQueue(entries, memory.offset + offset), features, regions),
  ) as [DeviceQueue, DeviceQueue];
  port.start(rx, tx, features);
  pump.start();
  child.stdin.write('go\n');
  const report = JSON.parse((await lines.next()).value) as Report;
  expect(await ended).toEqual([0, null]);
  expect([report.frames, fabric.drops, failures]).toEqual([frames, 0, []]);
  // Both slept again and again, and hardly ever was one woken for what it would have seen by itself.
  expect(report.drains).toBe(DRAINS - 1);
  if (entries > 2) expect(report.kicks + report.interrupts).toBeLessThan(frames / 4);
  pump.stop();
  bell.close();
  kick.close();
  memories.close();
});
