/**
 * The machine: a PCI bus with NICs, and the one data-plane loop that drives registers, transmit rings,
 * wires and timers. It knows no capabilities; objects/ puts those in front of it.
 */

import type { Memory } from '#common/memory';
import type { PumpWork } from '#common/shm/pump';
import { NicFunction } from './nic_function.ts';
import { DMA_MAX, SCRATCH_BYTES } from './nic_model.ts';
import type { NicOptions } from './options.ts';
import { ConfigSpace } from './pci/config_space.ts';
import { type PciFunction, PciHost } from './pci/host.ts';
import { HOST_BRIDGE } from './pci/host_bridge.ts';
import { IntxLines } from './pci/intx_lines.ts';
import type { Wire } from './wire.ts';

/** A deadline that near is waited for awake: Node's timers are not better than a millisecond. */
const AWAKE_US = 1500;

export interface MachineHost {
  readonly memory: Memory;
  /** Private zeroed memory; returns its offset, page-aligned. */
  mapPrivate(size: number): number;
  /** Monotonic clock in microseconds. */
  now(): number;
  log(text: string): void;
  /** Asks for turns of `poll` soon; may be called at any time. */
  wake(): void;
  /** An interrupt line changed. */
  onIrq(irq: number, asserted: boolean): void;
}

export class Machine implements PumpWork {
  readonly pci = new PciHost<PciFunction>();
  readonly nics: NicFunction[] = [];
  readonly lines: IntxLines;
  readonly #host: MachineHost;
  readonly #ones: number;
  #sleepTimer: NodeJS.Timeout | undefined;

  constructor(host: MachineHost) {
    this.#host = host;
    this.lines = new IntxLines((irq, asserted) => host.onIrq(irq, asserted));
    this.#ones = host.mapPrivate(DMA_MAX);
    host.memory.u8.fill(0xff, this.#ones, this.#ones + DMA_MAX);
    this.pci.add({ requester: 0, config: new ConfigSpace(HOST_BRIDGE) });
  }

  /** Puts a NIC into the next slot, with its cable in `wire`. */
  addNic(options: Pick<NicOptions, 'model' | 'mac'>, wire: Wire): NicFunction {
    const host = this.#host;
    const nic = new NicFunction(this.nics.length, options, wire, {
      memory: host.memory,
      scratch: host.mapPrivate(SCRATCH_BYTES),
      ones: this.#ones,
      lines: this.lines,
      now: () => host.now(),
      log: (text) => host.log(text),
      wake: () => host.wake(),
    });
    this.nics.push(nic);
    this.pci.add(nic);
    return nic;
  }

  poll(): boolean {
    let busy = false;
    for (const nic of this.nics) {
      if (nic.poll()) busy = true;
      if (nic.timerAt !== Infinity && this.#timer(nic)) busy = true;
    }
    return busy;
  }

  arm(): boolean {
    let work = false;
    let next = Infinity;
    for (const nic of this.nics) {
      if (nic.channel?.arm()) work = true;
      if (nic.wire.arm()) work = true;
      next = Math.min(next, nic.timerAt);
    }
    if (!work && next !== Infinity) {
      const ms = Math.max(0, Math.floor((next - this.#host.now()) / 1000));
      this.#sleepTimer = setTimeout(() => this.#host.wake(), ms);
    }
    return work;
  }

  disarm(): void {
    clearTimeout(this.#sleepTimer);
    for (const nic of this.nics) nic.channel?.disarm();
  }

  close(): void {
    clearTimeout(this.#sleepTimer);
    for (const nic of this.nics) {
      nic.channel?.close();
      nic.wire.close();
    }
  }

  /** Runs the NIC's timer when it is due. True when it was, or is so near that sleeping is not worth it. */
  #timer(nic: NicFunction): boolean {
    const now = this.#host.now();
    if (now < nic.timerAt) return nic.timerAt - now < AWAKE_US;
    nic.timerAt = Infinity;
    nic.model.timer();
    return true;
  }
}
