/**
 * A client that keeps all rules: it sends numbered frames to another one of its kind, and says what has come of theirs. It
 * kicks and looks only when it is asked to, so that a wake-up that is lost is a frame that is lost.
 */
import { DriverQueue } from '#common/virtio/driver_queue';
import { layoutQueue } from '#common/virtio/layout';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import type { HookedMemory } from './hooked_memory.ts';
import { BUFFERS, RINGS, RW_BASE } from './plot.ts';
import type { FuzzPort } from './port.ts';

const ENTRIES = 16;
const SLOT = 2048;
/** Most frames that may be on their way at a time. */
export const WINDOW = ENTRIES;
/** In every frame of a good client, and in nobody else's. */
export const MAGIC = Buffer.from('90ddc11e4791beef', 'hex');

export function numberedFrame(from: number, to: number, number: number, length: number): Buffer {
  const frame = Buffer.alloc(Math.max(length, 60), MAGIC);
  frame.set([2, 0, 0, 0, 1, to, 2, 0, 0, 0, 1, from, 0x88, 0xb5]);
  frame.writeUInt32BE(number, 24);
  return frame;
}

export class GoodClient {
  readonly port: FuzzPort;
  readonly #memory: HookedMemory;
  #rx!: DriverQueue;
  #tx!: DriverQueue;
  #seenInterrupts = 0;
  #next = 0;
  readonly #sent = new Map<number, Buffer>();
  /** Slots of receive and of transmit heads. */
  readonly #rxSlot = new Uint16Array(ENTRIES);
  readonly #slotOf = new Uint16Array(ENTRIES);

  constructor(memory: HookedMemory, port: FuzzPort) {
    this.#memory = memory;
    this.port = port;
  }

  start(wanted: number): void {
    const { plot } = this.port;
    const features = this.port.start(ENTRIES, wanted);
    const queue = (n: 0 | 1) =>
      new DriverQueue(this.#memory, layoutQueue(ENTRIES, plot.rw + RINGS[n]), features);
    this.#rx = queue(0);
    this.#tx = queue(1);
    for (let slot = 0; slot < ENTRIES; slot++) this.#offer(slot);
    this.#rx.flush();
    this.#rx.enableInterrupts();
  }

  /** Puts a frame into the ring. True when the switch wants to be kicked. */
  send(frame: Buffer): boolean {
    this.#reap();
    const slot = ENTRIES + (this.#next++ % ENTRIES);
    const bytes = Buffer.concat([Buffer.alloc(NET_HDR_SIZE), frame]);
    this.#memory.u8.set(bytes, this.#at(slot));
    const head = this.#tx.add(RW_BASE + BUFFERS + slot * SLOT, bytes.length, false);
    if (head < 0) throw new Error(`port ${this.port.number}: the switch has not returned a buffer`);
    this.#sent.set(head, bytes);
    this.#slotOf[head] = slot;
    return this.#tx.flush();
  }

  /** Frames that have come since the last call, without their headers. */
  receive(): Buffer[] {
    const frames: Buffer[] = [];
    const interrupted = this.port.interrupts !== this.#seenInterrupts;
    this.#seenInterrupts = this.port.interrupts;
    for (let head = this.#rx.pop(); head >= 0; head = this.#rx.pop()) {
      const slot = this.#rxSlot[head] as number;
      const at = this.#at(slot);
      frames.push(Buffer.from(this.#memory.u8.slice(at + NET_HDR_SIZE, at + this.#rx.usedLength)));
      this.#offer(slot);
    }
    if (frames.length > 0 && !interrupted)
      throw new Error(`port ${this.port.number}: ${frames.length} frames have come without an interrupt`);
    this.#rx.flush();
    if (this.#rx.enableInterrupts()) throw new Error('nothing can have come meanwhile');
    return frames;
  }

  /** Takes sent buffers back; they must be as they were. */
  #reap(): void {
    for (let head = this.#tx.pop(); head >= 0; head = this.#tx.pop()) {
      const bytes = this.#sent.get(head) as Buffer;
      const at = this.#at(this.#slotOf[head] as number);
      if (bytes.compare(this.#memory.u8, at, at + bytes.length) !== 0)
        throw new Error(`port ${this.port.number}: a frame was changed in the memory of its sender`);
    }
  }

  #offer(slot: number): void {
    const head = this.#rx.add(RW_BASE + BUFFERS + slot * SLOT, SLOT, true);
    this.#rxSlot[head] = slot;
  }

  #at(slot: number): number {
    return this.port.plot.rw + BUFFERS + slot * SLOT;
  }
}
