/**
 * The driver-independent half of a NIC: what a program calls (F5.1).
 *
 * A driver (drivers/*.ts) brings the hardware up and supplies the queues and the register accesses
 * below; argument checks, the interrupt modes and the Wait mode's bookkeeping are here. Packets are
 * packet-buffer offsets in typed arrays; nothing is allocated per packet.
 */
import { L4Error } from '#common/ipc/errors';
import type { RecvIrq } from './bringup/interrupts.ts';
import { type Clock, systemClock } from './clock.ts';
import { type DevCfg, type IrqMode, irqMode } from './config.ts';
import type { LinkWatch } from './link.ts';
import { MAX_FRAME } from './memory/buffer.ts';
import type { Mempool } from './memory/mempool.ts';
import type { PacketMemory } from './memory/packet_memory.ts';
import type { Buffers, RxQueue, TxQueue } from './rings/queue.ts';
import { AdaptiveIrq } from './wait/adaptive.ts';
import { IrqWaiter } from './wait/irq_waiter.ts';

/** Hardware counters since the last time they were read. */
export interface DeviceStats {
  rxPackets: number;
  txPackets: number;
  rxBytes: number;
  txBytes: number;
}

/** Options that `getOpt` knows of; no driver has one of them. */
export const OPT = { IP4_TX_CSUM_OFFL: 0x1000, UDP_TX_CSUM_OFFL: 0x1001 } as const;

/** What a driver hands to the device's constructor. */
export interface DeviceParts {
  readonly cfg: DevCfg;
  readonly packets: PacketMemory;
  readonly rx: readonly RxQueue[];
  readonly tx: readonly TxQueue[];
  /** One for each receive queue; empty: interrupts are disabled. */
  readonly irqs: readonly RecvIrq[];
  /** Releases the NIC's mappings, interrupt objects and DMA memory; called by `close`. */
  readonly release: () => Promise<void>;
  /** Resolves when the machine with the NIC has ended, if that can be told. */
  readonly machineGone?: Promise<void> | undefined;
  readonly clock?: Clock;
}

export abstract class IxlDevice {
  readonly packets: PacketMemory;
  /** `disable` also when a driver that needs MSI-X found none. */
  readonly irqMode: IrqMode;
  protected link: LinkWatch | undefined;
  readonly #parts: DeviceParts;
  readonly #clock: Clock;
  readonly #waiters: IrqWaiter[];
  readonly #adaptive: AdaptiveIrq[];
  #closed = false;
  #gone = false;
  readonly #whenGone: Promise<void>;
  #tellGone: () => void = () => {};

  constructor(parts: DeviceParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.packets = parts.packets;
    this.irqMode = parts.irqs.length > 0 ? irqMode(parts.cfg.irqTimeoutMs) : 'disable';
    this.#waiters = parts.rx.map(() => new IrqWaiter());
    this.#adaptive = parts.rx.map(() => new AdaptiveIrq(this.#clock.now()));
    this.#whenGone = new Promise((resolve) => {
      this.#tellGone = resolve;
    });
    void parts.machineGone?.then(() => this.markGone());
    if (this.irqMode !== 'wait') return;
    for (const [queue, irq] of parts.irqs.entries()) irq.listen(() => this.#waiters[queue]?.fire());
  }

  /** `ixl-e1000` and so on. */
  abstract getDriverName(): string;
  /** Mbit/s; 0 = link down. Reads a register. */
  abstract getLinkSpeed(): number;
  /** Calls `onChange` with the speed whenever the link has come, gone or changed; one listener at a time. */
  onLinkChange(onChange: (speed: number) => void): void {
    this.link?.listen(onChange);
  }
  /** Six bytes. */
  abstract getMacAddr(): Uint8Array;
  abstract setPromisc(on: boolean): void;
  /** True when queue `queue` has received; masks the NIC's interrupt then. Reads (and clears) the cause. */
  abstract checkRecvIrq(queue: number): boolean;
  /** Lets the receive interrupt come again. */
  abstract ackRecvIrq(queue: number): void;
  /** Masks the NIC's receive interrupt until `ackRecvIrq`. */
  abstract disableRecvIrq(queue: number): void;
  /** Adds the hardware counters to `stats`; reading clears them. `null`: only clears. */
  abstract readStats(stats: DeviceStats | null): void;
  /** Stops receive, transmit and interrupts in the hardware. */
  protected abstract stopHardware(): void;

  getMaxFrameSize(): number {
    return MAX_FRAME;
  }

  /** Only ixgbe can; the others throw L4Error ENOSYS. */
  setMacAddr(_mac: Uint8Array): void {
    throw new L4Error('ENOSYS', `Cannot set the MAC address as ${this.getDriverName()} does not support it`);
  }

  get memory(): PacketMemory['shared'] {
    return this.packets.shared;
  }

  get txPool(): Mempool {
    return this.packets.txPool;
  }

  /** A pool of `buffers` transmit buffers of 2048 bytes. Throws L4Error ENOMEM. */
  createMempool(buffers: number): Promise<Mempool> {
    return this.packets.createPool(buffers);
  }

  /** Gives a received buffer (or an unsent one) back to its pool. */
  freeBuffer(buffer: number): void {
    this.packets.free(buffer);
  }

  /** Takes at most `count` received packets; their buffers belong to the caller. Never blocks, in any mode. */
  rxBatch(queue: number, buffers: Buffers, count: number): number {
    return this.#rx(queue).batch(buffers, Math.min(count, buffers.length));
  }

  /** True when `rxBatch` would find something. Reads memory only. */
  rxPending(queue: number): boolean {
    return this.#rx(queue).pending();
  }

  /**
   * The Wait mode's receive: waits for the interrupt (at most `irqTimeoutMs`), then takes a batch.
   * 0 after the time is up or when `signal` is aborted. While F5.10 has switched to polling it does
   * not wait. Rejects with L4Error EINVAL in the other modes.
   */
  async rxBatchWait(queue: number, buffers: Buffers, count: number, signal?: AbortSignal): Promise<number> {
    const rx = this.#rx(queue);
    const adaptive = this.#adaptive[queue] as AdaptiveIrq;
    this.#requireMode('wait', 'wait for packets');
    const limit = Math.min(count, buffers.length);
    if (!adaptive.irqWanted) {
      // Polling: the event loop gets its turn, or timers and calls would starve.
      await new Promise((resolve) => setImmediate(resolve));
    } else if (!rx.pendingAtHead() && !rx.pending()) {
      const { irqTimeoutMs } = this.#parts.cfg;
      const fired = await this.#waiters[queue]?.wait(irqTimeoutMs > 0 ? irqTimeoutMs : undefined, signal);
      if (this.#closed) return 0;
      if (fired) this.checkRecvIrq(queue);
    }
    const taken = rx.batch(buffers, limit);
    const changed = adaptive.count(taken, taken === limit, this.#clock.now);
    if (adaptive.irqWanted) this.ackRecvIrq(queue);
    else if (changed) this.disableRecvIrq(queue);
    return taken;
  }

  /** Queues frames; returns how many were taken. Those buffers belong to the driver until they are sent. */
  txBatch(queue: number, buffers: Buffers, count: number): number {
    return this.#tx(queue).batch(buffers, Math.min(count, buffers.length));
  }

  /** How many frames `txBatch` would take now. */
  txRoom(queue: number): number {
    return this.#tx(queue).room();
  }

  /** Repeats `txBatch` until all frames are queued; the event loop runs in between. Stops early on `signal`. */
  async txBatchBusyWait(
    queue: number,
    buffers: Buffers,
    count: number,
    signal?: AbortSignal,
  ): Promise<number> {
    let done = this.txBatch(queue, buffers, count);
    while (done < count && !signal?.aborted && !this.#closed) {
      await new Promise((resolve) => setImmediate(resolve));
      done += this.txBatch(queue, buffers.subarray(done, count), count - done);
    }
    return done;
  }

  getNumRxQueues(): number {
    return this.#parts.rx.length;
  }

  getNumTxQueues(): number {
    return this.#parts.tx.length;
  }

  getRxQueueDepth(queue: number): number {
    return this.#rx(queue).depth;
  }

  getTxQueueDepth(queue: number): number {
    return this.#tx(queue).depth;
  }

  /** The program will hold `buffers` more receive buffers at once. Throws L4Error ENOMEM above 2^28 bytes. */
  async extendRxqMempool(queue: number, buffers: number): Promise<void> {
    this.#rx(queue);
    await this.packets.reserve(buffers);
  }

  /** Takes back what `extendRxqMempool` announced; the memory stays. */
  shrinkRxqMempool(queue: number, buffers: number): void {
    this.#rx(queue);
    this.packets.cancel(buffers);
  }

  /** The receive interrupt of a queue. Throws L4Error EINVAL unless in Notify mode. */
  getRecvIrq(queue: number): RecvIrq {
    this.#requireMode('notify', 'get the receive interrupt');
    return this.recvIrq(queue);
  }

  /** The receive interrupt calls `onIrq` from now on (the original binds it to the calling thread). */
  rebindRecvIrq(queue: number, onIrq: () => void): void {
    this.getRecvIrq(queue).listen(onIrq);
  }

  /** Throws L4Error ENOENT: no driver offers checksum offloads. */
  getOpt(id: number): number {
    throw new L4Error('ENOENT', `Cannot get option 0x${id.toString(16)} as ${this.getDriverName()} has none`);
  }

  /** True once an interrupt cause has read as all ones, or the machine has ended: the device is not there any more. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Asks the device whether it is still there; reads a register. */
  isGone(): boolean {
    if (!this.#gone && !this.answers()) this.markGone();
    return this.#gone;
  }

  /**
   * Resolves when the device has gone: at once when its machine ends, else when one of the calls here finds it out.
   * Never after `close`.
   */
  whenGone(): Promise<void> {
    return this.#whenGone;
  }

  /** False when a register that is never all ones reads so. */
  protected abstract answers(): boolean;

  /** The device will not answer any more: its process has ended, or another driver has got it. */
  markGone(): void {
    if (this.#closed) return;
    this.#gone = true;
    this.#tellGone();
  }

  /**
   * Stops the NIC at once, then releases everything; another `ixlInit` can have it when the promise has
   * resolved. Never rejects. Idempotent.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.link?.stop();
    for (const waiter of this.#waiters) waiter.fire();
    this.stopHardware();
    await this.#parts.release();
  }

  protected get legacyIrq(): boolean {
    return this.#parts.irqs[0]?.kind === 'legacy';
  }

  /** The receive interrupt in any mode that has one. Throws L4Error EINVAL. */
  protected recvIrq(queue: number): RecvIrq {
    this.#rx(queue);
    const irq = this.#parts.irqs[queue];
    if (irq) return irq;
    throw new L4Error(
      'EINVAL',
      `Cannot use the receive interrupt of queue ${queue} as interrupts are disabled`,
    );
  }

  #requireMode(mode: IrqMode, action: string): void {
    if (this.irqMode === mode) return;
    throw new L4Error(
      'EINVAL',
      `Cannot ${action} as the interrupt mode must be "${mode}": current mode is "${this.irqMode}" ` +
        `(irqTimeoutMs ${this.#parts.cfg.irqTimeoutMs})`,
    );
  }

  #rx(queue: number): RxQueue {
    return this.#parts.rx[queue] ?? noQueue('receive', queue, this.#parts.rx.length);
  }

  #tx(queue: number): TxQueue {
    return this.#parts.tx[queue] ?? noQueue('transmit', queue, this.#parts.tx.length);
  }
}

function noQueue(kind: string, queue: number, count: number): never {
  throw new L4Error('EINVAL', `Cannot use ${kind} queue ${queue} as the queue must be 0..${count - 1}`);
}
