/**
 * `l4lab capture PORT...`: the frames of ports of a running lab, live.
 *
 * Whatever keeps us from reading costs frames here, never the port; how many is said at the end, on stderr and in the
 * file (isb_ifdrop).
 */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { readerIsGone } from '#common/shm/libc';
import { type CaptureOutput, LineOutput, OUTPUT_BYTES, PcapngOutput } from './capture_output.ts';
import { CaptureSession } from './capture_session.ts';
import { endSignal } from './interruption.ts';
import { isSystemError, systemProblem, UsageError } from './problem.ts';
import { selectLab } from './select.ts';
import { type SwitchClient, switchWithPorts, withSwitches } from './switches.ts';

export interface CaptureOptions {
  /** A file, or `-` for stdout. */
  readonly write?: string;
  readonly lab?: string;
  readonly switch?: string;
  readonly count?: string;
  readonly snaplen?: string;
}

/** While frames come they are collected for that long: one wake-up for many, and none asked of the switch. */
const COLLECT_MS = 5;
/** How often it is looked whether anybody still reads our output: without frames nothing else tells. */
const LOOK_MS = 500;
/** Bytes of output that are made before the reader is waited for. */
const PENDING_BYTES = 2 ** 20;
/** A reader that takes nothing for so long after an interruption is not waited for any longer. */
const FAREWELL_MS = 500;
/** Enough for the headers that a line tells of. */
const LINE_SNAP = 128;
const MIN_SNAP = 14;
const EXIT_OUTPUT = 1;

/** Captures until it is interrupted, has its frames, or nothing is left to capture. Returns the exit status. */
export async function capture(ports: readonly string[], options: CaptureOptions): Promise<number> {
  if (options.write === '-' && process.stdout.isTTY) {
    throw new UsageError(
      'Cannot write a capture to the terminal as it is binary: -w FILE, or into a pipe: l4lab capture PORT -w - | wireshark -k -i -',
    );
  }
  const count = numberOf('--count', options.count, 1, Number.POSITIVE_INFINITY);
  const snapLength = numberOf('--snaplen', options.snaplen, MIN_SNAP, options.write ? 0 : LINE_SNAP);
  return withSwitches(selectLab(options.lab), options.switch, async (switches) => {
    const one = await switchWithPorts(switches, ports);
    const session = await CaptureSession.open(one, ports, snapLength);
    try {
      const stream = await openOutput(options.write);
      const output = makeOutput(session, stream, one, options, snapLength);
      return await new Running(session, one, output, stream, count).run();
    } finally {
      session.close();
    }
  });
}

async function openOutput(path: string | undefined): Promise<Writable> {
  if (path === undefined || path === '-') return process.stdout;
  const stream = createWriteStream(path, { mode: 0o600 });
  await once(stream, 'open');
  return stream;
}

function makeOutput(
  { arena, names }: CaptureSession,
  stream: Writable,
  { name, lab }: SwitchClient,
  { write }: CaptureOptions,
  snapLength: number,
): CaptureOutput {
  if (write === undefined) return new LineOutput(stream, arena, names);
  const description = `port of ${name}, lab ${lab.id}`;
  return new PcapngOutput(stream, arena, arena.mapPrivate(OUTPUT_BYTES), names, { description, snapLength });
}

/** A capture under way. */
class Running {
  readonly #session: CaptureSession;
  readonly #switch: SwitchClient;
  readonly #output: CaptureOutput;
  readonly #stream: Writable;
  readonly #count: number;
  readonly #open: Set<number>;
  #frames = 0;
  /** How often the output was taken. */
  #flushes = 0;
  /** Why it is over; undefined: it goes on. */
  #end: string | undefined;
  #failure: Error | undefined;
  #interrupted = false;
  #readerGone = false;

  constructor(
    session: CaptureSession,
    one: SwitchClient,
    output: CaptureOutput,
    stream: Writable,
    count: number,
  ) {
    this.#session = session;
    this.#switch = one;
    this.#output = output;
    this.#stream = stream;
    this.#count = count;
    this.#open = new Set(session.names.keys());
  }

  async run(): Promise<number> {
    const signal = endSignal();
    const interrupted = once(signal, 'abort').then(() => {
      this.#interrupted = true;
      this.#finish('interrupted');
    });
    this.#stream.on('error', (err) => this.#fail(err));
    void this.#switch.whenGone().then(() => this.#finish(`switch '${this.#switch.name}' is gone`));
    const list = this.#session.names.map((name) => `'${name}'`).join(', ');
    console.error(`l4lab: capturing ${list} of switch '${this.#switch.name}'`);
    const looking = setInterval(() => this.#lookForReader(), LOOK_MS);
    const farewell = interrupted.then(() => this.#farewell());
    await Promise.race([this.#read(), farewell]);
    clearInterval(looking);
    return this.#report();
  }

  async #read(): Promise<void> {
    try {
      await this.#flush();
      while (this.#end === undefined) {
        const gone = [...this.#open].filter((id) => this.#session.reader.ended(id));
        const some = this.#drain();
        // What a port had sent before it went has been read by now, unless the output waits.
        if (!some || this.#output.pending < PENDING_BYTES) for (const id of gone) this.#endInterface(id);
        await this.#flush();
        if (this.#end !== undefined) break;
        if (some) await sleep(COLLECT_MS);
        else await this.#session.wait();
      }
      if (this.#readerGone) return;
      await this.#drainRest();
      for (const id of [...this.#open]) this.#statistics(id);
      await this.#flush();
      if (this.#stream !== process.stdout) await closed(this.#stream);
    } catch (err) {
      this.#fail(err as Error);
    }
  }

  /** Takes what is in the ring, or as much as the output should hold. True when there was something. */
  #drain(): boolean {
    const { reader } = this.#session;
    const before = this.#frames;
    while (this.#frames < this.#count && this.#output.pending < PENDING_BYTES && reader.next()) {
      this.#frames += 1;
      this.#output.frame(reader.record);
    }
    reader.release();
    if (this.#frames >= this.#count) this.#finish('that many frames were asked for');
    return this.#frames > before;
  }

  /** Takes what is in the ring now that it is over. */
  async #drainRest(): Promise<void> {
    const { names, reader } = this.#session;
    const counts = names.map((_, id) => reader.counts(id));
    const frames = counts.reduce((sum, { seen, lost }) => sum + seen - lost, 0);
    while (this.#drain() && this.#frames < frames) await this.#flush();
  }

  async #flush(): Promise<void> {
    await this.#output.flush();
    this.#flushes += 1;
  }

  /** Resolves when nobody takes the output any more. A file takes it all. */
  async #farewell(): Promise<void> {
    for (let before = -1; before !== this.#flushes || this.#stream !== process.stdout; ) {
      before = this.#flushes;
      await sleep(FAREWELL_MS, undefined, { ref: false });
    }
  }

  #endInterface(id: number): void {
    this.#statistics(id);
    console.error(`l4lab: port '${this.#session.names[id]}' is gone`);
    if (this.#open.size === 0) this.#finish('no port is left');
  }

  #statistics(id: number): void {
    this.#open.delete(id);
    const { seen, lost } = this.#session.reader.counts(id);
    this.#output.ended(id, seen, lost);
  }

  #finish(why: string): void {
    this.#end ??= why;
    this.#session.wake();
  }

  #lookForReader(): void {
    if (this.#stream !== process.stdout || !readerIsGone(1)) return;
    this.#readerGone = true;
    this.#finish('nobody reads the output any more');
  }

  #fail(err: Error): void {
    this.#failure ??= err;
    this.#finish('the output failed');
  }

  #report(): number {
    if (this.#readerGone || (this.#failure as NodeJS.ErrnoException | undefined)?.code === 'EPIPE') return 0;
    if (this.#failure) {
      if (!isSystemError(this.#failure)) throw this.#failure;
      console.error(`l4lab: the capture ended as ${systemProblem(this.#failure)}`);
      return EXIT_OUTPUT;
    }
    const { names, reader } = this.#session;
    const losses = names.flatMap((name, id) => {
      const { lost } = reader.counts(id);
      return lost > 0 ? [`'${name}' ${lost}`] : [];
    });
    const what =
      losses.length === 0 ? 'none was lost' : `lost as this reader was too slow: ${losses.join(', ')}`;
    const why = this.#interrupted ? '' : ` (${this.#end})`;
    console.error(`l4lab: ${this.#frames} frames captured, ${what}${why}`);
    return 0;
  }
}

async function closed(stream: Writable): Promise<void> {
  stream.end();
  await once(stream, 'close');
}

function numberOf(option: string, text: string | undefined, least: number, fallback: number): number {
  if (text === undefined) return fallback;
  if (/^\d{1,9}$/.test(text) && Number(text) >= least) return Number(text);
  throw new UsageError(
    `Cannot use ${option} as it must be a number of at least ${least}: current value is '${text}'`,
  );
}
