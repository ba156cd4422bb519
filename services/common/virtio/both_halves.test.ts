// Both halves on one memory, in random batches: nothing is lost, duplicated, reordered or damaged.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { DeviceQueue } from './device_queue.ts';
import { DriverQueue } from './driver_queue.ts';
import { F_EVENT_IDX, F_INDIRECT_DESC, featureSet } from './features.ts';
import { layoutQueue, queueBytes } from './layout.ts';
import { Pieces } from './pieces.ts';
import { Regions } from './regions.ts';

const BASE = 0x20_0000;
const SLOT = 64;

function setup(size: number, features: number[]) {
  const rings = queueBytes(size);
  const memory = new Memory(new ArrayBuffer(rings + size * SLOT));
  const layout = layoutQueue(size, 0);
  const regions = new Regions(1);
  regions.add(BASE, memory.u8.length, 0, true);
  const set = featureSet(...features);
  return {
    memory,
    rings,
    driver: new DriverQueue(memory, layout, set, 'driver'),
    device: new DeviceQueue(memory, layout, set, regions, 'device'),
  };
}

/** Numbers 0..n-1, the same in each run. */
function randomNumbers(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** expect() would take most of the test's time. */
function check(what: string, value: number | undefined, wanted: number): void {
  if (value !== wanted) throw new Error(`${what} must be ${wanted}: current value is ${value}`);
}

describe.each([
  { size: 1, features: [] },
  { size: 8, features: [] },
  { size: 256, features: [F_EVENT_IDX, F_INDIRECT_DESC] },
])('a queue of $size with features $features', ({ size, features }) => {
  it('carries 100,000 chains intact, wakes the peer whenever it sleeps', () => {
    const total = 100_000;
    const { memory, rings, driver, device } = setup(size, features);
    const random = randomNumbers(size);
    const pieces = new Pieces(3);
    const chain = device.newChain();
    const sent = new Uint32Array(size); // per head
    let [offered, served, reaped] = [0, 0, 0];
    // A sleeping side does nothing until its bell rings: lost wake-ups end the test by its turn limit.
    let [driverAwake, deviceAwake] = [true, true];
    let turns = 0;
    while (reaped < total && turns++ < 20 * total) {
      if (driverAwake && random(2) === 0) {
        for (let n = random(size) + 1; n > 0 && offered < total; n--) {
          pieces.clear();
          const count = Math.min(1 + random(3), size);
          for (let i = 0; i < count; i++) {
            // The slot is found after the head is known; slots are per head and position.
            pieces.push(BASE + rings, 8, i + 1 === count);
          }
          const head = driver.addChain(pieces);
          if (head < 0) break;
          sent[head] = offered;
          memory.view.setUint32(rings + head * SLOT, offered, true);
          // Point the pieces at the head's slot, before they are published.
          for (let i = 0, at = head; i < count; i++) {
            memory.view.setUint32(at * 16, BASE + rings + head * SLOT + i * 8, true);
            at = memory.view.getUint16(at * 16 + 14, true);
          }
          offered += 1;
        }
        if (driver.flush()) deviceAwake = true;
        for (let n = random(size) + 1; n > 0; n--) {
          const head = driver.pop();
          if (head < 0) break;
          check('used length', driver.usedLength, 4);
          check('chain taken back', sent[head], reaped);
          reaped += 1;
        }
        if (random(4) === 0) {
          driverAwake = driver.enableInterrupts();
        } else driver.disableInterrupts();
      }
      if (deviceAwake && random(2) === 0) {
        for (let n = random(size) + 1; n > 0; n--) {
          if (!device.pop(chain)) break;
          if (random(8) === 0) {
            device.rewind(1);
            continue;
          }
          const first = memory.view.getUint32(chain.where[0] as number, true);
          check('contents', first, served);
          check('last piece writable', chain.writable[chain.count - 1], 1);
          memory.view.setUint32((chain.where[chain.count - 1] as number) + 4, first, true);
          device.push(chain.head, 4);
          served += 1;
        }
        if (device.flush()) driverAwake = true;
        if (random(4) === 0) deviceAwake = device.enableNotifications();
        else device.disableNotifications();
      }
      // The driver has other reasons to wake up as long as it has something to send.
      if (!driverAwake && !deviceAwake && reaped < offered)
        throw new Error(`a wake-up was lost at ${reaped}`);
      if (!driverAwake && driver.outstanding === 0) driverAwake = true;
    }
    expect([offered, served, reaped]).toEqual([total, total, total]);
    expect(driver.free).toBe(size);
    expect(device.inFlight).toBe(0);
  });
});

it('carries a million chains without allocating', () => {
  // A process of its own with a young generation so large that nothing is collected meanwhile. One
  // number boxed per chain would be 12 bytes each; what the compiler and the measuring itself allocate is less than 1.
  const script = fileURLToPath(new URL('../../../test/bench/virtio_rings.ts', import.meta.url));
  // The compiler does not come later on a machine that has no core for it.
  const compiler = '--no-concurrent-recompilation';
  const heap = ['--expose-gc', compiler, '--min-semi-space-size=128', '--max-semi-space-size=128'];
  const out = execFileSync(
    process.execPath,
    ['--conditions=source', '--import', 'tsx', ...heap, script, '--heap', '--json'],
    {
      encoding: 'utf8',
    },
  );
  expect(JSON.parse(out)).toMatchObject({ name: 'virtio_ring.heap', unit: 'bytes/packet' });
  expect(JSON.parse(out).value).toBeLessThan(1);
});
