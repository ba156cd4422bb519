/** The log of a lab in a container: `l4lab run --json` prints a record a line; others wait for what it says. */
import type { Readable } from 'node:stream';
import type { LogRecord } from '#common/obs/log_record';

/** How a task ended. */
export interface TaskEnd {
  /** Exit status, 137 if it was killed. */
  readonly status: number;
}

/** Somebody has waited in vain. */
export class WaitError extends Error {
  override readonly name = 'WaitError';
  /** The sentence without the lab's output. */
  readonly why: string;

  constructor(why: string, output: string) {
    super(`${why}; the lab's output:\n${output}`);
    this.why = why;
  }
}

/** Something that somebody waits for. */
interface Waiting {
  look(record: LogRecord): boolean;
  fail(error: Error): void;
}

export class Records {
  /** Whole lines, as far as they are known. */
  readonly all: LogRecord[] = [];
  /** Where in `all` the last line of each stream is. */
  readonly #last = new Map<string, number>();
  /** What was printed and is no record: errors of the launcher. */
  readonly plain: string[] = [];
  /** Resolves when nothing more comes. */
  readonly ended: Promise<void>;
  readonly #waiting = new Set<Waiting>();
  #tellEnd: () => void = () => {};
  #rest = '';
  #ended: Error | undefined;

  constructor() {
    this.ended = new Promise((resolve) => {
      this.#tellEnd = resolve;
    });
  }

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
    this.#tellEnd();
  }

  /** The text of a task's lines so far, or of all tasks. */
  text(task?: string): string {
    const lines = this.all.filter((record) => !record.event && (task ?? record.task) === record.task);
    return lines.map(({ text }) => `${text}\n`).join('');
  }

  /**
   * The first record, past or to come, for which `pick` gives something. Throws WaitError when the lab ends or `timeoutMs`
   * pass without; `what` is for its message.
   */
  async first<T>(pick: (record: LogRecord) => T | undefined, what: string, timeoutMs: number): Promise<T> {
    for (const record of this.all) {
      const found = pick(record);
      if (found !== undefined) return found;
    }
    return new Promise<T>((resolve, reject) => {
      const fail = ({ message }: Error) => {
        clearTimeout(timer);
        reject(new WaitError(`Cannot wait for ${what} any longer as ${message}`, this.dump()));
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
    const whole = record.event ? record : this.#join(record);
    if (whole === record) this.all.push(record);
    for (const waiting of this.#waiting) if (waiting.look(whole)) this.#waiting.delete(waiting);
  }

  /** The lab shows the beginning of a line whose end is late, then its end as a record of its own. */
  #join(record: LogRecord): LogRecord {
    const stream = `${record.stream} ${record.task}`;
    const at = record.continued ? this.#last.get(stream) : undefined;
    this.#last.set(stream, at ?? this.all.length);
    if (at === undefined) return record;
    const { text } = this.all[at] as LogRecord;
    const whole = { ...record, text: text + record.text, continued: false };
    this.all[at] = whole;
    return whole;
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
