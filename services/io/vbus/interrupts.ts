/**
 * The machine's interrupts as Io hands them out: who has which, and which MSIs are free.
 *
 * One instance for all vbusses, so that two of them cannot have one interrupt and every virtual MSI has a
 * machine MSI of its own.
 */
import { L4Error } from '#common/ipc/errors';

/** An interrupt object of a client (message Irq). */
export interface IrqObject {
  readonly name: string;
}

/** The machine's interrupt controller (service Icu). Numbers with bit 31 set are MSIs. */
export interface IcuAccess {
  info(): Promise<{ nrIrqs: number; nrMsis: number }>;
  /** Resolves to 1 when the client has to unmask through the ICU. */
  bind(irq: number, object: IrqObject): Promise<number>;
  unbind(irq: number): Promise<void>;
  /** @param source requester id of the function that will send the MSI */
  msiInfo(irq: number, source: number): Promise<{ address: number; data: number }>;
  setMode(irq: number, mode: number): Promise<void>;
  unmask(irq: number): Promise<void>;
}

/** Bit of an interrupt number that marks an MSI index. */
export const MSI_FLAG = 0x80000000;

export const withMsiFlag = (index: number): number => (index | MSI_FLAG) >>> 0;

export class Interrupts {
  /** Undefined when Io was started without the capability `icu`. */
  readonly #icu: IcuAccess | undefined;
  /** Interrupt or MSI number of the machine to the name of the bus that has it. */
  readonly #owners = new Map<number, string>();
  /** What the machine is about to unbind; never rejects. */
  readonly #leaving = new Map<number, Promise<void>>();

  constructor(icu: IcuAccess | undefined) {
    this.#icu = icu;
  }

  /** @throws L4Error ENODEV when there is no controller */
  get icu(): IcuAccess {
    if (this.#icu !== undefined) return this.#icu;
    throw new L4Error(
      'ENODEV',
      'Cannot use an interrupt as Io has no capability "icu": add `icu = L4.Env.icu` to the caps of Io in the ned script',
    );
  }

  /**
   * Binds one of the machine's interrupts for a bus. One that is being unbound is waited for: a driver that was started
   * again may be faster than the end of the one before.
   * @throws L4Error EBUSY when another bus has it; what the machine answers otherwise
   */
  async bind(irq: number, bus: string, object: IrqObject): Promise<number> {
    await this.#leaving.get(irq);
    const owner = this.#owners.get(irq);
    if (owner !== undefined) {
      const whose = owner === bus ? 'this bus' : `vbus '${owner}'`;
      throw new L4Error(
        'EBUSY',
        `Cannot bind interrupt ${irq} for vbus '${bus}' as ${whose} uses it and interrupts cannot be shared: put both devices on one bus, or move one to another interrupt`,
        { code: 'IO_IRQ_SHARED' },
      );
    }
    return this.#bindFor(irq, bus, object);
  }

  /**
   * Binds a free MSI of the machine.
   * @returns its number, without the MSI flag
   * @throws L4Error ENOMEM when all are in use
   */
  async bindMsi(bus: string, object: IrqObject): Promise<number> {
    const { nrMsis } = await this.icu.info();
    await Promise.all(this.#leaving.values());
    for (let index = 0; index < nrMsis; index++) {
      const irq = withMsiFlag(index);
      if (this.#owners.has(irq)) continue;
      await this.#bindFor(irq, bus, object);
      return index;
    }
    throw new L4Error(
      'ENOMEM',
      `Cannot bind an MSI for vbus '${bus}' as all ${nrMsis} MSIs of the machine are in use`,
    );
  }

  async #bindFor(irq: number, bus: string, object: IrqObject): Promise<number> {
    const { icu } = this;
    this.#owners.set(irq, bus);
    try {
      return await icu.bind(irq, object);
    } catch (error) {
      this.#owners.delete(irq);
      throw error;
    }
  }

  unbind(irq: number): Promise<void> {
    const unbound = this.#unbindNow(irq);
    const settled = unbound.catch(() => {}).then(() => void this.#leaving.delete(irq));
    this.#leaving.set(irq, settled);
    return unbound;
  }

  async #unbindNow(irq: number): Promise<void> {
    try {
      await this.icu.unbind(irq);
    } finally {
      this.#owners.delete(irq);
    }
  }
}
