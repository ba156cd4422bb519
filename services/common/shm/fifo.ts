/** FIFOs that go with the process that makes them: doorbells and lifelines. */
import { closeSync, constants, fstatSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { L4Error } from '#common/ipc/errors';
import { mkfifo } from './libc.ts';
import { outOfSpace } from './space.ts';
import { bindToProcess } from './sweep.ts';

/**
 * Makes a FIFO and opens it for reading and writing: it waits for nobody, and nobody's end concerns it. What goes wrong leaves
 * nothing behind. Throws L4Error ENOMEM when the file system is full; `what` is for the message.
 */
export function makeFifo(path: string, what: string): number {
  try {
    mkfifo(path, 0o600);
  } catch (err) {
    throw outOfSpace(err, what, dirname(path));
  }
  try {
    const fd = openFifo(path, constants.O_RDWR);
    bindToProcess(fd);
    return fd;
  } catch (err) {
    rmSync(path, { force: true });
    throw err;
  }
}

/**
 * Opens a FIFO, without waiting for its other end. Throws L4Error EINVAL when it is something else, which must never be
 * watched: koffi ends the process when the kernel cannot wait for a file.
 */
export function openFifo(path: string, access: number): number {
  const fd = openSync(path, access | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw new L4Error('EINVAL', `Cannot open ${path} as it is not a FIFO`);
}

/** Closes and removes it. Its directory may be gone already. */
export function removeFifo(path: string, fd: number): void {
  closeSync(fd);
  try {
    unlinkSync(path);
  } catch {
    // The launcher has removed the whole run directory.
  }
}
