/**
 * Watches one file descriptor from the event loop while a wire sleeps.
 *
 * The only place here that knows `koffi.node.poll`: the handle must stay referenced or no event ever comes, and
 * its watch is level-triggered, so it is stopped whenever the machine's pump is awake and polls anyway.
 */

import koffi from 'koffi';

const READABLE = { readable: true };

export class FdWatch {
  readonly #fd: number;
  readonly #onReadable: () => void;
  #handle: ReturnType<typeof koffi.node.poll> | undefined;
  #watching = false;

  constructor(fd: number, onReadable: () => void) {
    this.#fd = fd;
    this.#onReadable = onReadable;
  }

  /** From now on `onReadable` is called once when there is something to read; then `start` again. */
  start(): void {
    if (this.#watching) return;
    this.#watching = true;
    if (this.#handle === undefined) this.#handle = koffi.node.poll(this.#fd, READABLE, this.#fired);
    else this.#handle.start(READABLE, this.#fired);
  }

  stop(): void {
    if (!this.#watching) return;
    this.#watching = false;
    this.#handle?.stop();
  }

  close(): void {
    this.stop();
    this.#handle?.close();
    this.#handle = undefined;
  }

  readonly #fired = (): void => {
    if (!this.#watching) return;
    this.stop();
    this.#onReadable();
  };
}
