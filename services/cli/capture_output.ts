/** Where captured frames go: a pcapng stream, or lines for people. */
import type { Writable } from 'node:stream';
import { type DropReason, dropComment, dropText } from '#common/capture/drop_reasons';
import { INBOUND } from '#common/capture/pcapng';
import type { RingRecord } from '#common/capture/ring_reader';
import { PcapngWriter } from '#common/capture/writer';
import type { Memory } from '#common/memory';
import { summarize } from '#common/wire/summary';

/** Bytes of memory that a pcapng output needs. */
export const OUTPUT_BYTES = 256 * 1024;

export interface CaptureOutput {
  /** One frame of the interface with that number. The bytes are free when it returns. */
  frame(record: RingRecord): void;
  /** No more frames of that interface: `seen` in all, `lost` of them missing here. */
  ended(interfaceId: number, seen: number, lost: number): void;
  /** Bytes that wait for `flush`. */
  readonly pending: number;
  /** Resolves when the reader has taken everything; rejects when it is gone. */
  flush(): Promise<void>;
}

/** Hands chunks to a stream, and waits for it. */
class Outlet {
  readonly #stream: Writable;
  #chunks: (Buffer | string)[] = [];
  pending = 0;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  add(chunk: Buffer | string): void {
    this.#chunks.push(chunk);
    this.pending += chunk.length;
  }

  async flush(): Promise<void> {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.pending = 0;
    for (const chunk of chunks) await this.#write(chunk);
  }

  #write(chunk: Buffer | string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(chunk, (err) => (err ? reject(err) : resolve()));
    });
  }
}

export class PcapngOutput implements CaptureOutput {
  readonly #outlet: Outlet;
  readonly #writer: PcapngWriter;

  /** `at` is the offset of OUTPUT_BYTES bytes in the memory that holds the ring too. */
  constructor(
    stream: Writable,
    memory: Memory,
    at: number,
    names: readonly string[],
    options: { readonly description: string; readonly snapLength: number },
  ) {
    this.#outlet = new Outlet(stream);
    this.#writer = new PcapngWriter(memory, at, OUTPUT_BYTES, (from, length) =>
      this.#outlet.add(Buffer.from(memory.u8.subarray(from, from + length))),
    );
    this.#writer.section('l4lab capture');
    for (const name of names) this.#writer.interface(name, options.description, options.snapLength);
  }

  get pending(): number {
    return this.#outlet.pending;
  }

  frame(record: RingRecord): void {
    const { interfaceId, seconds, nanoseconds, direction, at, captured, original, reason } = record;
    const comment = reason < 0 ? undefined : dropComment(reason as DropReason);
    this.#writer.packetAt(interfaceId, seconds, nanoseconds, direction, at, captured, original, comment);
  }

  ended(interfaceId: number, seen: number, lost: number): void {
    this.#writer.statistics(interfaceId, Date.now(), seen, lost);
  }

  async flush(): Promise<void> {
    this.#writer.flush();
    await this.#outlet.flush();
  }
}

export class LineOutput implements CaptureOutput {
  readonly #outlet: Outlet;
  readonly #memory: Memory;
  readonly #names: readonly string[];

  constructor(stream: Writable, memory: Memory, names: readonly string[]) {
    this.#outlet = new Outlet(stream);
    this.#memory = memory;
    this.#names = names;
  }

  get pending(): number {
    return this.#outlet.pending;
  }

  frame({ interfaceId, seconds, nanoseconds, direction, at, captured, original, reason }: RingRecord): void {
    const bytes = this.#memory.u8.subarray(at, at + captured);
    const dropped = reason < 0 ? '' : ` [dropped: ${dropText(reason as DropReason)}]`;
    const way = direction === INBOUND ? 'in ' : 'out';
    const time = timeText(seconds, nanoseconds);
    this.#outlet.add(`${time} ${this.#names[interfaceId]} ${way} ${summarize(bytes, original)}${dropped}\n`);
  }

  ended(): void {
    // What was lost is said at the end on stderr.
  }

  async flush(): Promise<void> {
    await this.#outlet.flush();
  }
}

/** `12:03:59.000123`, local time. */
function timeText(seconds: number, nanoseconds: number): string {
  const date = new Date(seconds * 1000);
  const part = (value: number) => String(value).padStart(2, '0');
  const micro = String(Math.floor(nanoseconds / 1000)).padStart(6, '0');
  return `${part(date.getHours())}:${part(date.getMinutes())}:${part(date.getSeconds())}.${micro}`;
}
