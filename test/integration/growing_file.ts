/** For tests that do something to a lab in the middle of a download. */
import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Run } from './harness.ts';

/** A file that a curl of a test's lab is writing. */
export class Growing {
  readonly path: string;
  readonly #run: Run;

  constructor(path: string, run: Run) {
    this.path = path;
    this.#run = run;
  }

  get bytes(): number {
    return statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Resolves when so many bytes more are there; rejects when curl ends before. */
  async more(bytes: number): Promise<void> {
    const wanted = this.bytes + bytes;
    while (this.bytes < wanted) {
      const { exitCode, signalCode } = this.#run.child;
      const how = signalCode ?? exitCode;
      if (how !== null && this.bytes < wanted)
        throw new Error(`curl ended with ${how} after ${this.bytes} bytes:\n${this.#run.stderr}`);
      await sleep(10);
    }
  }

  async sha256(): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(this.path)) hash.update(chunk as Buffer);
    return hash.digest('hex');
  }
}
