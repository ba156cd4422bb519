/**
 * The in-process form of ixl: what a switch (or any program) links to drive a NIC on its own thread,
 * without the program `ixl` and its virtqueues in between (switch option --ixl=in-process).
 *
 * Frames are packet-buffer offsets in the task's arena: data at `dataOf(buffer)`, `lengthOf(buffer)`
 * bytes. Received frames come without FCS.
 */
import type { Capability } from '#common/ipc/capability';
import type { Memory } from '#common/memory';
import { NOTIFY } from './config.ts';
import type { IxlDevice } from './device.ts';
import { formatMac } from './drivers/eeprom.ts';
import type { IxlEnv } from './env.ts';
import { ixlInit } from './ixl.ts';
import { consoleLog, type Log } from './log.ts';
import { BUFFER, lengthOf, setLength } from './memory/buffer.ts';
import type { Buffers } from './rings/queue.ts';

/** Transmit buffers of a switch (F3.10). */
export const SWITCH_TX_BUFFERS = 1024;

export class NicDriver {
  /** `ixl-e1000`; the name of the switch's port. */
  readonly driverName: string;
  /** xx:xx:xx:xx:xx:xx */
  readonly mac: string;
  /** Mbit/s when it was opened; 0 = no link yet. */
  readonly linkSpeed: number;
  readonly device: IxlDevice;
  readonly #memory: Memory;

  private constructor(device: IxlDevice, memory: Memory) {
    this.device = device;
    this.#memory = memory;
    this.driverName = device.getDriverName();
    this.mac = formatMac(device.getMacAddr());
    this.linkSpeed = device.getLinkSpeed();
  }

  /** Starts NIC `index` of a virtual bus in Notify mode. Throws what `ixlInit` throws. */
  static async open(
    vbus: Capability,
    env: IxlEnv,
    options: { readonly index?: number; readonly log?: Log } = {},
  ): Promise<NicDriver> {
    const cfg = { irqTimeoutMs: NOTIFY, txBuffers: SWITCH_TX_BUFFERS };
    const device = await ixlInit(vbus, options.index ?? 0, cfg, env, options.log ?? consoleLog);
    return NicDriver.of(device, env.arena);
  }

  /** Over a device that runs already (tests). */
  static of(device: IxlDevice, memory: Memory): NicDriver {
    return new NicDriver(device, memory);
  }

  /** Takes at most `count` received frames; give each back with `free`. */
  rxBatch(buffers: Buffers, count: number): number {
    return this.device.rxBatch(0, buffers, count);
  }

  /** True when `rxBatch` would find something. */
  get rxPending(): boolean {
    return this.device.rxPending(0);
  }

  /** Arena offset of a buffer's frame. */
  dataOf(buffer: number): number {
    return buffer + BUFFER.DATA;
  }

  /** Bytes of a buffer's frame. */
  lengthOf(buffer: number): number {
    return lengthOf(this.#memory, buffer);
  }

  /** A buffer of 1984 bytes to send; -1 when there is none. */
  alloc(): number {
    return this.device.txPool.alloc();
  }

  /** Says how long the frame in a buffer is. Throws RangeError beyond 1..1984. */
  setLength(buffer: number, length: number): void {
    if (length < 1 || length > BUFFER.ROOM) {
      throw new RangeError(
        `Cannot set frame length as it must be 1..${BUFFER.ROOM}: current value is ${length}`,
      );
    }
    setLength(this.#memory, buffer, length);
  }

  free(buffer: number): void {
    this.device.freeBuffer(buffer);
  }

  /** Queues frames; what was taken is freed when sent, the rest stays the caller's. */
  txBatch(buffers: Buffers, count: number): number {
    return this.device.txBatch(0, buffers, count);
  }

  /** Frames that `txBatch` would take now. */
  get txRoom(): number {
    return this.device.txRoom(0);
  }

  /** `onIrq` is called from the event loop when the NIC interrupts; once, until `ackIrq`. */
  listen(onIrq: () => void): void {
    this.device.rebindRecvIrq(0, onIrq);
  }

  /** True when frames have come; reads and clears the cause. Call it before `ackIrq`. */
  checkIrq(): boolean {
    return this.device.checkRecvIrq(0);
  }

  /** Lets the interrupt come again; look at `rxPending` behind it. */
  ackIrq(): void {
    this.device.ackRecvIrq(0);
  }

  /** No interrupt until `ackIrq`: the caller polls. */
  maskIrq(): void {
    this.device.disableRecvIrq(0);
  }

  /** Stops the NIC at once, then gives everything back. Never rejects. */
  close(): Promise<void> {
    return this.device.close();
  }
}
