/**
 * The receiving half of a virtio-net driver: hands every frame of a port to somebody. Nothing is ever sent.
 *
 *     one dataspace:  rx ring | tx ring (as small as can be) | slots, one for each rx descriptor
 */
import type { Capability } from '#common/ipc/capability';
import type { L4Error } from '#common/ipc/errors';
import { type DeviceMemory, DriverClient, type DriverEnv } from '#common/l4virtio/driver_client';
import type { Arena } from '#common/shm/arena';
import { Pump } from '#common/shm/pump';
import type { DriverQueue } from '#common/virtio/driver_queue';
import { featureSet, hasFeature, NET_F_MRG_RXBUF } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE, numBuffers } from '#common/virtio/net_header';

/** A frame of common size and its header fit one slot, longer ones take several. */
const SLOT = 2048;
/** Longest frame: 64 KiB of payload as segmentation offload makes them, and headers. */
const MAX_FRAME = 65536 + 64;
const RX = 0;
const TX = 1;
const TX_ENTRIES = 2;
const BATCH = 64;

/** Takes the frames. */
export interface FrameSink {
  /** `length` bytes from `offset` of the arena; to be used at once. */
  frame(offset: number, length: number): void;
  /** No more frames for the moment. */
  endBatch(): void;
}

export interface ListenerEnv extends DriverEnv {
  readonly arena: Arena;
  readonly signal: AbortSignal;
}

export class Listener {
  readonly #env: ListenerEnv;
  readonly #driver: DriverClient;
  readonly #sink: FrameSink;
  readonly #rx: DriverQueue;
  readonly #slots: number;
  readonly #address: number;
  /** Slot of each head. */
  readonly #slotOf: Uint16Array;
  readonly #mergeable: boolean;
  readonly #pump: Pump;
  /** Frames that lie in several slots are put together here. */
  readonly #stage: number;
  #staged = 0;
  /** Slots of the present frame that are still to come. */
  #missing = 0;

  /** Opens the device behind a capability. `onEnd` hears once when it cannot be used any more. Throws L4Error. */
  static async open(
    env: ListenerEnv,
    name: string,
    cap: Capability,
    sink: FrameSink,
    onEnd: (error: L4Error) => void,
  ): Promise<Listener> {
    let listener: Listener | undefined;
    const driver = await DriverClient.open(env, cap, {
      name,
      signal: env.signal,
      onInterrupt: () => {
        if (listener) listener.#pump.kick();
      },
      onNeedsReset: onEnd,
    });
    try {
      const entries = driver.queueSize(RX);
      const txRing = queueBytes(entries);
      const slots = txRing + queueBytes(TX_ENTRIES);
      const memory = await driver.allocate(slots + entries * SLOT);
      await driver.configureQueue(RX, memory, 0, entries);
      await driver.configureQueue(TX, memory, txRing, driver.queueSize(TX, TX_ENTRIES));
      await driver.start(featureSet(NET_F_MRG_RXBUF));
      listener = new Listener(env, driver, sink, memory, slots, onEnd);
      return listener;
    } catch (err) {
      await driver.close();
      throw err;
    }
  }

  private constructor(
    env: ListenerEnv,
    driver: DriverClient,
    sink: FrameSink,
    memory: DeviceMemory,
    slots: number,
    onEnd: (error: L4Error) => void,
  ) {
    this.#env = env;
    this.#driver = driver;
    this.#sink = sink;
    this.#rx = driver.queue(RX);
    this.#slots = memory.where + slots;
    this.#address = memory.address + slots;
    this.#slotOf = new Uint16Array(this.#rx.size);
    this.#mergeable = hasFeature(driver.features, NET_F_MRG_RXBUF);
    this.#stage = env.arena.mapPrivate(MAX_FRAME);
    this.#pump = new Pump({
      poll: () => this.#poll(onEnd),
      arm: () => this.#rx.enableInterrupts(),
      disarm: () => this.#rx.disableInterrupts(),
    });
    for (let slot = 0; slot < this.#rx.size; slot++) this.#offer(slot);
    if (this.#rx.flush()) driver.notify();
    this.#pump.start();
  }

  async close(): Promise<void> {
    this.#pump.stop();
    await this.#driver.close();
  }

  #offer(slot: number): void {
    this.#slotOf[this.#rx.add(this.#address + slot * SLOT, SLOT, true)] = slot;
  }

  #poll(onEnd: (error: L4Error) => void): boolean {
    let count = 0;
    try {
      for (; count < BATCH; count++) {
        const head = this.#rx.pop();
        if (head < 0) break;
        const slot = this.#slotOf[head] as number;
        this.#receive(this.#slots + slot * SLOT, this.#rx.usedLength);
        this.#offer(slot);
      }
    } catch (err) {
      // The device broke the rules of the ring.
      this.#pump.stop();
      onEnd(err as L4Error);
      return false;
    }
    if (count === 0) return false;
    if (this.#rx.flush()) this.#driver.notify();
    this.#sink.endBatch();
    return true;
  }

  #receive(at: number, used: number): void {
    if (this.#missing > 0) {
      this.#append(at, used);
      if (--this.#missing === 0) this.#sink.frame(this.#stage, this.#staged);
      return;
    }
    const length = used - NET_HDR_SIZE;
    if (length <= 0) return;
    const slots = this.#mergeable ? numBuffers(this.#env.arena, at) : 1;
    if (slots <= 1) {
      this.#sink.frame(at + NET_HDR_SIZE, length);
      return;
    }
    this.#staged = 0;
    this.#append(at + NET_HDR_SIZE, length);
    this.#missing = slots - 1;
  }

  /** What is beyond the longest frame is left out. */
  #append(at: number, length: number): void {
    const size = Math.min(length, MAX_FRAME - this.#staged);
    this.#env.arena.u8.copyWithin(this.#stage + this.#staged, at, at + size);
    this.#staged += size;
  }
}
