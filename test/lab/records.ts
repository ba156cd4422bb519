/** The log of a lab in a container: `l4lab run --json` prints a record a line; others wait for what it says. */
import type { Readable } from 'node:stream';
import type { LogRecord } from '#common/obs/log_record';

/** How a task ended. */
export interface TaskEnd {
  /** Exit status, 137 if it was killed. */
  readonly status: number;
}

/** Something that somebody waits for. */
interface Waiting {
  look(record: LogRecord): boolean;
  fail(error: Error): void;
}

export class Records {
  readonly all: LogRecord[] = [];
  /** What was printed and is no record: errors of the launcher. */
  readonly plain: string[] = [];
  readonly #waiting = new Set<Waiting>();
  #rest = '';
  #ended: Error | undefined;

  /** Reads a container's output until it ends. */
  follow(stream: Readable): void {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.push(text));
    stream.on('close', () => this.end('its container ended'));
    stream.on('error', (err: Error) => this.end(err.message));
  }

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') this.#take(line);
  }

  /** Nothing more comes: who still waits is told. */
  end(reason: string): void {
    if (this.#ended) return;
    if (this.#rest !== '') this.#take(this.#rest);
    this.#rest = '';
    this.#ended = new Error(reason);
    for (const waiting of this.#waiting) waiting.fail(this.#ended);
    this.#waiting.clear();
  }

  /** The text of a task's lines so far, or of all tasks. */
  text(task?: string): string {
    const lines = this.all.filter((record) => !record.event && (task ?? record.task) === record.task);
    return lines.map(({ text }) => `${text}\n`).join('');
  }

  /** The first record, past or to come, for which `pick` gives something. `what` is for the error. */
  async first<T>(pick: (record: LogRecord) => T | undefined, what: string, timeoutMs: number): Promise<T> {
    for (const record of this.all) {
      const found = pick(record);
      if (found !== undefined) return found;
    }
    return new Promise<T>((resolve, reject) => {
      const fail = ({ message }: Error) => {
        clearTimeout(timer);
        reject(
          new Error(`Cannot wait for ${what} any longer as ${message}; the lab's output:\n${this.dump()}`),
        );
      };
      const waiting: Waiting = {
        look: (record) => {
          const found = pick(record);
          if (found === undefined) return false;
          clearTimeout(timer);
          resolve(found);
          return true;
        },
        fail,
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting);
        fail(new Error(`${timeoutMs} ms have passed`));
      }, timeoutMs);
      if (this.#ended) fail(this.#ended);
      else this.#waiting.add(waiting);
    });
  }

  /** Everything for the message of an error: the last lines. */
  dump(): string {
    const lines = this.all.filter(({ event }) => !event).map(({ task, text }) => `${task}: ${text}`);
    return [...lines.slice(-40), ...this.plain.slice(-10)].join('\n');
  }

  #take(line: string): void {
    const record = parse(line);
    if (record === undefined) {
      this.plain.push(line);
      return;
    }
    this.all.push(record);
    for (const waiting of this.#waiting) if (waiting.look(record)) this.#waiting.delete(waiting);
  }
}

function parse(line: string): LogRecord | undefined {
  try {
    const record = JSON.parse(line) as LogRecord;
    return typeof record?.text === 'string' ? record : undefined;
  } catch {
    return undefined;
  }
}
