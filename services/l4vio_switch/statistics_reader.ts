/**
 * The statistics reader object, `create(1)`: a page of its own and an operation that brings it up to date (F3.11).
 * Protocol: proto/statistics.proto.
 */
import { type Capability, RIGHT_D, RIGHT_R } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import type { SharedMemories } from '#common/shm/dataspace';
import { l4lab as m } from '../../proto/gen/messages.js';
import { SwitchStatistics } from '../../proto/gen/services.js';
import type { Switch } from './switch.ts';

/** Makes a reader for a task. Throws L4Error ENOMEM when /dev/shm is full. */
export function createStatisticsReader(
  gate: Gate,
  lan: Switch,
  memories: Pick<SharedMemories, 'create'>,
  holder: string,
): Capability {
  const page = memories.create(lan.statisticsBytes, false);
  lan.writeStatistics(page.offset);
  const reader = bind(SwitchStatistics, {
    getBuffer: () => ({ memory: { ...page.ref }, kind: m.MapReply.Kind.MEMORY, offset: 0 }),
    sync: () => {
      lan.writeStatistics(page.offset);
      return {};
    },
  });
  return gate.export([reader], { rights: RIGHT_R | RIGHT_D, holder, onGone: () => page.close() });
}
