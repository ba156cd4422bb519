/**
 * What a component prints goes to its own stdout and stderr, and in batches to ned's log. While the broker
 * is away output is kept up to a limit; what does not fit is counted and said.
 */
import type { l4lab as m } from '../../../proto/gen/messages.js';

/** Output that waits for the broker, in bytes. */
const MAX_KEPT = 1024 * 1024;
/** One call of Broker.Log takes at most that much. */
const MAX_BATCH = 256 * 1024;

type Chunk = Required<Pick<m.ILogChunk, 'stderr' | 'data'>> & { readonly data: Uint8Array };

export class LogTee {
  readonly #send: (chunks: m.ILogChunk[]) => Promise<void>;
  #kept: Chunk[] = [];
  #bytes = 0;
  #lost = 0;
  #sending: Promise<void> | undefined;

  /** `send` is called with one batch at a time; a batch whose call fails is lost. */
  constructor(send: (chunks: m.ILogChunk[]) => Promise<void>) {
    this.#send = send;
  }

  /** From now on what is written to the process's streams comes here as well. */
  attach(): void {
    for (const stream of [process.stdout, process.stderr] as const) {
      const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
      stream.write = ((data: string | Uint8Array, ...rest: unknown[]) => {
        this.take(stream === process.stderr, data);
        return write(data, ...rest);
      }) as typeof stream.write;
    }
  }

  take(stderr: boolean, text: string | Uint8Array): void {
    const data = typeof text === 'string' ? Buffer.from(text) : Uint8Array.from(text);
    if (data.length === 0) return;
    if (this.#bytes + data.length > MAX_KEPT) {
      this.#lost += data.length;
      return;
    }
    this.#kept.push({ stderr, data });
    this.#bytes += data.length;
    this.#sending ??= this.#drain();
  }

  /** Resolves when everything has been sent. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  async #drain(): Promise<void> {
    // What comes in one turn of the event loop goes in one call.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#kept.length > 0) {
      await this.#send(this.#batch()).catch(() => {});
      if (this.#lost > 0 && this.#bytes === 0) this.#confess();
    }
    this.#sending = undefined;
  }

  #confess(): void {
    const text = `l4lab: ${this.#lost} bytes of output are missing here: the log was not read\n`;
    this.#lost = 0;
    this.#kept.push({ stderr: true, data: Buffer.from(text) });
    this.#bytes += text.length;
  }

  #batch(): Chunk[] {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#kept) {
      if (count > 0 && bytes + data.length > MAX_BATCH) break;
      bytes += data.length;
      count += 1;
    }
    this.#bytes -= bytes;
    return this.#kept.splice(0, count);
  }
}
