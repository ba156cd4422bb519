/** Object `iommu`: makes DMA spaces and puts PCI functions into them. */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { type Binding, bind } from '#common/ipc/service';
import { formatRequester } from '#common/nic/pci';
import type { SharedMemories } from '#common/shm/dataspace';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { DmaSpace as DmaSpaceService, Factory, Iommu } from '../../../proto/gen/services.js';
import { DMA_TO_DEVICE, DmaSpace } from '../dma_space.ts';
import type { Machine } from '../machine.ts';
import type { NicFunction } from '../nic_function.ts';

/** L4.Proto.Dma_space */
const PROTO_DMA_SPACE = -17;

/** The services of the gate `iommu`. */
export function iommuObject(machine: Machine, gate: Gate, memories: SharedMemories): Binding[] {
  /** By object number on the gate. */
  const spaces = new Map<number, DmaSpace>();

  const create = (task: string): Capability => {
    const space = new DmaSpace();
    const cap = gate.export([dmaSpaceBinding(space, memories)], {
      holder: task,
      onGone: () => {
        spaces.delete(cap.object);
        for (const nic of machine.nics) if (nic.dma.space === space) nic.detach();
        space.unmapAll();
      },
    });
    spaces.set(cap.object, space);
    return cap;
  };

  return [
    bind(Factory, {
      create: ({ type }, { task }) => {
        if (type === PROTO_DMA_SPACE) return { object: create(task) };
        throw new L4Error(
          'ENODEV',
          `Cannot create object as the iommu makes DMA spaces (${PROTO_DMA_SPACE}) only: current value is ${type}`,
        );
      },
    }),
    bind(Iommu, {
      assign: ({ requester, dmaSpace, bind: into }) => {
        const nic = findNic(machine, requester);
        assign(nic, ownSpace(gate, spaces, dmaSpace), into);
        return {};
      },
    }),
  ];
}

function findNic(machine: Machine, requester: number): NicFunction {
  const nic = machine.nics.find((fn) => fn.requester === requester);
  if (nic) return nic;
  throw new L4Error(
    'ENOENT',
    `Cannot assign DMA space as there is no function that does DMA at ${formatRequester(requester)}`,
  );
}

/** Puts a function into the space, or out of it. */
function assign(nic: NicFunction, space: DmaSpace, into: boolean): void {
  if (nic.dma.space !== undefined && nic.dma.space !== space) {
    throw new L4Error(
      'EBUSY',
      `Cannot assign DMA space as function ${formatRequester(nic.requester)} is in another one: take it out first`,
    );
  }
  nic.dma.assign(into ? space : undefined);
}

function ownSpace(
  gate: Gate,
  spaces: ReadonlyMap<number, DmaSpace>,
  cap: m.ICapability | null | undefined,
): DmaSpace {
  const { gate: id, object, masks, proof } = cap ?? {};
  if (id && object && proof && gate.owns({ gate: id, object, masks: masks ?? [], proof })) {
    const space = spaces.get(object);
    if (space) return space;
  }
  throw new L4Error('EINVAL', 'Cannot assign DMA space as the capability is not a DMA space of this machine');
}

function dmaSpaceBinding(space: DmaSpace, memories: SharedMemories): Binding {
  return bind(DmaSpaceService, {
    map: ({ memory, offset, size, direction }) => {
      const mapping = memories.open(memory ?? {});
      try {
        if (offset + size > mapping.size) {
          throw new L4Error(
            'EINVAL',
            `Cannot map for DMA as the range must lie inside the memory of ${mapping.size} bytes: current value is ${offset}..${offset + size}`,
          );
        }
        if (!mapping.ref.writable && direction !== DMA_TO_DEVICE) {
          throw new L4Error(
            'EINVAL',
            'Cannot map read-only memory for DMA from a device: use direction 1 (to device)',
          );
        }
        return { address: space.map(mapping.offset + offset, size, direction, () => mapping.close()) };
      } catch (err) {
        mapping.close();
        throw err;
      }
    },
    unmap: ({ address, size }) => {
      space.unmap(address, size);
      return {};
    },
  });
}
