/** Writing of launch records: files in the run directory that only its user can read. */
import { rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { L4Error } from '#common/ipc/errors';

/** Throws L4Error ENOMEM when the file system is full, EIO when it fails otherwise; then there is no such file. */
export function writeRecord(path: string, bytes: Uint8Array, task: string): void {
  try {
    writeFileSync(path, bytes, { mode: 0o600 });
  } catch (cause) {
    rmSync(path, { force: true });
    const { code, message } = cause as NodeJS.ErrnoException;
    const [errno, reason] =
      code === 'ENOSPC'
        ? ([
            'ENOMEM',
            `the file system of ${dirname(path)} is full: free some of it (l4lab stop, rm of unused files) or make it larger (mount -o remount,size=...)`,
          ] as const)
        : (['EIO', `its launch record cannot be written: ${message}`] as const);
    throw new L4Error(errno, `Cannot start task '${task}' as ${reason}`, { cause });
  }
}
