/**
 * The lab's log: everything that ned and its tasks print becomes records, one JSON line each, on ned's own
 * standard output; the launcher formats them (l4re-facts.md 1.7).
 */
import { StringDecoder } from 'node:string_decoder';
import type { Capability } from '#common/ipc/capability';
import type { LogRecord } from '#common/obs/log_record';
import type { Output } from '#common/task/env';
import { keyOf } from './references.ts';

/** How the lines of a log look. */
export interface LogStyle {
  readonly tag: string;
  /** 0..7, 8 more for bright. */
  readonly color: number;
}

/** After this time without more bytes the beginning of a line is shown, so that prompts appear. */
const PARTIAL_MS = 50;
/** A line without end is cut here: it would occupy memory without bound. */
const MAX_LINE_CHARS = 64 * 1024;

/** Takes records and writes them in order. */
export class LogSink {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Resolves when the reader has room for more: awaiting it is back-pressure. */
  write(record: LogRecord): Promise<void> {
    return this.#output.write(`${JSON.stringify(record)}\n`);
  }
}

/** Turns the bytes of one stream of a task into records. */
export class LineSplitter {
  readonly #sink: LogSink;
  readonly #base: Pick<LogRecord, 'task' | 'stream'> & LogStyle;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';
  #continued = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(sink: LogSink, base: Pick<LogRecord, 'task' | 'stream'> & LogStyle) {
    this.#sink = sink;
    this.#base = base;
  }

  /** Takes bytes; resolves when there is room for more. Bytes that are not UTF-8 become U+FFFD. */
  async push(bytes: Uint8Array | string): Promise<void> {
    clearTimeout(this.#timer);
    this.#rest +=
      typeof bytes === 'string'
        ? bytes
        : this.#decoder.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop() ?? '';
    const written: Promise<void>[] = [];
    for (const line of lines) {
      const end = this.#cut(line.endsWith('\r') ? line.slice(0, -1) : line, written);
      written.push(this.#emit(end, false));
    }
    this.#rest = this.#cut(this.#rest, written);
    if (this.#rest !== '') this.#timer = setTimeout(() => void this.flush(), PARTIAL_MS);
    await Promise.all(written);
  }

  /** Shows what is too long for one record; returns the rest. */
  #cut(line: string, written: Promise<void>[]): string {
    let from = 0;
    while (line.length - from >= MAX_LINE_CHARS) {
      let to = from + MAX_LINE_CHARS;
      // Not between the halves of a character above U+FFFF.
      if ((line.charCodeAt(to - 1) & 0xfc00) === 0xd800) to -= 1;
      written.push(this.#emit(line.slice(from, to), true));
      from = to;
    }
    return from === 0 ? line : line.slice(from);
  }

  /** Shows the beginning of a line; what follows is marked as its continuation. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#rest === '') return;
    const text = this.#rest;
    this.#rest = '';
    await this.#emit(text, true);
  }

  /** The stream has ended. */
  async end(): Promise<void> {
    this.#rest += this.#decoder.end();
    await this.flush();
  }

  #emit(text: string, partial: boolean): Promise<void> {
    const continued = this.#continued;
    this.#continued = partial;
    // The end of a line whose text has been shown already needs no line of its own.
    if (continued && !partial && text === '') return Promise.resolve();
    return this.#sink.write({ time: Date.now(), ...this.#base, text, continued });
  }
}

/** Log objects that scripts created, and what is written to them through the capability. */
export class LogTags {
  readonly #sink: LogSink;
  /** By gate and object: other servers have objects of the same numbers. */
  readonly #styles = new Map<string, LogStyle>();

  constructor(sink: LogSink) {
    this.#sink = sink;
  }

  set(cap: Capability, style: LogStyle): void {
    this.#styles.set(keyOf(cap), style);
  }

  delete(cap: Capability): void {
    this.#styles.delete(keyOf(cap));
  }

  /** The style of a log object; undefined for any other capability. */
  get(cap: Capability): LogStyle | undefined {
    return this.#styles.get(keyOf(cap));
  }

  /** Resolves when there is room for more. */
  async write(style: LogStyle, data: Uint8Array): Promise<void> {
    const splitter = new LineSplitter(this.#sink, { task: style.tag, stream: 'stdout', ...style });
    await splitter.push(data);
    await splitter.end();
  }
}

/** ned's own log: banner, what scripts print, errors. */
export class OwnLog {
  readonly style: LogStyle;
  readonly #streams: { readonly stdout: LineSplitter; readonly stderr: LineSplitter };

  constructor(sink: LogSink, task: string, style: LogStyle) {
    this.style = style;
    const open = (stream: 'stdout' | 'stderr') => new LineSplitter(sink, { task, stream, ...style });
    this.#streams = { stdout: open('stdout'), stderr: open('stderr') };
  }

  /** Writes text as it comes; lines end in a line feed. */
  write(stream: 'stdout' | 'stderr', text: string | Uint8Array): Promise<void> {
    return this.#streams[stream].push(text);
  }

  /** One line of ned itself. */
  say(text: string): void {
    void this.write('stdout', `${text}\n`);
  }

  /** One line about something that is left out or has no effect. */
  warn(text: string): void {
    this.complain(`Warning: ${text}`);
  }

  /** One line of ned itself that reports a problem. */
  complain(text: string): void {
    void this.write('stderr', `${text}\n`);
  }
}
