/** Object `sigma0`: configuration space and interrupt routing of the PCI bus, and its device memory. */

import { L4Error } from '#common/ipc/errors';
import { type Binding, bind } from '#common/ipc/service';
import type { Arena } from '#common/shm/arena';
import type { Mapping, SharedMemories } from '#common/shm/dataspace';
import type { Doorbell, Doorbells } from '#common/shm/doorbell';
import type { Lifeline } from '#common/shm/lifeline';
import { MMIO_BYTES, MmioServer } from '#common/shm/mmio';
import { l4lab as m } from '../../../proto/gen/messages.js';
import { Dataspace, PciHost } from '../../../proto/gen/services.js';
import type { Machine } from '../machine.ts';
import { NicFunction, REGISTER_BAR } from '../nic_function.ts';

/** What a PC's 32-bit bus can address. */
const PHYSICAL_BYTES = 2 ** 32;
const PAGE = 4096;
/** Accesses of one sequence. */
const MAX_STEPS = 64;

export interface Sigma0Host {
  readonly arena: Arena;
  readonly memories: SharedMemories;
  readonly doorbells: Doorbells;
  wake(): void;
}

interface Channel {
  readonly mapping: Mapping;
  readonly bell: Doorbell;
  /** Tells the driver, in whatever container it is, when this process ends. */
  readonly lifeline: Lifeline;
  readonly server: MmioServer;
}

/**
 * Register channels of the NICs' BARs. One driver at a time: a new mapping takes the registers over and
 * the old channel is dead (its reads give all ones), so a restarted driver finds its device.
 */
class Channels {
  readonly #open = new Map<NicFunction, Channel>();
  readonly #host: Sigma0Host;

  constructor(host: Sigma0Host) {
    this.#host = host;
  }

  open(nic: NicFunction): m.ISharedMemory {
    this.#close(nic);
    const { arena, memories, doorbells, wake } = this.#host;
    const mapping = memories.create(Math.ceil(MMIO_BYTES / PAGE) * PAGE);
    const held: { close(): void }[] = [mapping];
    try {
      const server = new MmioServer(arena, mapping.offset);
      // The doorbell has the memory's name: that is how the driver finds it.
      const bell = doorbells.create(mapping.ref.name);
      held.push(bell);
      bell.listen(() => wake());
      const lifeline = doorbells.lifeline(mapping.ref.name);
      this.#open.set(nic, { mapping, bell, lifeline, server });
      nic.channel = server;
    } catch (err) {
      for (const half of held) half.close();
      throw err;
    }
    wake();
    return mapping.ref;
  }

  #close(nic: NicFunction): void {
    const old = this.#open.get(nic);
    if (!old) return;
    this.#open.delete(nic);
    nic.channel = undefined;
    old.server.close();
    old.bell.close();
    old.lifeline.close();
    old.mapping.close();
  }
}

/** The services of the gate `sigma0`. */
export function sigma0Object(machine: Machine, host: Sigma0Host): Binding[] {
  const { pci } = machine;
  const channels = new Channels(host);
  return [
    bind(PciHost, {
      cfgRead: ({ address, offset, width }) => ({ value: pci.cfgRead(address, offset, width) }),
      cfgWrite: ({ address, offset, width, value }) => {
        pci.cfgWrite(address, offset, width, value);
        host.wake();
        return {};
      },
      cfgSequence: ({ address, steps }) => {
        if (steps.length > MAX_STEPS) {
          throw new L4Error(
            'EINVAL',
            `Cannot do a sequence of accesses as it may have at most ${MAX_STEPS} steps: current value is ${steps.length}`,
          );
        }
        const values: number[] = [];
        try {
          for (const { offset, width, value } of steps) {
            if (typeof value === 'number') pci.cfgWrite(address, offset ?? 0, width ?? 0, value);
            else values.push(pci.cfgRead(address, offset ?? 0, width ?? 0));
          }
        } finally {
          // Not before: a turn between two steps would let the driver find its registers gone.
          host.wake();
        }
        return { values };
      },
      route: ({ address, pin }) => ({ irq: pci.route(address, pin), trigger: 0, polarity: 1 }),
    }),
    bind(Dataspace, {
      info: () => ({ size: PHYSICAL_BYTES, writable: true }),
      map: ({ offset, size }) => {
        const found = pci.findMemory(offset, Math.max(size, 1));
        if (!(found?.fn instanceof NicFunction) || found.bar !== REGISTER_BAR) {
          throw new L4Error(
            'ERANGE',
            `Cannot map device memory as no BAR of a PCI function contains 0x${offset.toString(16)}..0x${(offset + size).toString(16)}`,
          );
        }
        const memory = channels.open(found.fn);
        return { memory, kind: m.MapReply.Kind.MMIO, offset: found.offset };
      },
      copyOut: () => {
        throw new L4Error('ENOSYS', 'Cannot read device memory as bytes: map it');
      },
    }),
  ];
}
