/**
 * The other half: a driver that behaves, on rings that a hostile device scribbles on. Whatever it writes, the driver gets each
 * of its buffers back at most once, with no more bytes than they had room for, or a RingError, for good.
 */
import fc from 'fast-check';
import { Random } from '#common/testing/random';
import { DriverQueue } from '#common/virtio/driver_queue';
import { RingError } from '#common/virtio/errors';
import { featureSet } from '#common/virtio/features';
import { layoutQueue, queueBytes } from '#common/virtio/layout';
import { Pieces } from '#common/virtio/pieces';
import { HookedMemory } from './hooked_memory.ts';

const GUARD = 64;
const F_EVENT_IDX = 29;

export interface DriverProgram {
  readonly half: 'driver';
  /** A power of two. */
  readonly log2size: number;
  readonly eventIdx: boolean;
  readonly bursts: readonly (readonly [seed: number, count: number])[];
}

export function driverPrograms(burst = 2000): fc.Arbitrary<DriverProgram> {
  return fc.record({
    half: fc.constant('driver' as const),
    log2size: fc.nat(7),
    eventIdx: fc.boolean(),
    bursts: fc.array(fc.tuple(fc.nat(0xffff_ffff), fc.nat(burst)), { minLength: 1, maxLength: 20 }),
  });
}

/** Runs a program. Returns the number of operations of the device. Throws what is wrong. */
export function runDriverProgram({ log2size, eventIdx, bursts }: DriverProgram): number {
  const rig = new DriverRig(2 ** log2size, eventIdx);
  for (const [seed, count] of bursts) rig.burst(new Random(seed), count);
  return rig.operations;
}

class DriverRig {
  operations = 0;
  readonly #size: number;
  readonly #eventIdx: boolean;
  readonly #memory: HookedMemory;
  readonly #pieces: Pieces;
  #queue!: DriverQueue;
  /** What the device has, or is about to get: bytes that it may write, by head. */
  readonly #given = new Map<number, { room: number; descriptors: number }>();

  constructor(size: number, eventIdx: boolean) {
    this.#size = size;
    this.#eventIdx = eventIdx;
    this.#memory = new HookedMemory(2 * GUARD + queueBytes(size));
    this.#memory.u8.fill(0xa5);
    this.#pieces = new Pieces(size);
    this.#start();
  }

  burst(random: Random, count: number): void {
    for (let n = 0; n < count; n++) {
      this.#offend(random);
      if (random.oneIn(2)) this.#offer(random);
      if (random.oneIn(4)) this.#queue.flush();
      if (random.oneIn(4)) this.#queue.enableInterrupts();
      if (random.oneIn(4)) this.#queue.disableInterrupts();
      if (random.oneIn(3)) this.#take();
    }
    this.#checkGuards();
  }

  #start(): void {
    this.#given.clear();
    const features = featureSet(...(this.#eventIdx ? [F_EVENT_IDX] : []));
    this.#queue = new DriverQueue(this.#memory, layoutQueue(this.#size, GUARD), features);
  }

  #offer(random: Random): void {
    const pieces = this.#pieces.clear();
    const count = 1 + random.below(Math.min(this.#size, 4));
    let room = 0;
    for (let n = 0; n < count; n++) {
      const len = random.pick([0, 1, 1500, 0xffff_ffff]);
      const writable = random.oneIn(2);
      pieces.push(random.u32() * 1024, len, writable);
      if (writable) room += len;
    }
    const head = this.#queue.addChain(pieces);
    if (head < 0) return;
    if (this.#given.has(head)) throw new Error(`head ${head} is given out twice`);
    this.#given.set(head, { room, descriptors: count });
  }

  #take(): void {
    try {
      for (let head = this.#queue.pop(); head >= 0; head = this.#queue.pop()) {
        const chain = this.#given.get(head);
        if (!chain) throw new Error(`head ${head} came back, which the device did not have`);
        this.#given.delete(head);
        if (this.#queue.usedLength > chain.room)
          throw new Error(`${this.#queue.usedLength} bytes are said to be in ${chain.room}`);
      }
    } catch (err) {
      if (!(err instanceof RingError)) throw err;
      if (this.#queue.broken === undefined)
        throw new Error('an error, and the queue is not broken', { cause: err });
      this.#start();
      return;
    }
    let descriptors = this.#queue.free;
    for (const chain of this.#given.values()) descriptors += chain.descriptors;
    if (descriptors !== this.#size) throw new Error(`of ${this.#size} descriptors ${descriptors} are left`);
  }

  /** The device: mostly something that could be right, else anything, anywhere in the rings. */
  #offend(random: Random): void {
    this.operations += 1;
    const { u16, u32, u8 } = this.#memory;
    const { used, avail } = layoutQueue(this.#size, GUARD);
    const idx = u16[used / 2 + 1] as number;
    const kind = random.below(12);
    if (kind < 7) {
      const heads = [...this.#given.keys()];
      const id =
        heads.length > 0 && !random.oneIn(50) ? (heads[random.below(heads.length)] as number) : random.u32();
      u32[used / 4 + 1 + 2 * (idx % this.#size)] = id;
      u32[used / 4 + 2 + 2 * (idx % this.#size)] = random.oneIn(100) ? random.u32() : 0;
      u16[used / 2 + 1] = idx + 1;
    } else if (kind === 7) {
      if (random.oneIn(10)) u16[used / 2 + 1] = random.u32();
    } else if (kind === 8) {
      u16[random.pick([used / 2, used / 2 + 2 + 4 * this.#size, avail / 2])] = random.u32();
    } else if (kind === 9) {
      if (random.oneIn(4)) u8[GUARD + random.below(queueBytes(this.#size))] = random.u32();
    } else {
      // What the driver wrote is no memory of its own: it never reads it back.
      u8[GUARD + random.below(avail + 4 - GUARD)] = random.u32();
    }
  }

  #checkGuards(): void {
    const { u8 } = this.#memory;
    const outside = [...u8.subarray(0, GUARD), ...u8.subarray(GUARD + queueBytes(this.#size))];
    if (outside.some((byte) => byte !== 0xa5)) throw new Error('the driver has written outside of its rings');
  }
}
