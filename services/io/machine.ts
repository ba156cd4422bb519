/**
 * The machine as Io uses it: capability calls behind the plain interfaces of the other files.
 */
import type { Capability } from '#common/ipc/capability';
import { L4_ERRNO, L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { Dataspace, Icu, Iommu, PciHost } from '../../proto/gen/services.js';
import type { PciAccess } from './pci/function.ts';
import type { MemoryAccess } from './vbus/device_memory.ts';
import type { IcuAccess } from './vbus/interrupts.ts';
import type { DmaAccess } from './vbus/operations.ts';

/** Configuration space and interrupt routing (capability `sigma0`). */
export function pciAccess(ipc: Ipc, sigma0: Capability): PciAccess {
  const host = ipc.client(PciHost, sigma0);
  return {
    read: async (address, offset, width) => (await host.cfgRead({ address, offset, width })).value,
    write: async (address, offset, width, value) => {
      await host.cfgWrite({ address, offset, width, value: value >>> 0 });
    },
    sequence: async (address, steps) => {
      const sent = steps.map(({ offset, width, value }) => ({
        offset,
        width,
        ...(value === undefined ? {} : { value: value >>> 0 }),
      }));
      return (await host.cfgSequence({ address, steps: sent })).values;
    },
    route: async (address, pin) => {
      try {
        const { irq, trigger, polarity } = await host.route({ address, pin });
        return { irq, trigger, polarity };
      } catch (error) {
        if (error instanceof L4Error && error.errno === L4_ERRNO.ENOENT) return undefined;
        throw error;
      }
    },
  };
}

/** Device memory (capability `sigma0`). */
export function memoryAccess(ipc: Ipc, sigma0: Capability): MemoryAccess {
  const memory = ipc.client(Dataspace, sigma0);
  return {
    map: async (address, size) => {
      const { memory: mapped, kind, offset } = await memory.map({ offset: address, size });
      if (!mapped)
        throw new L4Error('EIO', `Cannot map 0x${address.toString(16)} as the machine gave no memory`);
      return {
        memory: { name: mapped.name ?? '', size: mapped.size ?? 0, writable: mapped.writable ?? false },
        kind,
        offset,
      };
    },
  };
}

/** Interrupts (capability `icu`). */
export function icuAccess(ipc: Ipc, cap: Capability): IcuAccess {
  const icu = ipc.client(Icu, cap);
  return {
    info: async () => {
      const { nrIrqs, nrMsis } = await icu.info();
      return { nrIrqs, nrMsis };
    },
    bind: async (irq, object) => (await icu.bind({ irq, object })).unmaskViaIcu,
    unbind: async (irq) => {
      await icu.unbind({ irq });
    },
    msiInfo: async (irq, source) => {
      const { address, data } = await icu.msiInfo({ irq, source });
      return { address, data };
    },
    setMode: async (irq, mode) => {
      await icu.setMode({ irq, mode });
    },
    unmask: async (irq) => {
      await icu.unmask({ irq });
    },
  };
}

/**
 * DMA remapping (capability `iommu`). Without one the machine's `sigma0` is asked: an L4Re system without an
 * IOMMU hands out DMA addresses all the same, and scripts leave `iommu` away there.
 */
export function dmaAccess(
  ipc: Ipc,
  iommu: Capability | undefined,
  sigma0: Capability,
): DmaAccess<Capability> {
  const unit = ipc.client(Iommu, iommu ?? sigma0);
  return {
    assign: async (requester, dmaSpace, bind) => {
      try {
        await unit.assign({ requester, dmaSpace, bind });
      } catch (error) {
        if (iommu !== undefined || !(error instanceof L4Error) || error.errno !== L4_ERRNO.EBADPROTO)
          throw error;
        throw new L4Error(
          'ENODEV',
          'Cannot assign a DMA space as Io has no capability "iommu": add `iommu = L4.Env.iommu` to the caps of Io in the ned script',
          { cause: error },
        );
      }
    },
  };
}
