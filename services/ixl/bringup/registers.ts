/** Maps a NIC's registers: vbus dataspace at BAR0's address -> register channel (F5.3 step 2). */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Mapping } from '#common/shm/dataspace';
import { MMIO_BYTES, type Mmio, MmioClient } from '#common/shm/mmio';
import { l4lab } from '../../../proto/gen/messages.js';
import { Dataspace } from '../../../proto/gen/services.js';
import type { IxlEnv } from '../env.ts';
import type { Log } from '../log.ts';
import type { PciDevice } from './pci.ts';

export interface MappedRegisters {
  readonly mmio: Mmio;
  /** Calls `onGone` as soon as the machine's process has ended, was given up, or another driver has got the registers. */
  watch(onGone: () => void): void;
  close(): void;
}

export interface RegistersContext {
  readonly env: IxlEnv;
  readonly pci: PciDevice;
  readonly log: Log;
}

/**
 * Sets the bus-master bit and maps BAR0; `patienceMs` as in `DevCfg`. Throws L4Error when the vbus refuses, or gives plain
 * memory.
 */
export async function mapRegisters(
  context: RegistersContext,
  vbus: Capability,
  patienceMs: number,
): Promise<MappedRegisters> {
  const { env, pci } = context;
  await pci.enableBusMaster();
  const { address, size } = await pci.bar0();
  const reply = await env.ipc.client(Dataspace, vbus).map({ offset: address, size });
  if (reply.kind !== l4lab.MapReply.Kind.MMIO || !reply.memory) {
    throw new L4Error(
      'EBADPROTO',
      `Cannot map registers of "${pci.name}" as the vbus gave no register channel`,
    );
  }
  return openChannel(context, reply.memory, reply.offset, patienceMs);
}

/** The register channel in `memory`; its doorbell and its lifeline have the memory's name. */
function openChannel(
  { env, pci, log }: RegistersContext,
  memory: l4lab.ISharedMemory,
  base: number,
  patienceMs: number,
): MappedRegisters {
  const device = pci.name;
  const name = memory.name ?? '';
  const mapping = env.memories.open(memory);
  const held: { close(): void }[] = [mapping];
  try {
    checkChannel(device, mapping);
    const bell = env.doorbells.open(name);
    held.push(bell);
    let onGone = (): void => {};
    const life = env.doorbells.watch(name, () => onGone());
    held.push({ close: () => life.leave() });
    const channel = new MmioClient(env.arena, mapping.offset, bell, {
      lives: () => life.check(),
      onSlow: () => log.warn(`"${device}" has not answered for 2 s: is the machine stopped? Waiting for it.`),
      giveUpMs: patienceMs,
      onGivenUp: () => {
        log.error(`"${device}" has not answered for ${patienceMs / 1000} s: it is given up`);
        onGone();
      },
    });
    return {
      mmio: base === 0 ? channel : shifted(channel, base),
      watch: (listener) => {
        onGone = listener;
        if (!life.check() || channel.closed) listener();
      },
      close: () => {
        life.leave();
        bell.close();
        mapping.close();
      },
    };
  } catch (err) {
    for (const half of held) half.close();
    throw err;
  }
}

/** A channel is written by both: one that is too small, or cannot be written, would end us, or reach other memory of ours. */
function checkChannel(device: string, { size, ref }: Pick<Mapping, 'size' | 'ref'>): void {
  if (size >= MMIO_BYTES && ref.writable) return;
  throw new L4Error(
    'EBADPROTO',
    `Cannot map registers of "${device}" as a register channel must have ${MMIO_BYTES} writable bytes: current value is ${size}${ref.writable ? '' : ', read-only'}`,
  );
}

/** The asked address lies inside the device's BAR, not at its start. */
function shifted(channel: Mmio, base: number): Mmio {
  return {
    read32: (offset) => channel.read32(base + offset),
    write32: (offset, value) => channel.write32(base + offset, value),
  };
}
