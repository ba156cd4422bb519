/**
 * The log of a running lab: JSON lines in `<run dir>/log`, for `l4lab logs`. The run directory is
 * memory, so the file is bounded: at 4 MiB it becomes `log.1` and a new one begins. A full /dev/shm
 * costs log lines here, never the lab.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { LogRecord } from '#common/obs/log_record';
import { isSystemError } from './problem.ts';

const MAX_BYTES = 4 * 2 ** 20;
const LINE_FEED = 10;

export class LogWriter {
  readonly #path: string;
  #fd: number;
  #bytes = 0;
  /** The last line was cut, as there was no space. */
  #torn = false;

  constructor(runDir: string) {
    this.#path = join(runDir, 'log');
    this.#fd = openSync(this.#path, 'a', 0o600);
  }

  write(record: LogRecord): void {
    const line = Buffer.from(`${this.#torn ? '\n' : ''}${JSON.stringify(record)}\n`);
    try {
      if (this.#bytes > MAX_BYTES) this.#rotate();
      const written = writeSync(this.#fd, line);
      this.#bytes += written;
      this.#torn = written < line.length;
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

/** One of the two files, open: it can be read to its end though it has turned over, or the lab has gone. */
interface OpenFile {
  readonly fd: number;
  readonly inode: number;
}

/** Reads a lab's log from the beginning, then whatever is added: call `next` again for that. */
export class LogReader {
  readonly #path: string;
  /** What is being written, as far as we know; undefined before the first look, and when the lab has gone. */
  #file: OpenFile | undefined;
  #rest = Buffer.alloc(0);

  constructor(runDir: string) {
    this.#path = join(runDir, 'log');
  }

  /** Records since the last call; undefined when the lab has gone and there are no more. */
  next(): LogRecord[] | undefined {
    const records: LogRecord[] = [];
    const before = this.#file;
    // First where the log is, then what the file has: nobody writes to one that is not in its place any more.
    const there = statSync(this.#path, { throwIfNoEntry: false })?.ino;
    if (before) this.#read(before, records);
    if (before?.inode !== there) this.#turnOver(records);
    return this.#file || records.length > 0 ? records : undefined;
  }

  /** Goes on with the file that is there now, and with one that came between, or before. */
  #turnOver(records: LogRecord[]): void {
    const before = this.#file;
    this.#file = open(this.#path);
    const older = open(`${this.#path}.1`);
    if (older && older.inode !== before?.inode && older.inode !== this.#file?.inode)
      this.#read(older, records);
    for (const file of [before, older]) if (file) closeSync(file.fd);
    if (this.#file) this.#read(this.#file, records);
  }

  #read({ fd }: OpenFile, records: LogRecord[]): void {
    const piece = Buffer.alloc(256 * 1024);
    for (let bytes = readSync(fd, piece); bytes > 0; bytes = readSync(fd, piece)) {
      const text = Buffer.concat([this.#rest, piece.subarray(0, bytes)]);
      const end = text.lastIndexOf(LINE_FEED) + 1;
      this.#rest = text.subarray(end);
      for (const line of text.toString('utf8', 0, end).split('\n')) {
        const record = parse(line);
        if (record) records.push(record);
      }
    }
  }
}

/** Undefined: it is not there (any more). */
function open(path: string): OpenFile | undefined {
  try {
    const fd = openSync(path, 'r');
    return { fd, inode: fstatSync(fd).ino };
  } catch (err) {
    if (isSystemError(err) && err.code === 'ENOENT') return undefined;
    throw err;
  }
}

/** Undefined: an empty line, or one that was cut as there was no space. */
function parse(line: string): LogRecord | undefined {
  try {
    return JSON.parse(line) as LogRecord;
  } catch {
    return undefined;
  }
}
