/**
 * Notices the end of a process that is nobody's child: a FIFO `<run dir>/b/<name>` that the process holds
 * open. When it ends, however that comes, the kernel closes the FIFO and the watcher reads end-of-file.
 * Works between containers that share the run directory; needs no heartbeats.
 */
import { closeSync, constants, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeFifo, openFifo, removeFifo } from './fifo.ts';
import * as libc from './libc.ts';
import { isRandomName } from './run_dir.ts';

function pathOf(runDir: string, name: string): string {
  if (!isRandomName(name)) throw new Error('Cannot use lifeline as its name must be 32 hex digits');
  return join(runDir, 'b', name);
}

/** Held by the process that is watched, until its very end. */
export class Lifeline {
  readonly #path: string;
  readonly #fd: number;

  /** Makes the FIFO `<run dir>/b/<name><suffix>`. */
  constructor(runDir: string, name: string, suffix = '') {
    this.#path = pathOf(runDir, name) + suffix;
    this.#fd = makeFifo(this.#path, 'a lifeline');
  }

  /** As the end of the process does it; the FIFO goes as well. */
  close(): void {
    removeFifo(this.#path, this.#fd);
  }
}

/** Watches a FIFO that another process holds open; any number of processes may. */
export class EndWatch {
  readonly #fd: number;
  readonly #watch: { close(): void; unref(): void };
  readonly #onEnd: () => void;
  #ended = false;

  /** Calls `onEnd` once, from the event loop or from `check`. Throws when there is no such FIFO. */
  constructor(path: string, onEnd: () => void) {
    this.#fd = openFifo(path, constants.O_RDONLY);
    this.#onEnd = onEnd;
    this.#watch = libc.watchReadable(this.#fd, () => void this.check());
  }

  /** True as long as the other process lives, stopped or not. About 1 us. */
  check(): boolean {
    if (this.#ended) return false;
    // 0 is end-of-file; nothing to read but a writer is -1 (EAGAIN). Behind bytes the end is seen the next time.
    if (libc.drainPipe(this.#fd) !== 0) return true;
    this.leave();
    this.#onEnd();
    return false;
  }

  /** Lets this process end although it watches. */
  unref(): void {
    this.#watch.unref();
  }

  /** Stops watching. */
  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#watch.close();
    closeSync(this.#fd);
  }
}

/** The watcher's end of a lifeline: there is one, and it removes the FIFO in the end. */
export class LifelineWatch {
  readonly #path: string;
  readonly #watch: EndWatch;

  /** Calls `onEnd` once, from the event loop or from `check`. Throws when there is no such FIFO. */
  constructor(runDir: string, name: string, onEnd: () => void) {
    this.#path = pathOf(runDir, name);
    this.#watch = new EndWatch(this.#path, () => {
      rmSync(this.#path, { force: true });
      onEnd();
    });
  }

  /** True as long as the other process lives. */
  check(): boolean {
    return this.#watch.check();
  }

  /** Stops watching and removes the FIFO. */
  close(): void {
    this.leave();
    rmSync(this.#path, { force: true });
  }

  /** Stops watching; another watcher may come. */
  leave(): void {
    this.#watch.leave();
  }
}
