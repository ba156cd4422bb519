/**
 * What the two halves of a virtqueue cost, in nanoseconds per packet. Run:
 *   node --conditions=source --import tsx test/bench/virtio_rings.ts [--json]
 * One thread does both halves in turn, batches of 64 in a 256-entry ring, no copying of frames. With
 * --heap (and node's --expose-gc): the bytes that the heap grows by per packet, garbage included.
 */
import { Memory } from '#common/memory';
import { DeviceQueue } from '#common/virtio/device_queue';
import { DriverQueue } from '#common/virtio/driver_queue';
import { F_EVENT_IDX, type Features, featureSet } from '#common/virtio/features';
import { layoutQueue, queueBytes } from '#common/virtio/layout';
import { Pieces } from '#common/virtio/pieces';
import { Regions } from '#common/virtio/regions';

const SIZE = 256;
const BATCH = 64;
const BASE = 0x20_0000;
const REGION_BYTES = 4096 + SIZE * 2048;

interface Rig {
  driver: DriverQueue;
  device: DeviceQueue;
  regionCount: number;
  pieceCount: number;
}

/** `pieceCount` descriptors per chain, `regionCount` regions, used in turn. */
function makeRig(features: Features, pieceCount: number, regionCount: number): Rig {
  const rings = queueBytes(SIZE);
  const memory = new Memory(new ArrayBuffer(rings + REGION_BYTES * regionCount));
  const regions = new Regions(80);
  for (let i = 0; i < regionCount; i++) {
    regions.add(BASE + i * REGION_BYTES, REGION_BYTES, rings + i * REGION_BYTES, true);
  }
  return {
    driver: new DriverQueue(memory, layoutQueue(SIZE, 0), features),
    device: new DeviceQueue(memory, layoutQueue(SIZE, 0), features, regions),
    regionCount,
    pieceCount,
  };
}

/** Carries `chains` chains; returns the milliseconds that each half took, if it is to be timed. */
function carry(rig: Rig, chains: number, timed: boolean): { driver: number; device: number } {
  const { driver, device, regionCount, pieceCount } = rig;
  const chain = device.newChain();
  const pieces = new Pieces(pieceCount);
  const cost = { driver: 0, device: 0 };
  let [checksum, turn, start, middle, end] = [0, 0, 0, 0, 0];
  for (let done = 0; done < chains; done += BATCH) {
    if (timed) start = performance.now();
    for (let n = 0; n < BATCH; n++) {
      const address = BASE + (turn++ % regionCount) * REGION_BYTES;
      if (pieceCount === 1) driver.add(address, 1526, true);
      else {
        pieces.clear();
        for (let i = 0; i < pieceCount; i++) pieces.push(address + i * 2048, 12, true);
        driver.addChain(pieces);
      }
    }
    driver.flush();
    if (timed) middle = performance.now();
    while (device.pop(chain)) {
      for (let i = 0; i < chain.count; i++) checksum = (checksum + (chain.where[i] as number)) | 0;
      device.push(chain.head, 12);
    }
    device.flush();
    if (timed) end = performance.now();
    for (let head = driver.pop(); head >= 0; head = driver.pop())
      checksum = (checksum + driver.usedLength) | 0;
    if (timed) {
      cost.driver += middle - start + (performance.now() - end);
      cost.device += end - middle;
    }
  }
  if (checksum === 0) throw new Error('nothing was carried');
  return cost;
}

function report(name: string, value: number, unit: string): void {
  const figure = { name: `virtio_ring.${name}`, value: Number(value.toFixed(3)), unit };
  console.log(
    process.argv.includes('--json') ? JSON.stringify(figure) : `${figure.name} ${figure.value} ${unit}`,
  );
}

/**
 * Median of several rounds: what is allocated for a chain is allocated in each of them, while a compiler that comes late, or
 * has to think again, shows in one or two.
 */
function heap(): void {
  const [rounds, chains] = [11, 100_000];
  const rigs = [makeRig(featureSet(), 1, 1), makeRig(featureSet(F_EVENT_IDX), 2, 2)];
  for (let i = 0; i < 20; i++) for (const rig of rigs) carry(rig, 50_000, false);
  if (!globalThis.gc) throw new Error('Cannot measure the heap as node must be started with --expose-gc');
  globalThis.gc();
  const growth = Array.from({ length: rounds }, () => {
    const before = process.memoryUsage().heapUsed;
    for (const rig of rigs) carry(rig, chains / 2, false);
    return (process.memoryUsage().heapUsed - before) / chains;
  });
  growth.sort((a, b) => a - b);
  report('heap', growth[rounds >> 1] as number, 'bytes/packet');
}

function time(): void {
  const chains = 5_000_000;
  const cases: [string, Features, number, number][] = [
    ['single', featureSet(), 1, 1],
    ['single_event_idx', featureSet(F_EVENT_IDX), 1, 1],
    ['two_pieces', featureSet(), 2, 1],
    ['two_regions_in_turn', featureSet(), 1, 2],
  ];
  carry(makeRig(featureSet(), 1, 1), chains, true);
  for (const [name, features, pieceCount, regionCount] of cases) {
    const cost = carry(makeRig(features, pieceCount, regionCount), chains, true);
    report(`${name}.device`, (cost.device * 1e6) / chains, 'ns/packet');
    report(`${name}.driver`, (cost.driver * 1e6) / chains, 'ns/packet');
  }
}

if (process.argv.includes('--heap')) heap();
else time();
