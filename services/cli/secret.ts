/** Where the secret of an external lab comes from. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { LabSecret } from '#common/broker/secret';
import { UsageError } from './problem.ts';
import { SECRET } from './registry.ts';

/** L4LAB_SECRET_FILE, then L4LAB_SECRET; undefined: neither is set. Throws UsageError. */
export function givenSecret(env: NodeJS.ProcessEnv): LabSecret | undefined {
  if (env.L4LAB_SECRET_FILE) return new LabSecret(readSecret(env.L4LAB_SECRET_FILE));
  return env.L4LAB_SECRET ? new LabSecret(env.L4LAB_SECRET) : undefined;
}

/** The given secret, or the one that the broker has left in its directory; undefined: not there (yet). */
export function findSecret(dir: string, env: NodeJS.ProcessEnv): LabSecret | undefined {
  const path = join(dir, SECRET);
  return givenSecret(env) ?? (existsSync(path) ? new LabSecret(readSecret(path)) : undefined);
}

/** The broker's secret, in the directory that is its own by now. Without a given one it makes one, for components of the same user. */
export function brokerSecret(dir: string, env: NodeJS.ProcessEnv): { secret: LabSecret; made: boolean } {
  const path = join(dir, SECRET);
  const given = givenSecret(env);
  if (given) {
    // One that another broker made and left would be taken for ours.
    if (resolve(env.L4LAB_SECRET_FILE ?? '') !== path) rmSync(path, { force: true });
    return { secret: given, made: false };
  }
  const found = findSecret(dir, {});
  if (found) return { secret: found, made: true };
  const text = randomBytes(32).toString('hex');
  // Complete or not there: components that wait for it look every few milliseconds.
  writeFileSync(`${path}.new`, `${text}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return { secret: new LabSecret(text), made: true };
}

function readSecret(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (err) {
    throw new UsageError(
      `Cannot read the lab's secret: ${(err as Error).message} (L4LAB_SECRET_FILE names it)`,
    );
  }
}
