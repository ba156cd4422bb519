/** The object behind `svr`: `create(0, ...)` makes a port, `create(1)` a statistics reader (F3.2). */
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { CallContext, Handlers } from '#common/ipc/service';
import type { KeptRecord, ObjectJournal } from '#common/journal/object_journal';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Factory } from '../../proto/gen/services.js';
import { parsePortArguments } from './factory_args.ts';
import type { Log } from './log.ts';
import type { StatisticsReaders } from './statistics_reader.ts';
import type { Switch } from './switch.ts';

/** Types of objects. */
export const PORT = 0;
const STATISTICS = 1;

/** What is refused is said to the caller and in the switch's own log, in the same words. */
export function factoryHandlers(
  gate: Gate,
  lan: Switch,
  readers: StatisticsReaders,
  log: Log,
  journal?: Pick<ObjectJournal, 'memo'>,
): Handlers<typeof Factory> {
  const make = (type: number, args: readonly m.IFactoryArgument[], { task }: CallContext) => {
    const memo = journal?.memo({ type, arguments: args });
    if (type === PORT) return lan.createPort(gate, parsePortArguments(args), task, memo);
    if (type === STATISTICS) return readers.create(gate, task, memo);
    throw invalidType(type);
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

/** Makes an object of an earlier life of the switch again. Throws L4Error. */
export function restoreObject(
  gate: Gate,
  lan: Switch,
  readers: StatisticsReaders,
  control: { adopt(number: number, port: Capability): void },
  record: KeptRecord,
  journal: Pick<ObjectJournal, 'memo'>,
): void {
  const { type, number, persistent } = record;
  if (type === STATISTICS && !persistent) readers.restore(gate, record, journal.memo(record));
  else if (type === PORT) {
    const port = lan.restorePort(gate, parsePortArguments(record.arguments), record, journal.memo(record));
    if (persistent) control.adopt(number, port);
  } else throw invalidType(type);
}

function invalidType(type: number): L4Error {
  return new L4Error(
    'EINVAL',
    `op_create: Invalid object type: it must be ${PORT} (port) or ${STATISTICS} (statistics): current value is ${type}`,
    { code: 'VSWITCH_OBJECT_TYPE' },
  );
}
