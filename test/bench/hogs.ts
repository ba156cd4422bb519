/** Programs that want all the CPU they can get, one for each core: what a shared machine is like. */
import { type ChildProcess, spawn } from 'node:child_process';
import { allowedCores } from './proc.ts';
import { end } from './switch_rig.ts';

/** Does the work while the programs run. */
export async function besideHogs<T>(work: () => Promise<T>): Promise<T> {
  const hogs: ChildProcess[] = allowedCores().map(() =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  try {
    return await work();
  } finally {
    await Promise.all(hogs.map(end));
  }
}
