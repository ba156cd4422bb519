/** What is said when the file system of the labs is full; how it is made larger depends on where we run. */
import { existsSync } from 'node:fs';
import { L4Error } from '#common/ipc/errors';

/** For the hint of an error: a command, or an option of the container. */
export function larger(): string {
  if (process.env.L4LAB_KEEPER) return 'L4LAB_SHM_SIZE=1g docker compose up -d';
  if (existsSync('/.dockerenv') || existsSync('/run/.containerenv'))
    return 'docker run --tmpfs /run/l4lab:size=...';
  return 'mount -o remount,size=...';
}

/** The L4Error ENOMEM for an error that says so; any other error stays what it is. `what` was to be made in `dir`. */
export function outOfSpace(err: unknown, what: string, dir: string): unknown {
  if ((err as NodeJS.ErrnoException).code !== 'ENOSPC') return err;
  const hint = `free some of it (l4lab stop, rm of unused files) or make it larger (${larger()})`;
  const message = `Cannot create ${what} as the file system of ${dir} is full: ${hint}`;
  return new L4Error('ENOMEM', message, { code: 'SHM_FULL', cause: err });
}
