/**
 * A lock that ends with its process: flock(2) on a file. Unlike a pid it means the same in every container
 * that shares the file system.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { tryFlock } from './libc.ts';

export class FileLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes the lock, making the file if it is missing; undefined when another process holds it. */
  static tryTake(path: string, { shared = false } = {}): FileLock | undefined {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if (tryFlock(fd, shared)) return new FileLock(fd);
    closeSync(fd);
    return undefined;
  }

  /** True when some process holds the lock. A missing file is held by nobody. */
  static isHeld(path: string): boolean {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    } catch {
      return false;
    }
    try {
      return !tryFlock(fd, false);
    } finally {
      closeSync(fd);
    }
  }

  release(): void {
    closeSync(this.#fd);
  }
}
