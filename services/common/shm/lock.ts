/**
 * A lock that ends with its process: flock(2) on a file. Unlike a pid it means the same in every container
 * that shares the file system.
 */
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { tryFlock } from './libc.ts';

export class FileLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Takes the lock, making the file if it is missing; undefined when another process holds it. The file is the one
   * that is there now: the lock of a file that was removed meanwhile is nobody's.
   */
  static tryTake(path: string, { shared = false } = {}): FileLock | undefined {
    for (;;) {
      const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      const taken = tryFlock(fd, shared);
      if (taken && isFileOf(path, fd)) return new FileLock(fd);
      closeSync(fd);
      if (!taken) return undefined;
    }
  }

  /**
   * True when some process holds the lock; with `alone`, holds it alone: who asks for that is not seen by others
   * who ask. A missing file is held by nobody.
   */
  static isHeld(path: string, { alone = false } = {}): boolean {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    } catch {
      return false;
    }
    try {
      return !tryFlock(fd, alone);
    } finally {
      closeSync(fd);
    }
  }

  release(): void {
    closeSync(this.#fd);
  }
}

function isFileOf(path: string, fd: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino;
}
