/**
 * Live captures of ports: what a reader in another process sees of their frames.
 *
 * A port that nobody captures costs one comparison per frame. Of a captured one, each frame is copied into the
 * shared ring of every capture (common/capture/ring.ts); without room there it is counted as lost and forgotten. So a
 * reader that is slow, stopped or malicious costs its own capture frames, never the port.
 */
import type { RingWriter } from '#common/capture/ring_writer';
import type { Memory } from '#common/memory';
import type { SourceFrame } from '#common/vnet/source_frame';
import { growth, TAG_INSERT, TAG_KEEP, TAG_OFFSET, TAG_REMOVE, TAG_SIZE, writeTag } from '#common/vnet/tag';
import { CaptureClock } from './capture_clock.ts';
import type { Forwarder, FrameTap } from './forward.ts';

/** Ports of one capture; the position in `ports` is the number of the interface. */
export interface CaptureOptions {
  readonly ports: readonly number[];
  /** Bytes of each frame to keep. */
  readonly snapLength: number;
  readonly writer: RingWriter;
  /** The last of its ports is gone. */
  onEnded(): void;
}

class Capture {
  readonly #memory: Memory;
  readonly #options: CaptureOptions;
  /** Ports that are still there. */
  readonly live: Set<number>;

  constructor(memory: Memory, options: CaptureOptions) {
    this.#memory = memory;
    this.#options = options;
    this.live = new Set(options.ports);
  }

  take(
    interfaceId: number,
    clock: CaptureClock,
    direction: number,
    frame: SourceFrame,
    tag: number,
    tci: number,
    reason: number,
  ): void {
    const { snapLength, writer } = this.#options;
    const original = frame.length + growth(tag);
    const captured = Math.min(original, snapLength);
    const to = writer.begin(interfaceId, captured);
    if (to < 0) return;
    if (tag === TAG_KEEP) frame.copyTo(to, 0, captured);
    else this.#copyTagged(to, captured, frame, tag, tci);
    writer.commit(interfaceId, original, direction, reason, clock.seconds, clock.nanoseconds);
  }

  interfaceOf(port: number): number {
    return this.#options.ports.indexOf(port);
  }

  /** The port is gone. */
  end(port: number): void {
    if (!this.live.delete(port)) return;
    this.#options.writer.end(this.interfaceOf(port));
    if (this.live.size === 0) this.#options.onEnded();
  }

  #copyTagged(to: number, captured: number, frame: SourceFrame, tag: number, tci: number): void {
    frame.copyTo(to, 0, Math.min(TAG_OFFSET, captured));
    if (captured <= TAG_OFFSET) return;
    let at = TAG_OFFSET;
    if (tag !== TAG_REMOVE) {
      // May be longer than what is kept: the ring has room for that.
      writeTag(this.#memory, to + TAG_OFFSET, tci);
      at += TAG_SIZE;
    }
    const skip = tag === TAG_INSERT ? TAG_OFFSET : TAG_OFFSET + TAG_SIZE;
    if (captured > at) frame.copyTo(to + at, skip, skip + captured - at);
  }
}

/** The captures of one port; an entry of `interfaces` belongs to the capture of the same position. */
interface Tapped {
  readonly captures: readonly Capture[];
  readonly interfaces: readonly number[];
}

export class Captures implements FrameTap {
  readonly #memory: Memory;
  readonly #forwarder: Pick<Forwarder, 'tap' | 'slots'>;
  readonly #tapped: (Tapped | undefined)[];
  readonly #all = new Set<Capture>();
  #clock = new CaptureClock();

  constructor(memory: Memory, forwarder: Pick<Forwarder, 'tap' | 'slots'>) {
    this.#memory = memory;
    this.#forwarder = forwarder;
    this.#tapped = new Array(forwarder.slots).fill(undefined);
  }

  /** Number of captures under way. */
  get size(): number {
    return this.#all.size;
  }

  /** Begins a capture; the result ends it. */
  start(options: CaptureOptions): () => void {
    if (this.#all.size === 0) this.#clock = new CaptureClock();
    const capture = new Capture(this.#memory, options);
    this.#all.add(capture);
    for (const port of capture.live) this.#retap(port);
    return () => {
      if (!this.#all.delete(capture)) return;
      for (const port of capture.live) this.#retap(port);
    };
  }

  /** A port is gone. */
  portGone(port: number): void {
    for (const capture of [...this.#all]) capture.end(port);
    this.#retap(port);
  }

  frame(port: number, direction: number, frame: SourceFrame, tag: number, tci: number, reason: number): void {
    const tapped = this.#tapped[port];
    if (tapped === undefined) return;
    const { captures, interfaces } = tapped;
    const clock = this.#clock;
    clock.read();
    for (let n = 0; n < captures.length; n++) {
      (captures[n] as Capture).take(interfaces[n] as number, clock, direction, frame, tag, tci, reason);
    }
  }

  #retap(port: number): void {
    const captures = [...this.#all].filter(({ live }) => live.has(port));
    const interfaces = captures.map((capture) => capture.interfaceOf(port));
    this.#tapped[port] = captures.length > 0 ? { captures, interfaces } : undefined;
    this.#forwarder.tap(port, captures.length > 0 ? this : undefined);
  }
}
