/** What the driver library needs of the task that links it. A `TaskEnv` is one. */
import type { Ipc } from '#common/ipc/ipc';
import type { TaskEnv } from '#common/task/env';

export interface IxlEnv
  extends Pick<TaskEnv, 'arena' | 'memories' | 'doorbells' | 'runDir' | 'memAlloc' | 'task'> {
  readonly ipc: Pick<Ipc, 'client' | 'whenGone'>;
}
