/**
 * The frame port of an lwIP interface on a virtio-net device: driver half of two queues (F6.2).
 *
 *     one dataspace:  rx ring | tx ring | rx slots | tx slots        slot = 12 bytes of header + 1514 of frame (1518 with a tag)
 *
 * A receive slot is lent to lwIP as it is and offered to the device again when its pbuf is freed. Transmit slots come
 * back when none is free. While frames arrive the pump polls and both queues' interrupts are off; each batch ends
 * with at most one notification.
 *
 * A device whose server has died may come back (reconnect.ts): frames that were with it are lost, slots that lwIP has stay
 * lent, everything else of the interface and of lwIP stays as it is.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import { type DeviceMemory, DriverClient, type DriverEnv } from '#common/l4virtio/driver_client';
import { untilOpen } from '#common/l4virtio/reconnect';
import { Pump } from '#common/shm/pump';
import type { DriverQueue } from '#common/virtio/driver_queue';
import { F_EVENT_IDX, featureSet, NET_F_MAC } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE, writePlainHeader } from '#common/virtio/net_header';
import { type FramePort, type FrameSink, MAX_FRAME } from './netif.ts';

/** EVENT_IDX: fewer kicks and interrupts. No GUEST_CSUM: this lwIP checks every checksum itself, for all interfaces. */
const WANTED = featureSet(NET_F_MAC, F_EVENT_IDX);
const RX = 0;
const TX = 1;
/** Frames of one poll: acknowledgements and the program's share come behind each. */
const BATCH = 64;
const ALIGN = 64;
const NONE = 0xffff;

export interface VirtioPortOptions {
  /** Name of the capability. */
  readonly name: string;
  /** Counts interfaces from 1: the last byte of the MAC when the device has none. */
  readonly number: number;
  /** Bytes of a frame beyond MAX_FRAME: for a VLAN tag. Even. */
  readonly extraBytes?: number;
  /** The device broke the rules or gave up: the interface is dead. */
  onFailed(error: Error): void;
  /** The device was away for so many milliseconds because its server was started again. */
  onBack?(awayMs: number): void;
  /** A server that is said to have ended may be started again all the same (TaskEnv.external). */
  readonly patient?: boolean;
  readonly signal?: AbortSignal;
}

export class VirtioPort implements FramePort {
  readonly mac: Uint8Array;
  readonly mtu = MAX_FRAME - 14;
  readonly rxBuffers: number;
  readonly #driver: DriverClient;
  readonly #options: VirtioPortOptions;
  #rx: DriverQueue;
  #tx: DriverQueue;
  readonly #slotBytes: number;
  /** Arena offset and device address of the slots: rxBuffers for receiving, then those for sending. */
  readonly #slots: number;
  readonly #address: number;
  /** Slot number of each head; of a receive buffer only while it is with the device, NONE otherwise. */
  readonly #rxSlot: Uint16Array;
  readonly #txSlotOf: Uint16Array;
  readonly #refill: Uint16Array;
  #refills = 0;
  readonly #txFree: Uint16Array;
  #txFreeCount: number;
  #txBuilt = false;
  #waiting = false;
  readonly #pump: Pump;
  #netif: FrameSink | undefined;
  /** The device had no buffer left when we came: it may have lost frames since. */
  #starved = false;
  #failed = false;
  /** The device's server has died and may come back. */
  #away = false;

  /**
   * Brings the device behind `cap` up. Throws L4Error naming the capability: ENODEV (no virtio-net device), EIO,
   * ENOMEM, or what a call failed with.
   */
  static open(env: DriverEnv, cap: Capability, options: VirtioPortOptions): Promise<VirtioPort> {
    const { patient = false } = options;
    return untilOpen(
      () => VirtioPort.#open(env, cap, options),
      () => env.ipc.epitaph(cap),
      { patient },
    );
  }

  static async #open(env: DriverEnv, cap: Capability, options: VirtioPortOptions): Promise<VirtioPort> {
    let port: VirtioPort | undefined;
    const driver = await DriverClient.open(env, cap, {
      name: options.name,
      onInterrupt: () => {
        if (port !== undefined) port.#pump.kick();
      },
      onNeedsReset: (error) => {
        if (port !== undefined) port.#fail(error);
      },
      reconnect: {
        patient: options.patient ?? false,
        onDown: () => {
          if (port !== undefined) port.#suspend();
        },
        onBack: (awayMs) => {
          if (port !== undefined) port.#resume(awayMs);
        },
      },
      ...(options.signal && { signal: options.signal }),
    });
    try {
      const rxSize = driver.queueSize(RX);
      const txSize = driver.queueSize(TX);
      const txRing = align(queueBytes(rxSize));
      const slots = txRing + align(queueBytes(txSize));
      const memory = await driver.allocate(slots + (rxSize + txSize) * slotBytes(options));
      await driver.configureQueue(RX, memory, 0, rxSize);
      await driver.configureQueue(TX, memory, txRing, txSize);
      await driver.start(WANTED);
      port = new VirtioPort(env, driver, memory, slots, options);
      return port;
    } catch (err) {
      await driver.close();
      throw err;
    }
  }

  private constructor(
    env: DriverEnv,
    driver: DriverClient,
    memory: DeviceMemory,
    slots: number,
    options: VirtioPortOptions,
  ) {
    this.#driver = driver;
    this.#options = options;
    this.mac = driver.mac ?? Uint8Array.of(2, 0, 0, 0, 0, options.number);
    this.#slotBytes = slotBytes(options);
    this.#rx = driver.queue(RX);
    this.#tx = driver.queue(TX);
    this.#slots = memory.where + slots;
    this.#address = memory.address + slots;
    this.rxBuffers = this.#rx.size;
    this.#rxSlot = new Uint16Array(this.#rx.size).fill(NONE);
    this.#refill = Uint16Array.from({ length: this.#rx.size }, (_, i) => i);
    this.#refills = this.#rx.size;
    this.#txSlotOf = new Uint16Array(this.#tx.size);
    this.#txFree = Uint16Array.from({ length: this.#tx.size }, (_, i) => i + this.#rx.size);
    this.#txFreeCount = this.#tx.size;
    for (const slot of this.#txFree) writePlainHeader(env.arena, this.#slots + slot * this.#slotBytes, 0, 0);
    this.#pump = new Pump({
      poll: () => this.#poll(),
      arm: () => this.#arm(),
      disarm: () => this.#disarm(),
    });
  }

  start(netif: FrameSink): void {
    this.#netif = netif;
    this.#disarm();
    this.flush();
    this.#pump.start();
  }

  // ---- transmit ----

  txSlot(): number {
    if (this.#txFreeCount === 0) this.#reclaim();
    if (this.#txFreeCount === 0 || this.#failed || this.#away) {
      this.#waiting = true;
      // The pump may be asleep: it has to look for free slots.
      setImmediate(() => this.#pump.kick());
      return -1;
    }
    return this.#slots + (this.#txFree[this.#txFreeCount - 1] as number) * this.#slotBytes + NET_HDR_SIZE;
  }

  txCommit(length: number): void {
    const slot = this.#txFree[--this.#txFreeCount] as number;
    const head = this.#tx.add(this.#address + slot * this.#slotBytes, NET_HDR_SIZE + length, false);
    this.#txSlotOf[head] = slot;
    this.#txBuilt = true;
  }

  #reclaim(): void {
    if (this.#failed || this.#away) return;
    try {
      for (let head = this.#tx.pop(); head >= 0; head = this.#tx.pop()) {
        this.#txFree[this.#txFreeCount++] = this.#txSlotOf[head] as number;
      }
    } catch (err) {
      this.#fail(err);
    }
  }

  flush(): void {
    if (this.#failed || this.#away) return;
    let notify = false;
    if (this.#refills > 0) {
      for (let i = 0; i < this.#refills; i++) {
        const slot = this.#refill[i] as number;
        const head = this.#rx.add(this.#address + slot * this.#slotBytes, this.#slotBytes, true);
        this.#rxSlot[head] = slot;
      }
      this.#refills = 0;
      notify = this.#rx.flush();
    }
    if (this.#txBuilt) {
      this.#txBuilt = false;
      notify = this.#tx.flush() || notify;
    }
    if (notify) this.#driver.notify();
  }

  // ---- receive ----

  rxRelease(index: number): void {
    this.#refill[this.#refills++] = index;
  }

  #poll(): boolean {
    if (this.#failed) return false;
    if (this.#rx.exhausted) this.#starved = true;
    let count = 0;
    try {
      for (; count < BATCH; count++) {
        const head = this.#rx.pop();
        if (head < 0) break;
        const slot = this.#rxSlot[head] as number;
        this.#rxSlot[head] = NONE;
        this.#receive(slot, this.#rx.usedLength - NET_HDR_SIZE);
      }
    } catch (err) {
      this.#fail(err);
    }
    if (this.#waiting) this.#lookForRoom();
    if (count > 0) this.#netif?.endBatch();
    if (this.#starved && count < BATCH) {
      this.#starved = false;
      this.#netif?.rxLost();
    }
    return count > 0;
  }

  #receive(slot: number, length: number): void {
    if (length <= 0) this.rxRelease(slot);
    else this.#netif?.receive(slot, this.#slots + slot * this.#slotBytes + NET_HDR_SIZE, length);
  }

  #lookForRoom(): void {
    this.#reclaim();
    if (this.#txFreeCount === 0) return;
    this.#waiting = false;
    this.#netif?.txRoom();
    this.flush();
  }

  // ---- sleeping ----

  #arm(): boolean {
    if (this.#failed) return false;
    const rx = this.#rx.enableInterrupts();
    return (this.#waiting && this.#tx.enableInterrupts()) || rx;
  }

  #disarm(): void {
    this.#rx.disableInterrupts();
    this.#tx.disableInterrupts();
  }

  // ---- a device that goes and comes back ----

  #suspend(): void {
    this.#away = true;
    this.#pump.stop();
  }

  /** The rings are new and empty: what was with the dead device is ours again. */
  #resume(awayMs: number): void {
    if (this.#failed) return;
    for (let head = 0; head < this.#rxSlot.length; head++) {
      const slot = this.#rxSlot[head] as number;
      if (slot !== NONE) this.rxRelease(slot);
      this.#rxSlot[head] = NONE;
    }
    for (let i = 0; i < this.#txFree.length; i++) this.#txFree[i] = i + this.rxBuffers;
    this.#txFreeCount = this.#txFree.length;
    this.#txBuilt = false;
    this.#rx = this.#driver.queue(RX);
    this.#tx = this.#driver.queue(TX);
    this.#away = false;
    this.#disarm();
    this.flush();
    this.#pump.start();
    this.#options.onBack?.(awayMs);
    if (this.#waiting) this.#lookForRoom();
  }

  #fail(err: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#pump.stop();
    const cause = err instanceof Error ? err : new Error(String(err));
    this.#options.onFailed(
      new L4Error(
        'EIO',
        `The device behind "${this.#options.name}" cannot be used any more: ${cause.message}`,
        { cause },
      ),
    );
  }

  /** Resolves when the device has been reset and its memory given back. */
  async closed(): Promise<void> {
    this.#pump.stop();
    this.#failed = true;
    await this.#driver.close();
  }

  close(): void {
    this.#pump.stop();
    this.#failed = true;
  }
}

/** Bytes of a slot: the header and the longest frame. */
function slotBytes({ extraBytes = 0 }: VirtioPortOptions): number {
  return NET_HDR_SIZE + MAX_FRAME + extraBytes;
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
