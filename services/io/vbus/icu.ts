/**
 * The virtual interrupt controller of one vbus (L4ICU).
 *
 * Legacy interrupts keep the machine's numbers; MSI indexes are virtual and get an MSI of the machine when
 * they are bound. A binding belongs to the task that made it and ends with it, so that a driver that was
 * started again can bind.
 */
import { L4Error } from '#common/ipc/errors';
import type { Log } from '../log.ts';
import { requesterOf } from '../pci/function.ts';
import { RESOURCE, type Resource, vbusFlags } from '../tree/resource.ts';
import { ProxyDevice, type SystemBus } from '../tree/vi.ts';
import { type Interrupts, type IrqObject, MSI_FLAG, withMsiFlag } from './interrupts.ts';

interface Binding {
  readonly holder: string;
  /** Number at the machine's ICU, MSI flag included; undefined while the machine has not answered. */
  machineIrq: number | undefined;
}

export interface IcuInfo {
  features: number;
  nrIrqs: number;
  nrMsis: number;
}

export class VirtualIcu {
  readonly #bus: SystemBus;
  readonly #interrupts: Interrupts;
  readonly #log: Log;
  /** Interrupt number (MSI flag included) to its binding. */
  readonly #bindings = new Map<number, Binding>();
  /** What `info` told last: MSI indexes below it may be bound. */
  #msiLimit = 0;

  constructor(bus: SystemBus, interrupts: Interrupts, log: Log) {
    this.#bus = bus;
    this.#interrupts = interrupts;
    this.#log = log;
  }

  /** The MSI flag is always set; the limit of MSI indexes is what this call told last. */
  info(): IcuInfo {
    this.#msiLimit = this.#bus.numMsis;
    const ends = this.#irqResources().map(({ end }) => end + 1);
    return { features: MSI_FLAG, nrIrqs: Math.max(0, ...ends), nrMsis: this.#msiLimit };
  }

  /**
   * @param irq number, or MSI index with bit 31 set
   * @param holder task that the binding belongs to
   * @returns 1: unmask through the ICU; 0: unmask the interrupt object
   * @throws L4Error ENOENT (not on this bus), EPERM (bound), EBUSY (another bus has it), EINVAL (no object)
   */
  async bind(irq: number, object: IrqObject | undefined, holder: string): Promise<number> {
    if (object === undefined || object.name === '') {
      throw new L4Error('EINVAL', `Cannot bind ${this.#name(irq)} as no interrupt object was given`);
    }
    this.#check(irq, 'bind');
    const existing = this.#bindings.get(irq);
    if (existing !== undefined) {
      throw new L4Error('EPERM', `Cannot bind ${this.#name(irq)} as it is bound already: unbind it first`);
    }
    const binding: Binding = { holder, machineIrq: undefined };
    this.#bindings.set(irq, binding);
    try {
      if (!isMsi(irq)) {
        const viaIcu = await this.#interrupts.bind(irq, this.#bus.name, object);
        binding.machineIrq = irq;
        return viaIcu;
      }
      binding.machineIrq = withMsiFlag(await this.#interrupts.bindMsi(this.#bus.name, object));
      return 1;
    } catch (error) {
      this.#bindings.delete(irq);
      throw error;
    } finally {
      // The task may have gone or unbound while the machine was busy.
      if (binding.machineIrq !== undefined && this.#bindings.get(irq) !== binding) {
        await this.#interrupts.unbind(binding.machineIrq);
      }
    }
  }

  /** @throws L4Error ENOENT (not on this bus), EINVAL (not bound) */
  async unbind(irq: number): Promise<void> {
    this.#check(irq, 'unbind');
    const binding = this.#bindings.get(irq);
    if (binding === undefined)
      throw new L4Error('EINVAL', `Cannot unbind ${this.#name(irq)} as it is not bound`);
    this.#bindings.delete(irq);
    if (binding.machineIrq !== undefined) await this.#interrupts.unbind(binding.machineIrq);
  }

  /** Ends the bindings of a task that is gone: at once, as the same driver may be there again already. */
  async release(holder: string): Promise<void> {
    const left = [...this.#bindings].filter(([, binding]) => binding.holder === holder);
    for (const [irq] of left) this.#bindings.delete(irq);
    await Promise.all(left.map(([irq, { machineIrq }]) => this.#unbindLeft(irq, machineIrq)));
  }

  async #unbindLeft(irq: number, machineIrq: number | undefined): Promise<void> {
    if (machineIrq === undefined) return;
    try {
      await this.#interrupts.unbind(machineIrq);
    } catch (error) {
      this.#log.error(`ERROR: unbinding ${this.#name(irq)} of a task that is gone: ${String(error)}`);
    }
  }

  /**
   * Address and data that make a function send an MSI.
   * @param source handle of the device on this bus
   * @throws L4Error EINVAL (no MSI flag, index beyond the limit), ENODEV (no PCI device), ENOENT (not bound)
   */
  async msiInfo(irq: number, source: number): Promise<{ address: number; data: number }> {
    if (!isMsi(irq) || index(irq) >= this.#msiLimit) {
      throw new L4Error(
        'EINVAL',
        `Cannot tell the address of ${this.#name(irq)} as it is no MSI of this bus: ${this.#limit()}`,
      );
    }
    const device = this.#bus.deviceOf(source);
    if (!(device instanceof ProxyDevice) || device.pci === undefined) {
      const what = device === undefined ? 'no device' : device.describe();
      throw new L4Error(
        'ENODEV',
        `Cannot tell the address of ${this.#name(irq)} as its source must be the handle of a PCI device: ${source} is ${what}`,
      );
    }
    const machineIrq = this.#bindings.get(irq)?.machineIrq;
    if (machineIrq === undefined) {
      throw new L4Error(
        'ENOENT',
        `Cannot tell the address of ${this.#name(irq)} as it is not bound: bind it first`,
      );
    }
    return this.#interrupts.icu.msiInfo(machineIrq, requesterOf(device.pci.address));
  }

  /** MSIs have no mode, and a wired interrupt that states its mode keeps it: both are ignored. */
  async setMode(irq: number, mode: number): Promise<void> {
    if (isMsi(irq)) {
      this.#log.warn('Setting mode for MSI is useless, ignoring');
      return;
    }
    const resource = this.#check(irq, 'set the mode of');
    const fixed = resource === undefined ? 0 : vbusFlags(resource) & 0xf;
    if (fixed === 0) return this.#interrupts.icu.setMode(irq, mode);
    const wanted = (mode & 0xf) | 1;
    if (wanted !== fixed) {
      this.#log.warn(
        `WARNING: Changing type of IRQ ${irq} from ${fixed.toString(16)} to ${wanted.toString(16)} prohibited`,
      );
    }
  }

  /** Goes to the machine for what is bound; anything else is ignored, as there is no reply to unmask. */
  async unmask(irq: number): Promise<void> {
    const machineIrq = this.#bindings.get(irq)?.machineIrq;
    if (machineIrq !== undefined) await this.#interrupts.icu.unmask(machineIrq);
  }

  /** Throws unless the number may be used here; returns the resource of a legacy interrupt. */
  #check(irq: number, action: string): Resource | undefined {
    if (isMsi(irq)) {
      if (index(irq) < this.#msiLimit) return undefined;
      throw new L4Error(
        'ENOENT',
        `Cannot ${action} ${this.#name(irq)} as it is no MSI of this bus: ${this.#limit()}`,
        {
          code: 'IO_MSI_LIMIT',
        },
      );
    }
    const resource = this.#irqResources().find(({ start, end }) => irq >= start && irq <= end);
    if (resource !== undefined) return resource;
    const known = this.#irqResources().map(({ start, end }) =>
      start === end ? `${start}` : `${start}-${end}`,
    );
    throw new L4Error(
      'ENOENT',
      `Cannot ${action} ${this.#name(irq)} as no device of the bus has it: the bus has ${known.length > 0 ? known.join(', ') : 'none'}`,
    );
  }

  #limit(): string {
    if (this.#bus.numMsis === 0) return 'Property.num_msis of the bus is 0, set it in the vbus file';
    return this.#msiLimit === 0
      ? 'MSIs can be used after a call of info'
      : `Property.num_msis of the bus is ${this.#bus.numMsis}`;
  }

  #name(irq: number): string {
    return `${isMsi(irq) ? `MSI ${index(irq)}` : `interrupt ${irq}`} of vbus '${this.#bus.name}'`;
  }

  #irqResources(): Resource[] {
    return this.#bus.allResources.filter(({ type }) => type === RESOURCE.IRQ);
  }
}

function isMsi(irq: number): boolean {
  return irq >>> 0 >= MSI_FLAG;
}

function index(irq: number): number {
  return (irq & ~MSI_FLAG) >>> 0;
}
