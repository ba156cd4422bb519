/**
 * Labs in containers share the memory of one container that does nothing else (deploy/docker/keep.sh).
 * When that one is started again its memory is another: everybody else has to start anew in there.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EndWatch } from '#common/shm/lifeline';

/** The keeper of the memory is started a moment before us. */
const PATIENCE_MS = 5000;
const LOOK_MS = 20;
/** It has to be there again when our container is started again, or that fails. */
const BACK_MS = 2000;

/**
 * Calls `onEnd` two seconds after the container that keeps the shared memory has ended: L4LAB_KEEPER names the
 * FIFO that it holds. Does nothing when that is not set. Never rejects.
 */
export async function watchKeeper(say: (text: string) => void, onEnd: () => void): Promise<void> {
  const path = process.env.L4LAB_KEEPER;
  if (!path) return;
  for (let waited = 0; !existsSync(path) && waited < PATIENCE_MS; waited += LOOK_MS) await sleep(LOOK_MS);
  try {
    const watch = new EndWatch(path, () => {
      say('the container that keeps the shared memory has ended: starting anew');
      setTimeout(onEnd, BACK_MS).unref();
    });
    watch.unref();
    // It may have ended before we looked.
    watch.check();
  } catch (err) {
    say(`cannot watch the container that keeps the shared memory: ${(err as Error).message} (L4LAB_KEEPER)`);
  }
}
