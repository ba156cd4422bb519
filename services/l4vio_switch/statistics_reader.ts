/**
 * Statistics readers, `create(1)`: objects with a page of their own and an operation that brings it up to date (F3.11).
 * Protocol: proto/statistics.proto. A switch that is started again has its readers again, with the very pages that their
 * clients have mapped.
 */
import { type Capability, RIGHT_D, RIGHT_R } from '#common/ipc/capability';
import type { ExportOptions, Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import type { KeptRecord, Memo } from '#common/journal/object_journal';
import { pageRound } from '#common/shm/arena';
import type { Mapping, SharedMemories } from '#common/shm/dataspace';
import { l4lab as m } from '../../proto/gen/messages.js';
import { SwitchStatistics } from '../../proto/gen/services.js';
import type { Switch } from './switch.ts';

export class StatisticsReaders {
  readonly #lan: Switch;
  readonly #memories: Pick<SharedMemories, 'create' | 'adopt'>;
  readonly #pages = new Set<Mapping>();

  constructor(lan: Switch, memories: Pick<SharedMemories, 'create' | 'adopt'>) {
    this.#lan = lan;
    this.#memories = memories;
  }

  /** Makes a reader for a task. Throws L4Error ENOMEM when /dev/shm is full. */
  create(gate: Gate, holder: string, memo?: Memo): Capability {
    const page = this.#memories.create(this.#lan.statisticsBytes, false, memo !== undefined);
    this.#lan.writeStatistics(page.offset);
    return this.#export(gate, page, { holders: [holder] }, memo);
  }

  /** Makes a reader of an earlier life again. Throws L4Error EINVAL when its page is not there any more. */
  restore(gate: Gate, { object, holders, page }: KeptRecord, memo: Memo): void {
    const size = pageRound(this.#lan.statisticsBytes);
    // With another number of ports it would be another page.
    if (page?.size !== size) throw new Error(`its page must have ${size} bytes: it has ${page?.size ?? 0}`);
    this.#export(gate, this.#memories.adopt({ ...page, writable: false }), { id: object, holders }, memo);
  }

  /** The next life of the switch is to have the pages. */
  leave(): void {
    for (const page of this.#pages) page.leave();
    this.#pages.clear();
  }

  #export(
    gate: Gate,
    page: Mapping,
    options: Pick<ExportOptions, 'holders' | 'id'>,
    memo: Memo | undefined,
  ): Capability {
    const lan = this.#lan;
    const chosen = { page: page.ref };
    this.#pages.add(page);
    const reader = bind(SwitchStatistics, {
      getBuffer: () => ({ memory: { ...page.ref }, kind: m.MapReply.Kind.MEMORY, offset: 0 }),
      sync: () => {
        lan.writeStatistics(page.offset);
        return {};
      },
    });
    const capability = gate.export([reader], {
      ...options,
      rights: RIGHT_R | RIGHT_D,
      onHolders: (holders) => memo?.save(capability.object, chosen, holders),
      onGone: () => {
        memo?.remove(capability.object);
        this.#pages.delete(page);
        page.close();
      },
    });
    memo?.save(capability.object, chosen, options.holders ?? []);
    return capability;
  }
}
