/**
 * A driver in a process of its own, for `event_idx.test.ts`: sends numbered frames into a port that sends them back, with
 * pauses, and sleeps on its doorbell whenever it has nothing to do. A wake-up that is lost ends everything.
 *
 * argv: run directory, memory name, its size, doorbell of the device, frames, entries, 1 for EVENT_IDX.
 * Prints one line of JSON, a Report.
 */
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { Pump } from '#common/shm/pump';
import { DriverQueue } from '#common/virtio/driver_queue';
import { F_EVENT_IDX, featureSet } from '#common/virtio/features';
import { layoutQueue } from '#common/virtio/layout';
import { DRAINS, echoLayout, SLOT_BYTES } from './echo_layout.ts';

export interface Report {
  readonly frames: number;
  readonly kicks: number;
  readonly interrupts: number;
  /** How often everything was back, and nothing was on its way. */
  readonly drains: number;
}

const FRAME_BYTES = 12 + 60;
const [runDir, name, size, kick, total, entries, eventIdx] = process.argv.slice(2) as [
  string,
  ...string[],
] as string[];
const frames = Number(total);
const count = Number(entries);
const arena = new Arena(2 ** 24);
const doorbells = new Doorbells(String(runDir));
const mapping = new SharedMemories(String(runDir), arena).open({
  name: String(name),
  size: Number(size),
  writable: true,
});
const device = doorbells.open(String(kick));
const doorbell = doorbells.create();
const at = echoLayout(count);
const features = featureSet(...(eventIdx === '1' ? [F_EVENT_IDX] : []));
const rx = new DriverQueue(arena, layoutQueue(count, mapping.offset + at.rx), features, 'rx');
const tx = new DriverQueue(arena, layoutQueue(count, mapping.offset + at.tx), features, 'tx');
const { u32 } = arena;
let [sent, received, kicks, interrupts, drains] = [0, 0, 0, 0, 0];
let waking = false;
let seed = 1;
const random = (n: number): number => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * n);
};

function ring(flushed: boolean): void {
  if (!flushed) return;
  kicks += 1;
  device.ring();
}

/** Where the number of the frame in a slot is. */
const numberAt = (slot: number): number => (mapping.offset + at.slots + slot * SLOT_BYTES + 32) >>> 2;

function receive(): number {
  let taken = 0;
  for (let head = rx.pop(); head >= 0; head = rx.pop()) {
    const number = u32[numberAt(head)] as number;
    if (number !== received || rx.usedLength !== FRAME_BYTES)
      throw new Error(`frame ${received} came back as ${number} of ${rx.usedLength} bytes`);
    received += 1;
    taken += 1;
    rx.add(at.slots + head * SLOT_BYTES, SLOT_BYTES, true);
  }
  ring(rx.flush());
  return taken;
}

/** Never more on the way than the other side has buffers for: none is dropped. */
function send(): number {
  while (tx.pop() >= 0);
  const most = Math.min(random(count) + 1, count - (sent - received), frames - sent, tx.free);
  for (let n = 0; n < most; n++) {
    const slot = count + (sent % count);
    u32[numberAt(slot)] = sent++;
    tx.add(at.slots + slot * SLOT_BYTES, FRAME_BYTES, false);
    if (random(8) === 0) ring(tx.flush());
  }
  ring(tx.flush());
  return most;
}

/** Nothing is sent until all frames are back and the driver has gone to sleep, which `wakeLater` ends. */
function isDraining(): boolean {
  return sent >= ((drains + 1) * frames) / DRAINS;
}

function wakeLater(): void {
  if (waking) return;
  waking = true;
  const wake = (): void => {
    waking = false;
    drains += 1;
    pump.kick();
  };
  if (random(2) === 0) setImmediate(wake);
  else setTimeout(wake, random(2));
}

function poll(): boolean {
  const worked = receive();
  if (received === frames) {
    pump.stop();
    process.stdout.write(`${JSON.stringify({ frames, kicks, interrupts, drains } satisfies Report)}\n`);
    process.exit(0);
  }
  if (isDraining()) return worked > 0;
  return send() > 0 || worked > 0;
}

const pump = new Pump(
  {
    poll,
    arm: () => {
      if (isDraining() && received === sent) wakeLater();
      const first = rx.enableInterrupts();
      return (tx.free === 0 && tx.enableInterrupts()) || first;
    },
    disarm: () => {
      rx.disableInterrupts();
      tx.disableInterrupts();
    },
  },
  { spinMs: 0 },
);
doorbell.listen(() => {
  interrupts += 1;
  pump.kick();
});
for (let n = 0; n < count; n++) rx.add(at.slots + n * SLOT_BYTES, SLOT_BYTES, true);
rx.flush();
process.stdout.write(`${doorbell.name}\n`);
process.stdin.once('data', () => pump.start());
