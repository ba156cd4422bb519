/** What a server does first that was killed and is started again: its objects are there before the first call can come. */
import type { ServerEnd } from '#common/ipc/capability';
import type { Gate } from '#common/ipc/gate';
import type { TaskEnv } from '#common/task/env';
import { Parent } from '../../../proto/gen/services.js';
import type { KeptRecord, ObjectJournal } from './object_journal.ts';

/** Makes the journal's objects with `make`. What cannot be made is said. Returns those that were. */
export function restoreObjects(journal: ObjectJournal, make: (record: KeptRecord) => void): KeptRecord[] {
  return journal.load().filter((record) => {
    try {
      make(record);
      return true;
    } catch (err) {
      journal.refuse(record.object, err);
      return false;
    }
  });
}

/**
 * Serves a gate with the objects of an earlier life behind it, which `make` makes again; calls to the gate itself wait for
 * `setRoot`. Asks, in the background, who of their holders is left.
 */
export async function serveAgain(
  env: Pick<TaskEnv, 'ipc' | 'parent' | 'signal'>,
  end: ServerEnd,
  journal: ObjectJournal,
  make: (gate: Gate, record: KeptRecord) => void,
  warn: (text: string) => void,
): Promise<{ gate: Gate; records: readonly KeptRecord[] }> {
  let records: readonly KeptRecord[] = [];
  const gate = await env.ipc.serve(end, (unbound) => {
    records = restoreObjects(journal, (record) => make(unbound, record));
  });
  void releaseLost(env, gate, end.gate, records, warn);
  return { gate, records };
}

/**
 * Asks our parent which holders of the objects are left, and releases them for the others: tasks that ended while there was
 * no server. The gate must be bound: of tasks that end from then on it is told. Never rejects.
 */
export async function releaseLost(
  env: Pick<TaskEnv, 'ipc' | 'parent' | 'signal'>,
  gate: Gate,
  gateName: string,
  records: readonly KeptRecord[],
  warn: (text: string) => void,
): Promise<void> {
  const held = records.filter(({ holders }) => holders.length > 0);
  if (!env.parent || held.length === 0) return;
  const asked = held.map(({ object, holders }) => ({ object, tasks: [...holders] }));
  try {
    const parent = env.ipc.client(Parent, env.parent);
    const { objects } = await parent.checkHolders({ gate: gateName, objects: asked }, { signal: env.signal });
    const left = new Map(objects.map(({ object, tasks }) => [object ?? 0, tasks ?? []]));
    for (const { object, tasks } of asked) {
      for (const task of tasks) if (!left.get(object)?.includes(task)) gate.release({ object }, task);
    }
  } catch (err) {
    if (env.signal.aborted) return;
    warn(`Cannot ask who holds the ports of before the restart: ${(err as Error).message}`);
  }
}
