/** A port whose other side keeps what it gets, and sends what it is told to: no virtqueues, no faults of its own. */
import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import type { Endpoint } from '#common/vnet/endpoint';
import { FRAME_TSO } from '#common/vnet/offload';
import { copyPlain } from '#common/vnet/plain_frame';
import { SourceFrame } from '#common/vnet/source_frame';
import type { Forwarder } from '../../services/l4vio_switch/forward.ts';

const FRAME_BYTES = 16 * 1024;
const RECEIVED_AT = 64 + FRAME_BYTES;
/** Bytes of memory of one recorder. */
export const RECORDER_BYTES = RECEIVED_AT + FRAME_BYTES;

export class Recorder implements Endpoint {
  readonly number: number;
  /** Frames that have come, oldest first. */
  received: Buffer[] = [];
  readonly #memory: Memory;
  readonly #at: number;
  readonly #forwarder: Forwarder;
  readonly #judge: (frame: Buffer) => void;
  readonly #frame: SourceFrame;
  readonly #waiting: Buffer[] = [];

  /** `at` is the offset of RECORDER_BYTES bytes; `judge` throws when the port must not get a frame. */
  constructor(
    memory: Memory,
    at: number,
    number: number,
    forwarder: Forwarder,
    judge: (frame: Buffer) => void,
  ) {
    this.number = number;
    this.#memory = memory;
    this.#at = at;
    this.#forwarder = forwarder;
    this.#judge = judge;
    this.#frame = new SourceFrame(memory, at);
  }

  /** For the switch to take at its next turn; the port is to be activated. */
  send(frame: Buffer): void {
    this.#waiting.push(frame);
  }

  handle(budget: number): number {
    const frames = this.#waiting.splice(0, budget);
    for (const frame of frames) {
      const where = this.#at + 64;
      this.#memory.u8.set(frame, where);
      if (!this.#frame.loadBare({ count: 1, where: [where], len: [frame.length] }))
        throw new Error('a recorder sends no such frames');
      this.#forwarder.forward(this.number, this.#frame);
    }
    return frames.length;
  }

  deliver(frame: SourceFrame, tag: number, tci: number): number {
    if (frame.kind === FRAME_TSO || frame.length + 4 > FRAME_BYTES) return ~DROP.TOO_LONG;
    const at = this.#at + RECEIVED_AT;
    const bytes = copyPlain(this.#memory, frame, at, tag, tci);
    const copy = Buffer.from(this.#memory.u8.slice(at, at + bytes));
    this.#judge(copy);
    this.received.push(copy);
    return bytes;
  }

  publish(): boolean {
    return false;
  }

  interrupt(): void {}

  enableNotifications(): boolean {
    return this.#waiting.length > 0;
  }

  disableNotifications(): void {}
}
