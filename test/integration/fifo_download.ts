/** For tests that do something to a lab in the middle of a download, as fast as that is. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, constants, openSync, readSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Run } from './harness.ts';

/** What may come while the test is busy with something else: frames are on their way, and the end is far. */
const AHEAD = 2 ** 20;

/**
 * What a curl of a test's lab writes. It is a FIFO: curl gets no further than the test lets it, however slow the test is and
 * however fast the lab. When curl has ended there is nothing of that name any more.
 */
export class FifoDownload {
  /** Bytes that have come. */
  bytes = 0;
  readonly #path: string;
  readonly #run: Run;
  readonly #fd: number;
  readonly #hash = createHash('sha256');
  readonly #chunk = new Uint8Array(64 * 1024);
  readonly #reading: Promise<void>;
  /** No more is read before the test asks for it. */
  #limit = AHEAD;

  /** To be made before curl opens it. */
  constructor(path: string, run: Run) {
    this.#path = path;
    this.#run = run;
    execFileSync('mkfifo', [path]);
    // With a writer of our own there is no end of file while curl has not begun.
    this.#fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    this.#reading = this.#readAll();
  }

  /** Resolves when so many bytes more are there; rejects when curl ends before. */
  async more(bytes: number): Promise<void> {
    const wanted = this.bytes + bytes;
    this.#limit = wanted + AHEAD;
    while (this.bytes < wanted) {
      if (this.#hasEnded)
        throw new Error(`curl ended after ${this.bytes} bytes:\n${this.#run.text}\n${this.#run.stderr}`);
      await sleep(1);
    }
  }

  /** Lets the rest come. Resolves with curl's exit status, or the signal that ended it. */
  async rest(): Promise<number | NodeJS.Signals | null> {
    this.#limit = Number.POSITIVE_INFINITY;
    await this.#reading;
    return await this.#run.exit;
  }

  /** Of all that has come; to be asked for once, after `rest`. */
  sha256(): string {
    return this.#hash.digest('hex');
  }

  get #hasEnded(): boolean {
    const { exitCode, signalCode } = this.#run.child;
    return exitCode !== null || signalCode !== null;
  }

  async #readAll(): Promise<void> {
    while (!this.#hasEnded) {
      this.#readOn();
      await sleep(1);
    }
    this.#readOn();
    closeSync(this.#fd);
    rmSync(this.#path, { force: true });
  }

  /** Takes what is there, within the limit. */
  #readOn(): void {
    while (this.bytes < this.#limit) {
      const bytes = this.#readChunk();
      if (bytes === 0) return;
      this.#hash.update(this.#chunk.subarray(0, bytes));
      this.bytes += bytes;
    }
  }

  #readChunk(): number {
    try {
      return readSync(this.#fd, this.#chunk);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
      throw err;
    }
  }
}
