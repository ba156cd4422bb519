/**
 * What joins the ports of a virtual network device: the endpoints by number, and who must be told of finished
 * buffers. Where a frame goes is for the subclass to say: a switch, or a wire between two ports.
 */
import type { Endpoint } from './endpoint.ts';
import type { PortSet } from './port_set.ts';
import type { SourceFrame } from './source_frame.ts';

export abstract class Fabric {
  /** Work that large frames have cost beyond being one frame: segments made. The port that they come from takes it. */
  work = 0;
  /** Number of port numbers: 0 to slots - 1. */
  readonly slots: number;
  protected readonly endpoints: (Endpoint | undefined)[];
  readonly #touched: Int16Array;
  readonly #isTouched: Uint8Array;
  #touchedCount = 0;
  #held = false;

  constructor(slots: number) {
    this.slots = slots;
    this.endpoints = new Array(slots).fill(undefined);
    this.#touched = new Int16Array(slots);
    this.#isTouched = new Uint8Array(slots);
  }

  /** Forwards one frame that came in at port `from`, or drops it, or calls `hold`. */
  abstract forward(from: number, frame: SourceFrame): void;

  /**
   * For `forward`: the frame cannot go on now. It stays in its driver's queue, and all behind it; whoever holds it has
   * to activate the port again.
   */
  protected hold(): void {
    this.#held = true;
  }

  /** Whether the frame forwarded last is held; asking forgets it. */
  takeHeld(): boolean {
    if (!this.#held) return false;
    this.#held = false;
    return true;
  }

  /** A frame from `port` is not forwarded at all, for a reason of DROP. */
  refuse(_port: number, _frame: SourceFrame, _reason: number): void {}

  /** What came from `port` was no frame. */
  malformed(_port: number): void {}

  /** A segment of a frame was not delivered to `port`, while others were; for a reason of DROP. */
  lost(_port: number, _reason: number): void {}

  endpoint(port: number): Endpoint | undefined {
    return this.endpoints[port];
  }

  /** The port has something to show to its other side; `publishTouched` will do it. */
  touch(port: number): void {
    if (this.#isTouched[port] === 1) return;
    this.#isTouched[port] = 1;
    this.#touched[this.#touchedCount++] = port;
  }

  /** Shows all finished buffers, one index store for each ring. Marks in `wanting` who wants an interrupt. */
  publishTouched(wanting: PortSet): void {
    for (let n = 0; n < this.#touchedCount; n++) {
      const port = this.#touched[n] as number;
      this.#isTouched[port] = 0;
      if (this.endpoints[port]?.publish() === true) wanting.add(port);
    }
    this.#touchedCount = 0;
  }
}
