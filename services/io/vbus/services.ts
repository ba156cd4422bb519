/**
 * One vbus behind a gate: every operation of the protocols calls plain code and nothing else.
 */
import { type Capability, isCapability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { type Binding, bind, type Handlers } from '#common/ipc/service';
import { Dataspace, Icu, Inhibitor, Vbus } from '../../../proto/gen/services.js';
import type { Log } from '../log.ts';
import type { PciAccess } from '../pci/function.ts';
import type { SystemBus } from '../tree/vi.ts';
import { DeviceMemory, type MemoryAccess } from './device_memory.ts';
import { VirtualIcu } from './icu.ts';
import { Inhibitors } from './inhibitor.ts';
import type { Interrupts } from './interrupts.ts';
import { type DmaAccess, VbusOperations } from './operations.ts';

/** What a vbus needs of the machine. */
export interface Machine {
  readonly pci: PciAccess;
  readonly memory: MemoryAccess;
  readonly dma: DmaAccess<Capability>;
  readonly interrupts: Interrupts;
}

/** Where `VicuGetCap` puts the interrupt controller: a gate. */
export type Exporter = Pick<Gate, 'export'>;

/** The services of the vbus object: Vbus, Dataspace, Inhibitor. The bus must be finalised. */
export function vbusBindings(bus: SystemBus, machine: Machine, gate: Exporter, log: Log): Binding[] {
  const inhibitors = new Inhibitors();
  const operations = new VbusOperations<Capability>(bus, machine.pci, machine.dma, inhibitors, log);
  const memory = new DeviceMemory(bus, machine.memory, log);
  const icus = new IcuExports(new VirtualIcu(bus, machine.interrupts, log), gate);
  return [
    bind(Vbus, vbusHandlers(operations, icus)),
    bind(Dataspace, {
      info: () => memory.info(),
      map: ({ offset, size }) => memory.map(offset, size),
      copyOut: () => {
        throw new L4Error('ENOSYS', 'Device memory cannot be copied: map it');
      },
    }),
    bind(Inhibitor, {
      acquire: ({ id, reason }) => {
        inhibitors.acquire(id, reason);
        return {};
      },
      release: ({ id }) => {
        inhibitors.release(id);
        return {};
      },
      nextLockInfo: ({ id }) => inhibitors.next(id),
    }),
  ];
}

/**
 * The virtual interrupt controller as objects, one for each task that asks for it. When a task is gone so is
 * its object, and with it the task's bindings: the same driver, started again, can bind.
 */
class IcuExports {
  readonly #icu: VirtualIcu;
  readonly #gate: Exporter;
  readonly #caps = new Map<string, Capability>();

  constructor(icu: VirtualIcu, gate: Exporter) {
    this.#icu = icu;
    this.#gate = gate;
  }

  capabilityFor(task: string): Capability {
    let cap = this.#caps.get(task);
    if (cap === undefined) {
      cap = this.#gate.export([bind(Icu, icuHandlers(this.#icu, task))], {
        holder: task,
        onGone: () => {
          this.#caps.delete(task);
          void this.#icu.release(task);
        },
      });
      this.#caps.set(task, cap);
    }
    return cap;
  }
}

function icuHandlers(icu: VirtualIcu, holder: string): Handlers<typeof Icu> {
  return {
    info: () => icu.info(),
    bind: async ({ irq, object }) => ({
      unmaskViaIcu: await icu.bind(irq, object ? { name: object.name ?? '' } : undefined, holder),
    }),
    unbind: async ({ irq }) => {
      await icu.unbind(irq);
      return {};
    },
    msiInfo: ({ irq, source }) => icu.msiInfo(irq, source),
    setMode: async ({ irq, mode }) => {
      await icu.setMode(irq, mode);
      return {};
    },
    unmask: async ({ irq }) => {
      await icu.unmask(irq);
      return {};
    },
    mask: () => {
      throw new L4Error(
        'ENOSYS',
        'Interrupts of a vbus are not masked through its controller: mask the interrupt object',
      );
    },
  };
}

function vbusHandlers(operations: VbusOperations<Capability>, icus: IcuExports): Handlers<typeof Vbus> {
  return {
    getByHid: ({ handle, current, depth, hid }) => operations.getByHid(handle, current, depth, hid),
    getNext: ({ handle, current, depth }) => operations.getNext(handle, current, depth),
    getResource: ({ handle, index }) => operations.getResource(handle, index),
    getHid: ({ handle }) => ({ value: operations.getHid(handle) }),
    isCompatible: ({ handle, id }) => ({ value: operations.isCompatible(handle, id) ? 1 : 0 }),
    getDevice: ({ handle }) => operations.getDevice(handle),
    getAdr: ({ handle }) => ({ value: operations.getAdr(handle) }),
    vicuGetCap: ({ handle }, { task }) => {
      operations.checkIcu(handle);
      return { capability: icus.capabilityFor(task) };
    },
    pciCfgRead: async ({ handle, offset, width, bus, devfn }) => ({
      value: await operations.cfgRead(handle, offset, width, bus, devfn),
    }),
    pciCfgWrite: async ({ handle, offset, width, value, bus, devfn }) => {
      await operations.cfgWrite(handle, offset, width, value, bus, devfn);
      return {};
    },
    pciIrqEnable: ({ handle, bus, devfn }) => operations.irqEnable(handle, bus, devfn),
    pmSuspend: ({ handle }) => {
      operations.pmSuspend(handle);
      return {};
    },
    pmResume: ({ handle }) => {
      operations.pmResume(handle);
      return {};
    },
    requestResource: ({ handle, resource }) => {
      const { type = 0, start = 0, end = 0 } = resource ?? {};
      operations.requestResource(
        handle,
        resource ? { type: type ?? 0, start: start ?? 0, end: end ?? 0 } : undefined,
      );
      return {};
    },
    releaseResource: ({ handle }) => {
      operations.releaseResource(handle);
      return {};
    },
    assignDmaDomain: async ({ handle, domain, flags, dmaSpace }) => {
      const space = isCapability(dmaSpace) ? dmaSpace : undefined;
      await operations.assignDmaDomain(handle, domain, flags, space);
      return {};
    },
  };
}
