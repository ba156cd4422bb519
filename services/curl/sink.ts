/** Where a body goes: the task's stdout or a file of the Linux machine, opened with the first byte. */

import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Output } from '#common/task/env';
import { drained } from '#common/task/output';
import { CurlError, EXIT } from './exit_codes.ts';

export interface Sink {
  readonly name: string;
  /** Resolves when more may come: awaiting it is back-pressure. Throws CurlError 23. */
  write(bytes: Uint8Array): Promise<void>;
  /** The body is complete; an empty one leaves an empty file. Throws CurlError 23. */
  close(): Promise<void>;
  /** There is no more: what came lies there. */
  abandon(): Promise<void>;
}

/** The task's standard output. */
export function stdoutSink(output: Output): Sink {
  const nothing = () => Promise.resolve();
  return { name: '-', write: (bytes) => output.write(bytes), close: nothing, abandon: nothing };
}

/** A file, relative to the directory that the lab was started in. */
export class FileSink implements Sink {
  readonly name: string;
  #stream: WriteStream | undefined;
  #failure: Error | undefined;

  constructor(path: string) {
    this.name = path;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const stream = this.#open();
    this.#check();
    if (!stream.write(bytes)) await drained(stream);
    this.#check();
  }

  async close(): Promise<void> {
    await this.#end(this.#open());
    this.#check();
  }

  async abandon(): Promise<void> {
    if (this.#stream) await this.#end(this.#stream);
  }

  async #end(stream: WriteStream): Promise<void> {
    if (stream.closed) return;
    const closed = once(stream, 'close').catch(() => {});
    stream.end();
    await closed;
  }

  #open(): WriteStream {
    if (!this.#stream) {
      this.#stream = createWriteStream(this.name);
      this.#stream.on('error', (err) => {
        this.#failure = err;
      });
    }
    return this.#stream;
  }

  #check(): void {
    if (!this.#failure) return;
    throw new CurlError(
      EXIT.WRITE_ERROR,
      `client returned ERROR on writing to ${this.name} (${this.#failure.message})`,
      this.#failure,
    );
  }
}
