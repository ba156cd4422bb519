/** The object behind `svr`: `create(0, ...)` makes a port. */
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { Handlers } from '#common/ipc/service';
import type { KeptRecord, ObjectJournal } from '#common/journal/object_journal';
import type { Factory } from '../../proto/gen/services.js';
import { parsePortArguments } from './factory_args.ts';
import type { Link } from './link.ts';

const PORT = 0;

/** What is refused is said to the caller and in the log, in the same words. */
export function factoryHandlers(
  gate: Gate,
  link: Link,
  log: (line: string) => void,
  journal?: Pick<ObjectJournal, 'memo'>,
): Handlers<typeof Factory> {
  return {
    create: ({ type, arguments: args }, { task }) => {
      try {
        requirePort(type);
        const memo = journal?.memo({ type, arguments: args });
        return { object: link.createPort(gate, parsePortArguments(args, log), task, memo) };
      } catch (err) {
        log(toL4Error(err).message);
        throw err;
      }
    },
  };
}

/** Makes a port of an earlier life of the link again. Throws L4Error. */
export function restorePort(
  gate: Gate,
  link: Link,
  record: KeptRecord,
  journal: Pick<ObjectJournal, 'memo'>,
): void {
  requirePort(record.type);
  // What was ignored has been said.
  const spec = parsePortArguments(record.arguments, () => {});
  link.restorePort(gate, spec, record, journal.memo(record));
}

function requirePort(type: number): void {
  if (type === PORT) return;
  throw new L4Error(
    'EINVAL',
    `Cannot create object as its type must be ${PORT} (port): current value is ${type}`,
    { code: 'P2P_OBJECT_TYPE' },
  );
}
