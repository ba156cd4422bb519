/**
 * What the switch's throughput is to be read against, on one core:
 *
 *   memcpy     the same bytes through the C library, a call per frame and a call per 64 frames
 *   rings      both halves of two queues in TypeScript, every byte copied, but no switch between and no other core
 *   vde_switch the switch of Debian's vde2 in its own process, a client with one plug to send and one to receive
 *
 * Started as a process of its own, on the core of the clients: node switch_limits.js NAME FRAME [SOCKET DIRECTORY].
 */

import { Arena } from '#common/shm/arena';
import { schedYield } from '#common/shm/libc';
import { nativeCopy, vdePlugs } from '#common/shm/testing/native';
import { DeviceQueue } from '#common/virtio/device_queue';
import { DriverQueue } from '#common/virtio/driver_queue';
import { featureSet } from '#common/virtio/features';
import { layoutQueue, queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { Regions } from '#common/virtio/regions';
import { copyBytes } from '#common/vnet/copy';

const SLOTS = 256;
const BATCH = 64;
const WARM_MS = 500;
const WINDOW_MS = 400;
const WINDOWS = 5;
const LINE = 64;
/** Frames on their way through vde_switch: what the kernel queues for a datagram socket by default, less one. */
const VDE_WINDOW = 8;

/** Frames per microsecond: median of some windows. `pass` moves frames and says how many. */
function measure(pass: () => number): number {
  const lasting = (ms: number): number => {
    const start = performance.now();
    let frames = 0;
    while (performance.now() < start + ms) frames += pass();
    return frames / ((performance.now() - start) * 1e3);
  };
  lasting(WARM_MS);
  const rates = Array.from({ length: WINDOWS }, () => lasting(WINDOW_MS)).sort((a, b) => a - b);
  return rates[WINDOWS >> 1] as number;
}

/** As in the ring: buffers an odd number of lines apart, large frames few at a time. */
function buffers(frame: number): { stride: number; slots: number } {
  const stride = (Math.ceil((NET_HDR_SIZE + frame) / LINE) | 1) * LINE;
  return { stride, slots: frame > 4096 ? 16 : SLOTS };
}

function memcpy(frame: number): { mpps: number; bulkMpps: number } {
  const arena = new Arena();
  const copy = nativeCopy();
  const { stride, slots } = buffers(frame);
  const bytes = NET_HDR_SIZE + frame;
  const packed = Math.min(BATCH, slots);
  const from = arena.address + arena.mapPrivate(slots * stride);
  const to = arena.address + arena.mapPrivate(slots * stride);
  arena.u8.fill(1, from - arena.address, from - arena.address + slots * stride);
  const single = measure(() => {
    for (let n = 0; n < slots; n++) copy(to + n * stride, from + n * stride, bytes);
    return slots;
  });
  const bulk = measure(() => {
    for (let n = 0; n < slots; n += packed) copy(to + n * bytes, from + n * bytes, packed * bytes);
    return slots;
  });
  return { mpps: single, bulkMpps: bulk };
}

function rings(frame: number): { mpps: number } {
  const arena = new Arena();
  const { stride, slots } = buffers(frame);
  const ring = queueBytes(slots);
  const size = 2 * ring + 2 * slots * stride;
  const at = arena.mapPrivate(size);
  const regions = new Regions(2);
  regions.add(at, size, at, true);
  const half = (n: number): [DriverQueue, DeviceQueue] => {
    const layout = layoutQueue(slots, at + n * ring);
    return [
      new DriverQueue(arena, layout, featureSet()),
      new DeviceQueue(arena, layout, featureSet(), regions),
    ];
  };
  const [[out, taken], [filled, given]] = [half(0), half(1)];
  const [source, target] = [taken.newChain(), given.newChain()];
  const first = at + 2 * ring;
  const bytes = NET_HDR_SIZE + frame;
  for (let n = 0; n < slots; n++) filled.add(first + n * stride, bytes, true);
  filled.flush();
  const batch = Math.min(BATCH, slots);
  const mpps = measure(() => {
    for (let n = 0; n < batch; n++) {
      const slot = first + (slots + n) * stride;
      arena.u32[(slot + 68) >>> 2] = n;
      out.add(slot, bytes, false);
    }
    out.flush();
    while (taken.pop(source) && given.pop(target)) {
      copyBytes(arena, target.where[0] as number, source.where[0] as number, bytes);
      given.push(target.head, bytes);
      taken.push(source.head, 0);
    }
    given.flush();
    taken.flush();
    while (out.pop() >= 0);
    for (let head = filled.pop(); head >= 0; head = filled.pop()) {
      if (arena.u32[(first + head * stride + 68) >>> 2] === 0xffff_ffff)
        throw new Error('no frame has this number');
      filled.add(first + head * stride, bytes, true);
    }
    filled.flush();
    return batch;
  });
  return { mpps };
}

function vde(frame: number, path: string): { mpps: number; lost: number } {
  const open = vdePlugs();
  const arena = new Arena();
  const [from, to] = [open(path), open(path)];
  const at = arena.mapPrivate(2 * 65536);
  const [out, back] = [arena.address + at, arena.address + at + 65536];
  const { u8, u32 } = arena;
  u8.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0], at);
  const hello = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0);
  u8.set(hello, at + 65536);
  to.send(back, frame);
  let [next, expected, lost] = [0, 0, 0];
  let quiet = 0;
  const mpps = measure(() => {
    let progress = 0;
    while (next - expected < VDE_WINDOW) {
      u32[(at + 56) >>> 2] = next;
      if (!from.send(out, frame)) break;
      next += 1;
      progress += 1;
    }
    let frames = 0;
    while (to.receive(back, 65536) === frame) {
      const seq = u32[(at + 65536 + 56) >>> 2] as number;
      lost += seq - expected;
      expected = seq + 1;
      frames += 1;
    }
    quiet = progress + frames > 0 ? 0 : quiet + 1;
    // A frame that the switch dropped is not waited for.
    if (quiet > 10_000) [lost, expected, quiet] = [lost + next - expected, next, 0];
    if (progress + frames === 0) schedYield();
    return frames;
  });
  from.close();
  to.close();
  return { mpps, lost };
}

const [name, frame = '64', path = ''] = process.argv.slice(2);
const run = { memcpy, rings, vde }[name ?? ''];
if (!run) throw new Error(`there is no limit ${name}`);
console.log(JSON.stringify(run(Number(frame), path)));
process.exit(0);
