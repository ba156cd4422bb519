/** Option `-d` of virtual network devices: the only dataspaces that clients may register (F4.4). */
import { L4Error } from '#common/ipc/errors';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import type { TaskEnv } from '#common/task/env';
import { Dataspace } from '../../../proto/gen/services.js';

/**
 * Looks the named capabilities up; a client's dataspace is accepted when it is one of them, with the same rights.
 * Without names everything is accepted. Throws L4Error ENOENT for a name that is no capability.
 */
export async function trustOnly(
  env: Pick<TaskEnv, 'caps' | 'capNames' | 'ipc'>,
  names: readonly string[],
): Promise<((memory: SharedMemoryRef) => boolean) | undefined> {
  if (names.length === 0) return undefined;
  const trusted = new Map<string, boolean>();
  for (const name of names) {
    const cap = env.caps.get(name);
    if (!cap) {
      throw new L4Error(
        'ENOENT',
        `Cannot trust dataspace '${name}' as there is no capability of that name: there are ${env.capNames.join(', ') || 'none'}`,
      );
    }
    const dataspace = env.ipc.client(Dataspace, cap);
    const { size } = await dataspace.info();
    const { memory } = await dataspace.map({ offset: 0, size });
    if (!memory?.name)
      throw new L4Error('EINVAL', `Cannot trust dataspace '${name}' as it is not shared memory`);
    trusted.set(memory.name, memory.writable ?? false);
  }
  return ({ name, writable }) => trusted.get(name) === writable;
}
