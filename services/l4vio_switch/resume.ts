/** What a switch does first that was killed and is started again: its ports are there before the first call can come. */
import type { Gate } from '#common/ipc/gate';
import type { TaskEnv } from '#common/task/env';
import { Parent } from '../../proto/gen/services.js';
import { parsePortArguments } from './factory_args.ts';
import type { KeptRecord, PortJournal } from './journal.ts';
import type { Log } from './log.ts';
import type { Switch } from './switch.ts';

/** Makes the journal's ports behind a gate that is about to be bound. What cannot be made is said. */
export function restorePorts(gate: Gate, lan: Switch, journal: PortJournal): KeptRecord[] {
  return journal.load().filter((record) => {
    try {
      const spec = parsePortArguments(record.arguments);
      lan.restorePort(gate, spec, record, journal.memo(record.arguments));
      return true;
    } catch (err) {
      journal.refuse(record.object, err);
      return false;
    }
  });
}

/**
 * Asks our parent which holders of the ports are left, and releases them for the others: tasks that ended while there was
 * no switch. The gate must be bound: of tasks that end from then on it is told. Never rejects.
 */
export async function releaseLost(
  env: Pick<TaskEnv, 'ipc' | 'parent' | 'signal'>,
  gate: Gate,
  gateName: string,
  ports: readonly KeptRecord[],
  log: Log,
): Promise<void> {
  if (!env.parent || ports.length === 0) return;
  const asked = ports.map(({ object, holders }) => ({ object, tasks: [...holders] }));
  try {
    const parent = env.ipc.client(Parent, env.parent);
    const { objects } = await parent.checkHolders({ gate: gateName, objects: asked }, { signal: env.signal });
    const left = new Map(objects.map(({ object, tasks }) => [object ?? 0, tasks ?? []]));
    for (const { object, tasks } of asked) {
      for (const task of tasks) if (!left.get(object)?.includes(task)) gate.release({ object }, task);
    }
  } catch (err) {
    if (env.signal.aborted) return;
    log.warn('core', `Cannot ask who holds the ports of before the restart: ${(err as Error).message}`);
  }
}
