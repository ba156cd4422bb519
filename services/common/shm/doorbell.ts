/**
 * Doorbells: FIFOs `<run dir>/b/<random name>`. The waiter makes one and listens in its event loop,
 * peers write a byte. A FIFO that is full has been rung already, so nothing blocks or is lost.
 * Both ends open it read-write: neither end's death gives the other SIGPIPE or end-of-file.
 */
import { closeSync, constants } from 'node:fs';
import { join } from 'node:path';
import { L4Error } from '#common/ipc/errors';
import { makeFifo, openFifo, removeFifo } from './fifo.ts';
import * as libc from './libc.ts';
import { EndWatch, Lifeline } from './lifeline.ts';
import { isRandomName, randomName } from './run_dir.ts';

const ONE = Uint8Array.of(1);

/** The waiting end. */
export class Doorbell {
  readonly name: string;
  readonly #path: string;
  readonly #fd: number;
  readonly #onClose: (() => void) | undefined;
  #watch: { close(): void } | undefined;
  #closed = false;

  constructor(dir: string, name: string, onClose?: () => void) {
    this.name = name;
    this.#onClose = onClose;
    this.#path = join(dir, name);
    this.#fd = makeFifo(this.#path, 'a doorbell');
  }

  /**
   * Calls `onRing` from the event loop after one or more rings; they are drained by then, as many as a pipe holds: who rings
   * for ever has us come back for more, after everybody else had a turn. Once per doorbell.
   */
  listen(onRing: () => void): void {
    this.#watch = libc.watchReadable(this.#fd, () => {
      if (this.#closed) return;
      libc.drainPipe(this.#fd);
      onRing();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    removeFifo(this.#path, this.#fd);
    this.#onClose?.();
  }
}

/** The ringing end. */
export class Bell {
  readonly name: string;
  #fd: number;

  constructor(dir: string, name: string) {
    if (!isRandomName(name)) {
      throw new L4Error(
        'EINVAL',
        `Cannot open doorbell as its name must be 32 hex digits: current value is "${name}"`,
      );
    }
    this.name = name;
    try {
      this.#fd = openFifo(join(dir, name), constants.O_RDWR);
    } catch (cause) {
      if (cause instanceof L4Error) throw cause;
      throw new L4Error('EINVAL', `Cannot open doorbell ${name} as there is none of that name in this lab`, {
        cause,
      });
    }
  }

  /** Wakes the waiter. About 1 us; never blocks. */
  ring(): void {
    if (this.#fd >= 0) libc.tryWrite(this.#fd, ONE, 1);
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}

const LIFELINE = '.life';

/** All doorbells of one process. */
export class Doorbells {
  readonly #runDir: string;
  readonly #dir: string;
  readonly #open = new Set<Doorbell>();

  constructor(runDir: string) {
    this.#runDir = runDir;
    this.#dir = join(runDir, 'b');
  }

  /** Makes a doorbell; `name` is given only by an interrupt object, whose state record shares it. */
  create(name: string = randomName()): Doorbell {
    const bell: Doorbell = new Doorbell(this.#dir, name, () => this.#open.delete(bell));
    this.#open.add(bell);
    return bell;
  }

  open(name: string): Bell {
    return new Bell(this.#dir, name);
  }

  /** Shows the life of this process under the name of a doorbell; for `watch`. */
  lifeline(name: string): Lifeline {
    return new Lifeline(this.#runDir, name, LIFELINE);
  }

  /** Calls `onEnd` when the process that holds the lifeline of that doorbell has ended. */
  watch(name: string, onEnd: () => void): EndWatch {
    if (!isRandomName(name)) {
      throw new L4Error('EINVAL', `Cannot watch "${name}" as the name of a doorbell must be 32 hex digits`);
    }
    try {
      return new EndWatch(join(this.#dir, `${name}${LIFELINE}`), onEnd);
    } catch (cause) {
      throw new L4Error('EINVAL', `Cannot watch doorbell ${name} as its owner shows no lifeline`, { cause });
    }
  }

  /** Closes the waiting ends that are left; at the end of the process. */
  close(): void {
    for (const bell of [...this.#open]) bell.close();
  }
}
