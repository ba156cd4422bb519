/**
 * The log of a running lab: JSON lines in `<run dir>/log`, for `l4lab logs`. The run directory is
 * memory, so the file is bounded: at 4 MiB it becomes `log.1` and a new one begins. A full /dev/shm
 * costs log lines here, never the lab.
 */
import { closeSync, openSync, readSync, renameSync, statSync, writeSync } from 'node:fs';
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
    let text = this.#rest;
    if (stat.ino !== this.#inode) {
      // It turned over (or we begin): the rest of the file before comes first.
      text += readFrom(`${this.#path}.1`, this.#offset);
      this.#inode = stat.ino;
      this.#offset = 0;
    }
    const added = stat.size > this.#offset ? readFrom(this.#path, this.#offset) : '';
    this.#offset += Buffer.byteLength(added);
    const lines = (text + added).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LogRecord);
  }
}

/** What a file has from `offset` bytes on; nothing when it is missing. The writer adds whole lines only. */
function readFrom(path: string, offset: number): string {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= offset) return '';
  const bytes = Buffer.alloc(size - offset);
  const fd = openSync(path, 'r');
  try {
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, offset));
  } finally {
    closeSync(fd);
  }
}
