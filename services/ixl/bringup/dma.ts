/**
 * Memory that the NIC can reach: a DMA space of our own, bound to the NIC's DMA domain, and shared
 * memories mapped into it (F5.3 step 3). Nothing else of this process is visible to the device.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Client } from '#common/ipc/service';
import type { Mapping } from '#common/shm/dataspace';
import { DmaSpace, Factory, Meta } from '../../../proto/gen/services.js';
import type { IxlEnv } from '../env.ts';
import type { DmaAllocator, DmaMemory } from '../memory/dma_memory.ts';
import type { PciDevice } from './pci.ts';
import type { VbusClient } from './vbus.ts';
import { ROOT } from './vbus.ts';

/** L4.Proto.Dma_space */
const PROTO_DMA_SPACE = -17;
const BIND = 1;
const BIDIRECTIONAL = 0;
/** How long the DMA space's server may take; the space ends with this task anyway. */
const FAREWELL_MS = 1000;

export class DmaMemories implements DmaAllocator {
  readonly #env: IxlEnv;
  readonly #space: Client<typeof DmaSpace>;
  readonly #mappings: Mapping[] = [];
  readonly #cap: Capability;

  private constructor(env: IxlEnv, cap: Capability) {
    this.#env = env;
    this.#cap = cap;
    this.#space = env.ipc.client(DmaSpace, cap);
  }

  /** Creates a DMA space and assigns it to the NIC's domain. Throws L4Error EBUSY when another driver has it. */
  static async create(env: IxlEnv, vbus: VbusClient, pci: PciDevice): Promise<DmaMemories> {
    const domain = await pci.dmaDomain();
    if (!env.memAlloc) {
      throw new L4Error('ENODEV', 'Cannot create a DMA space as this task has no mem_alloc factory');
    }
    const { object } = await env.ipc.client(Factory, env.memAlloc).create({ type: PROTO_DMA_SPACE });
    if (!object) throw new L4Error('EBADPROTO', 'Cannot create a DMA space as mem_alloc returned no object');
    const memories = new DmaMemories(env, object as Capability);
    try {
      await vbus.assignDmaDomain({ handle: ROOT, domain, flags: BIND, dmaSpace: object });
    } catch (err) {
      await memories.close();
      throw err;
    }
    return memories;
  }

  async allocate(size: number): Promise<DmaMemory> {
    const mapping = this.#env.memories.create(size);
    this.#mappings.push(mapping);
    const { address } = await this.#space.map({
      memory: mapping.ref,
      offset: 0,
      size: mapping.size,
      direction: BIDIRECTIONAL,
    });
    return { offset: mapping.offset, size: mapping.size, address, ref: mapping.ref };
  }

  /** Resolves when the machine that serves the space, and has the NIC, ends. */
  whenMachineGone(): Promise<void> {
    return this.#env.ipc.whenGone(this.#cap);
  }

  /** Gives the space up, and then the memory in it; the NIC must have been stopped. Never rejects. */
  async close(): Promise<void> {
    const { ipc, task } = this.#env;
    await ipc
      .client(Meta, this.#cap)
      .release({ task }, { deadlineMs: FAREWELL_MS })
      .catch(() => {});
    for (const mapping of this.#mappings) mapping.close();
    this.#mappings.length = 0;
  }
}
