/** The object behind `svr`: `create(0, ...)` makes a port, `create(1)` a statistics reader (F3.2). */
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { CallContext, Handlers } from '#common/ipc/service';
import type { SharedMemories } from '#common/shm/dataspace';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Factory } from '../../proto/gen/services.js';
import { parsePortArguments } from './factory_args.ts';
import type { PortJournal } from './journal.ts';
import type { Log } from './log.ts';
import { createStatisticsReader } from './statistics_reader.ts';
import type { Switch } from './switch.ts';

const PORT = 0;
const STATISTICS = 1;

/** What is refused is said to the caller and in the switch's own log, in the same words. */
export function factoryHandlers(
  gate: Gate,
  lan: Switch,
  memories: Pick<SharedMemories, 'create'>,
  log: Log,
  journal?: Pick<PortJournal, 'memo'>,
): Handlers<typeof Factory> {
  const make = (type: number, args: readonly m.IFactoryArgument[], { task }: CallContext) => {
    if (type === PORT) return lan.createPort(gate, parsePortArguments(args), task, journal?.memo(args));
    if (type === STATISTICS) return createStatisticsReader(gate, lan, memories, task);
    throw new L4Error(
      'EINVAL',
      `op_create: Invalid object type: it must be ${PORT} (port) or ${STATISTICS} (statistics): current value is ${type}`,
      { code: 'VSWITCH_OBJECT_TYPE' },
    );
  };
  return {
    create: (request, context) => {
      try {
        return { object: make(request.type, request.arguments, context) };
      } catch (err) {
        log.error(toL4Error(err).message);
        throw err;
      }
    },
  };
}
