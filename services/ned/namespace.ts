/** Namespaces that scripts make (`Loader:create_namespace`): names for capabilities, served by ned. */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { Ipc } from '#common/ipc/ipc';
import { bind, type Handlers } from '#common/ipc/service';
import { Namespace } from '../../proto/gen/services.js';
import type { References } from './references.ts';

/** Long paths through other tasks' namespaces must not occupy ned for ever. */
const QUERY_DEADLINE_MS = 5000;
/** A namespace may be inside of itself: longer paths would keep ned busy for ever. */
const MAX_PATH = 1024;

export interface NamespaceContext {
  readonly gate: Gate;
  readonly ipc: Ipc;
  readonly references: References;
  readonly newId?: (holder: string) => number | undefined;
}

/** Makes an empty namespace, held by `holder`; its entries are held by ned as long as it lives. */
export function createNamespace(context: NamespaceContext, holder: string): Capability {
  const entries = new Entries();
  return context.gate.export([bind(Namespace, handlers(entries, context))], {
    holder,
    id: context.newId?.(holder),
    onGone: () => {
      entries.gone = true;
      for (const cap of entries.values()) context.references.release(cap);
    },
  });
}

class Entries extends Map<string, Capability> {
  /** Nobody holds the namespace any more. */
  gone = false;
}

function handlers(entries: Entries, { ipc, references }: NamespaceContext): Handlers<typeof Namespace> {
  return {
    query: async ({ name }, { task, signal }) => {
      if (name.length > MAX_PATH) {
        throw new L4Error(
          'ENAMETOOLONG',
          `Cannot find a name in this namespace as a path has at most ${MAX_PATH} characters: current length is ${name.length}`,
        );
      }
      const [first = '', ...rest] = name.split('/').filter((part) => part !== '');
      const found = entries.get(first);
      if (!found) {
        const known = [...entries.keys()].sort().join(', ') || 'nothing';
        throw new L4Error('ENOENT', `Cannot find '${first}' in this namespace: it has ${known}`);
      }
      if (rest.length > 0) {
        return ipc
          .client(Namespace, found)
          .query({ name: rest.join('/') }, { deadlineMs: QUERY_DEADLINE_MS, signal });
      }
      if (task !== ipc.task) await references.hold(found, task);
      return { capability: found };
    },
    register: async ({ name, capability }) => {
      if (name === '' || name.includes('/')) {
        throw new L4Error(
          'EINVAL',
          `Cannot register a name as it must be one word without '/': current value is '${name}'`,
        );
      }
      const added = (capability ?? undefined) as Capability | undefined;
      if (added) await references.acquire(added);
      if (entries.gone) {
        if (added) references.release(added);
        return {};
      }
      const old = entries.get(name);
      if (added) entries.set(name, added);
      else entries.delete(name);
      if (old) references.release(old);
      return {};
    },
    list: () => ({ names: [...entries.keys()].sort() }),
  };
}
