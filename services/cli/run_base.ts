/** Where labs live: /dev/shm/l4lab-<uid> (L4LAB_RUN_BASE) and what is below it, closed to other users. */
import { lstatSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { isSystemError, systemReason, UsageError } from './problem.ts';

/** The directory above all labs of this user; made if missing, refused if it is not ours alone. */
export function runBase(): string {
  const base = runBasePath();
  requirePrivate(base);
  return base;
}

function runBasePath(): string {
  return resolve(process.env.L4LAB_RUN_BASE || `/dev/shm/l4lab-${process.getuid?.() ?? 0}`);
}

/** Where `l4lab broker` and its components meet, unless they are told otherwise. Absolute. */
export function brokerDir(given: string | undefined): string {
  const named = given ?? process.env.L4LAB_BROKER_DIR;
  if (named === undefined) return join(runBase(), 'broker');
  const dir = resolve(named);
  // In the run base, which may have to be made first.
  if (dirname(dir) === runBasePath()) runBase();
  return dir;
}

/** Makes the directory if it is missing. Throws UsageError when it is not ours alone. */
export function requirePrivate(dir: string): void {
  // Whoever has chosen it has to choose another.
  const mend = `${dir === runBasePath() ? 'set L4LAB_RUN_BASE to' : 'choose with --run-dir or L4LAB_BROKER_DIR'} another directory on a tmpfs`;
  const refuse = (rule: string, value: string) => {
    throw new UsageError(`Cannot use ${dir} for labs as ${rule}: ${value}; ${mend}`);
  };
  try {
    // Not recursive: only the last part is ours to make.
    mkdirSync(dir, { mode: 0o700 });
  } catch (err) {
    if (!isSystemError(err)) throw err;
    if (err.code !== 'EEXIST') {
      const readOnly = err.code === 'EROFS' ? 'give the container a tmpfs (--tmpfs /run/l4lab), or ' : '';
      throw new UsageError(
        `Cannot use ${dir} for labs as it cannot be made: ${systemReason(err)}; ${readOnly}${mend}`,
      );
    }
  }
  const stat = lstatSync(dir, { throwIfNoEntry: false });
  // It was removed a moment ago: who was the last to use it is ending.
  if (!stat) {
    requirePrivate(dir);
    return;
  }
  if (!stat.isDirectory())
    refuse('it must be a directory', stat.isSymbolicLink() ? 'it is a symbolic link' : 'it is a file');
  if (stat.uid !== process.getuid?.()) refuse('it must belong to you', `its owner is user ${stat.uid}`);
  if ((stat.mode & 0o077) !== 0) {
    refuse('it must be closed to others (mode 0700)', `its mode is 0${(stat.mode & 0o777).toString(8)}`);
  }
}
