/**
 * The log of a running lab: JSON lines in `<run dir>/log`, for `l4lab logs`. The run directory is
 * memory, so the file is bounded: at 4 MiB it becomes `log.1` and a new one begins. A full /dev/shm
 * costs log lines here, never the lab.
 */
import { closeSync, existsSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { LogRecord } from '#common/obs/log_record';

const MAX_BYTES = 4 * 2 ** 20;

export class LogWriter {
  readonly #path: string;
  #fd: number;
  #bytes = 0;

  constructor(runDir: string) {
    this.#path = join(runDir, 'log');
    this.#fd = openSync(this.#path, 'a', 0o600);
  }

  write(record: LogRecord): void {
    const line = `${JSON.stringify(record)}\n`;
    try {
      if (this.#bytes > MAX_BYTES) this.#rotate();
      this.#bytes += writeSync(this.#fd, line);
    } catch {
      // No space: the line was printed all the same.
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.#path, `${this.#path}.1`);
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#bytes = 0;
  }
}

/** Reads a lab's log from the beginning, then whatever is added: call `next` again for that. */
export class LogReader {
  readonly #path: string;
  #inode = 0;
  #offset = 0;
  #rest = '';

  constructor(runDir: string) {
    this.#path = join(runDir, 'log');
  }

  /** Records since the last call; undefined when the lab has gone. */
  next(): LogRecord[] | undefined {
    const stat = statSync(this.#path, { throwIfNoEntry: false });
    if (!stat) return undefined;
    let text = '';
    if (stat.ino !== this.#inode) {
      const rotated = existsSync(`${this.#path}.1`) ? readFileSync(`${this.#path}.1`) : Buffer.alloc(0);
      text += rotated.subarray(this.#inode === 0 ? 0 : this.#offset).toString('utf8');
      this.#inode = stat.ino;
      this.#offset = 0;
    }
    const bytes = readFileSync(this.#path);
    text += bytes.subarray(this.#offset).toString('utf8');
    this.#offset = bytes.length;
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LogRecord);
  }
}
