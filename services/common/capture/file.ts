/** A capture on disk: the sink behind a `PcapngWriter`. A disk that fails ends the capture, never the process. */

import { closeSync, openSync, writeSync } from 'node:fs';
import type { Memory } from '../memory.ts';
import { PcapngWriter } from './writer.ts';

/** Small enough to be written in one go, large enough to be written rarely. */
const BUFFER = 256 * 1024;
/** What `CaptureFile` needs of the memory. */
export const CAPTURE_BYTES = BUFFER;

export class CaptureFile {
  readonly writer: PcapngWriter;
  readonly #path: string;
  readonly #memory: Memory;
  readonly #onError: (text: string) => void;
  #fd: number;

  /**
   * Creates (or empties) the file and writes the section header. `CAPTURE_BYTES` from `offset` in the memory become the
   * buffer. Throws when the file cannot be made; a later failure goes to `onError` once, then nothing is written.
   */
  constructor(path: string, memory: Memory, offset: number, onError: (text: string) => void) {
    this.#path = path;
    this.#memory = memory;
    this.#onError = onError;
    try {
      this.#fd = openSync(path, 'w', 0o600);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`Cannot record to ${path} as its directory must exist and be writable: ${reason}`, {
        cause,
      });
    }
    this.writer = new PcapngWriter(memory, offset, BUFFER, (at, length) => this.#write(at, length));
    this.writer.section('l4lab');
  }

  /** Writes what is buffered and closes the file. */
  close(): void {
    this.writer.flush();
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #write(at: number, length: number): void {
    if (this.#fd < 0) return;
    try {
      for (let done = 0; done < length; )
        done += writeSync(this.#fd, this.#memory.u8, at + done, length - done);
    } catch (err) {
      closeSync(this.#fd);
      this.#fd = -1;
      this.#onError(`Stopped recording to ${this.#path}: ${err instanceof Error ? err.message : err}`);
    }
  }
}
