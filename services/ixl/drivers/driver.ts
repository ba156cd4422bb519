/** What a driver gets to bring its NIC up, and how it is registered. */
import type { Client } from '#common/ipc/service';
import type { Memory } from '#common/memory';
import type { Mmio } from '#common/shm/mmio';
import type { Icu } from '../../../proto/gen/services.js';
import type { RecvIrq } from '../bringup/interrupts.ts';
import type { Clock } from '../clock.ts';
import type { DevCfg } from '../config.ts';
import type { IxlDevice } from '../device.ts';
import type { Log } from '../log.ts';
import type { DmaAllocator } from '../memory/dma_memory.ts';

/** How a driver may get its interrupts; which it asks for is its own affair (F5.3 step 4). */
export interface IrqSetup {
  /** MSI 0, or INTx where the NIC has no MSI. */
  msiOrLegacy(): Promise<RecvIrq>;
}

export interface DriverContext {
  readonly cfg: DevCfg;
  readonly memory: Memory;
  readonly mmio: Mmio;
  readonly dma: DmaAllocator;
  /** Unset: the program polls. */
  readonly irqs: IrqSetup | undefined;
  readonly log: Log;
  readonly clock: Clock;
  /** Releases what the context holds; the device's `close` calls it. */
  readonly release: () => Promise<void>;
  /** Resolves when the machine with the NIC has ended, if that can be told. */
  readonly machineGone?: Promise<void>;
}

export type IcuClient = Client<typeof Icu>;

export interface Driver {
  /** For `Trying e1000...`. */
  readonly name: string;
  /** Resets and starts the NIC. Throws L4Error; the caller then releases the context. */
  create(context: DriverContext): Promise<IxlDevice>;
}
