/**
 * Who uses a lab's directory. Its launcher or broker holds the file `lock` alone, every component shares
 * `components`, and whoever removes the directory holds both. So nobody comes into a directory that is being
 * removed, and a lock means the same in every container that shares the directory, which a pid does not.
 */
import { join } from 'node:path';
import { FileLock } from '#common/shm/lock';
import { makeRunDir } from '#common/shm/run_dir';
import { isSystemError, UsageError } from './problem.ts';
import { requirePrivate } from './run_base.ts';

const LOCK = 'lock';
const COMPONENTS = 'components';
/** The files that tell who uses a directory: the last ones to go. */
export const CLAIMS = [LOCK, COMPONENTS] as const;

const LOOK_MS = 10;
/** Somebody looks whether a lock is held, or removes what is left: both take moments, on a busy machine longer ones. */
const OWNER_PATIENCE_MS = 500;
const COMPONENT_PATIENCE_MS = 10_000;
/** Others hold theirs for good: whoever ends must not wait for them. */
const REMOVER_PATIENCE_MS = 3 * LOOK_MS;

/** Makes the directory, with all its parts, and becomes its launcher or broker; undefined: it has one. */
export function ownDir(dir: string): FileLock | undefined {
  return patiently(OWNER_PATIENCE_MS, () => enter(dir, LOCK, false));
}

/** The same for a component. Throws UsageError when that is not possible. */
export function shareDir(dir: string): FileLock {
  const claim = patiently(COMPONENT_PATIENCE_MS, () => enter(dir, COMPONENTS, true));
  if (claim) return claim;
  throw new UsageError(
    `Cannot use ${dir} as another process has kept it to itself for ${COMPONENT_PATIENCE_MS / 1000} s: end what holds ${join(dir, COMPONENTS)} (fuser)`,
  );
}

/** True when a launcher, a broker or a component uses the directory. */
export function isUsed(dir: string): boolean {
  return hasOwner(dir) || FileLock.isHeld(join(dir, COMPONENTS));
}

/** True when a launcher or a broker does. */
export function hasOwner(dir: string): boolean {
  return FileLock.isHeld(join(dir, LOCK), { alone: true });
}

/** Calls `remove` with the directory kept from everybody. False: it is in use, or gone. */
export function ifUnused(dir: string, remove: () => void): boolean {
  const claims: FileLock[] = [];
  try {
    for (const name of CLAIMS) {
      const claim = patiently(REMOVER_PATIENCE_MS, () => FileLock.tryTake(join(dir, name)));
      if (!claim) return false;
      claims.push(claim);
    }
    remove();
    return true;
  } catch (err) {
    if (isSystemError(err) && (err.code === 'ENOENT' || err.code === 'ENOTDIR')) return false;
    throw err;
  } finally {
    for (const claim of claims) claim.release();
  }
}

/** Undefined: somebody else is in there, or has just removed it. */
function enter(dir: string, name: string, shared: boolean): FileLock | undefined {
  requirePrivate(dir);
  let claim: FileLock | undefined;
  try {
    claim = FileLock.tryTake(join(dir, name), { shared });
    if (claim) makeRunDir(dir);
    return claim;
  } catch (err) {
    claim?.release();
    if (isSystemError(err) && err.code === 'ENOENT') return undefined;
    throw err;
  }
}

function patiently<T>(ms: number, attempt: () => T | undefined): T | undefined {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (const end = performance.now() + ms; ; Atomics.wait(pause, 0, 0, LOOK_MS)) {
    const result = attempt();
    if (result !== undefined || performance.now() >= end) return result;
  }
}
