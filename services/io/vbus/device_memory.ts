/**
 * The vbus as a dataspace: device memory by physical address.
 *
 * Only pages of MEM resources of the bus can be mapped; the machine does the mapping.
 */
import { L4Error } from '#common/ipc/errors';
import type { Log } from '../log.ts';
import { describeResource, MEM_W, RESOURCE, type Resource, vbusFlags } from '../tree/resource.ts';
import type { SystemBus } from '../tree/vi.ts';

const PAGE = 4096;
/** The whole address space: 48 bits, as many as machines of this kind decode. */
const ADDRESS_SPACE = 2 ** 48;

/** Message MapReply. */
export interface Mapped {
  memory: { name: string; size: number; writable: boolean };
  kind: number;
  offset: number;
}

/** The machine's dataspace of device memory (sigma0). */
export interface MemoryAccess {
  map(address: number, size: number): Promise<Mapped>;
}

export class DeviceMemory {
  readonly #bus: SystemBus;
  readonly #access: MemoryAccess;
  readonly #log: Log;

  constructor(bus: SystemBus, access: MemoryAccess, log: Log) {
    this.#bus = bus;
    this.#access = access;
    this.#log = log;
  }

  info(): { size: number; writable: boolean } {
    return { size: ADDRESS_SPACE, writable: true };
  }

  /**
   * @param address physical address, bytes
   * @throws L4Error ERANGE when the pages are not all of one memory resource of the bus
   */
  async map(address: number, size: number): Promise<Mapped> {
    const memories = this.#bus.allResources.filter(({ type }) => type === RESOURCE.MEM);
    const found = memories.find((resource) => contains(resource, address, size));
    if (found === undefined) {
      this.#log.info(`request: no MMIO resource at ${address.toString(16)}`);
      this.#log.info(['Available resources:', ...memories.map(describeResource)].join('\n'));
      const known =
        memories.length === 0 ? 'it has none' : `it has ${memories.map(describeResource).join(', ')}`;
      throw new L4Error(
        'ERANGE',
        `Cannot map 0x${address.toString(16)} of ${size} bytes from vbus '${this.#bus.name}' as it must be inside one memory resource of the bus: ${known}`,
      );
    }
    const mapped = await this.#access.map(address, size);
    if ((vbusFlags(found) & MEM_W) !== 0) return mapped;
    return { ...mapped, memory: { ...mapped.memory, writable: false } };
  }
}

/** Whole pages: a resource smaller than a page still gets its page. */
function contains({ start, end }: Resource, address: number, size: number): boolean {
  const first = start - (start % PAGE);
  const last = Math.ceil((end + 1) / PAGE) * PAGE;
  return address >= first && address < last && address + size <= last;
}
