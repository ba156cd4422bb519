/**
 * The wire between two ports: each frame of one end goes to the other, unchanged, and none is lost on the way.
 *
 * A frame for an end that has no driver yet, or no receive buffer, stays in its sender's queue until there is one,
 * as in the original (F3.12). Dropped is only what never fits: a frame longer than the receiver's buffers.
 */
import { DROP } from '#common/capture/drop_reasons';
import { Fabric } from '#common/vnet/fabric';
import type { SourceFrame } from '#common/vnet/source_frame';
import { TAG_KEEP } from '#common/vnet/tag';
import { VirtioPort, type VirtioPortOptions } from '#common/vnet/virtio_port';

export const ENDS = 2;

/** Number of the end across. */
export function across(end: number): number {
  return 1 - end;
}

export interface WireOptions {
  /** Ends are looked after by a timer: they ask nobody for notifications. */
  readonly polled?: boolean;
  /** A frame from end `from` was too long for the other one. Said once in a while, never per frame. */
  onTooLong?(from: number): void;
}

export class Wire extends Fabric {
  readonly #options: WireOptions;
  readonly #ends: (WireEnd | undefined)[] = [undefined, undefined];

  constructor(options: WireOptions = {}) {
    super(ENDS);
    this.#options = options;
  }

  get polled(): boolean {
    return this.#options.polled ?? false;
  }

  /** The end with that number; undefined while nobody has it. */
  end(number: number): WireEnd | undefined {
    return this.#ends[number];
  }

  connect(number: number, end: WireEnd): void {
    this.#ends[number] = end;
    this.endpoints[number] = end;
  }

  disconnect(number: number): void {
    this.#ends[number]?.stop();
    this.#ends[number] = undefined;
    this.endpoints[number] = undefined;
  }

  forward(from: number, frame: SourceFrame): void {
    const number = across(from);
    const to = this.#ends[number];
    let result = to === undefined ? ~DROP.NOT_READY : to.deliver(frame, TAG_KEEP, 0);
    // The driver may have added buffers since; with too few for this frame it is dropped.
    if (result === ~DROP.NO_DESCRIPTOR && to?.hasBuffers === true) result = to.deliver(frame, TAG_KEEP, 0);
    if (result >= 0) this.touch(number);
    else if (result === ~DROP.NOT_READY || (result === ~DROP.NO_DESCRIPTOR && to?.hasBuffers !== true)) {
      this.#ends[from]?.wait();
      this.hold();
    } else if (result !== ~DROP.BROKEN) this.#options.onTooLong?.(from);
  }
}

export interface WireEndOptions extends Omit<VirtioPortOptions, 'nic' | 'fabric'> {
  readonly wire: Wire;
}

/** One end: a port that waits for the other one's receive buffers. */
export class WireEnd extends VirtioPort {
  readonly #number: number;
  readonly #wire: Wire;
  /** Its next frame waits for the end across. */
  #waiting = false;

  constructor({ wire, ...options }: WireEndOptions) {
    super({ ...options, nic: false, fabric: wire });
    this.#number = options.number;
    this.#wire = wire;
  }

  wait(): void {
    this.#waiting = true;
  }

  override handle(budget: number): number {
    this.#waiting = false;
    return super.handle(budget);
  }

  override enableNotifications(): boolean {
    if (this.#wire.polled) return false;
    // More frames are no use while the first one cannot go.
    if (this.#waiting) return this.#peer?.awaitBuffers() ?? false;
    return super.enableNotifications();
  }

  override disableNotifications(): void {
    super.disableNotifications();
    this.#peer?.ignoreBuffers();
  }

  get #peer(): WireEnd | undefined {
    return this.#wire.end(across(this.#number));
  }
}
