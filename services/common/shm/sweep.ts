/**
 * Removes what processes that were killed have left in a run directory: shared memory and FIFOs whose maker holds
 * their lock as long as it lives (flock(2), so it works between containers). Files that are to outlive their
 * maker have no lock; which kind a file is says its mode.
 */
import { closeSync, constants, fchmodSync, fstatSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tryFlock } from './libc.ts';
import { isRandomName } from './run_dir.ts';

/** Mode of a file that goes with its maker: nobody executes it, the bit is the mark. */
const BOUND = 0o700;
/** A file that is younger may be between its making and its lock. */
export const SETTLE_MS = 2000;

/** Marks an open file as one that goes with this process, which must keep it open. */
export function bindToProcess(fd: number): void {
  if (tryFlock(fd, false)) fchmodSync(fd, BOUND);
}

/** Removes the files of processes that have ended. Returns how many; 0 when the directory itself has gone. */
export function sweep(runDir: string): number {
  let removed = 0;
  for (const part of ['m', 'b']) {
    for (const name of namesIn(join(runDir, part))) {
      if (!isLeftover(join(runDir, part, name))) continue;
      rmSync(join(runDir, part, name), { force: true });
      // An interrupt object: its state has the doorbell's name.
      if (part === 'b' && isRandomName(name)) rmSync(join(runDir, 'm', name), { force: true });
      removed += 1;
    }
  }
  return removed;
}

/** Sweeps a run directory a while after each call of `soon`: for whoever learns that processes have ended. */
export class Sweeper {
  readonly #runDir: string;
  #timer: NodeJS.Timeout | undefined;

  constructor(runDir: string) {
    this.#runDir = runDir;
  }

  /** A process has ended; if it was killed, its files can be told from those that are being made only later. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      sweep(this.#runDir);
    }, 2 * SETTLE_MS).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function isLeftover(path: string): boolean {
  let fd: number;
  try {
    // Of a FIFO only for reading: a writer would look like its living owner.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch {
    return false;
  }
  try {
    const { mode, mtimeMs } = fstatSync(fd);
    return (mode & 0o777) === BOUND && Date.now() - mtimeMs > SETTLE_MS && tryFlock(fd, false);
  } finally {
    closeSync(fd);
  }
}
