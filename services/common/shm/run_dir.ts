/**
 * The directory of one running lab, on a tmpfs, readable by its user only:
 *
 *     g/  gates: the server's ZeroMQ socket `<gate>`, and `<gate>.dead` once its server has ended
 *     m/  shared memory      b/  doorbells (FIFOs)      t/  launch records
 *     c/  objects that commands of the user may call (../control/publication.ts)
 *
 * Names are 128-bit random: whoever knows one may use it, as with a capability.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

const NAME = /^[0-9a-f]{32}$/;

/** A fresh 128-bit random name, 32 hex digits. */
export function randomName(): string {
  return randomBytes(16).toString('hex');
}

/** True for what `randomName` makes: nothing that comes from outside becomes a path otherwise. */
export function isRandomName(name: string): boolean {
  return NAME.test(name);
}

/** Names of the sub-directories. */
export const RUN_DIR_PARTS = ['g', 'm', 'b', 't', 'c'] as const;

/** Where a component says whether it is ready; read by the broker. */
export function stateFile(runDir: string, instance: string): string {
  return join(runDir, 't', `${instance}.state`);
}

/** Makes the sub-directories; `dir` itself must exist or be creatable. Mode 0700. */
export function makeRunDir(dir: string): void {
  for (const part of RUN_DIR_PARTS) mkdirSync(join(dir, part), { recursive: true, mode: 0o700 });
}
