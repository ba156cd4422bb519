/**
 * Device half of a split queue, written for tests of the driver half: obvious rather than fast, and free to
 * break every rule. It works on the driver's memory; device addresses begin at `base`.
 */
import type { Memory } from '#common/memory';
import { DESC_F_NEXT, DESC_F_WRITE, DESC_SIZE, type QueueLayout } from '#common/virtio/layout';

export interface MockChain {
  readonly head: number;
  readonly pieces: { address: number; len: number; writable: boolean }[];
}

export class MockDevice {
  readonly memory: Memory;
  readonly layout: QueueLayout;
  readonly #view: DataView;
  readonly #base: number;
  #seen = 0;

  constructor(memory: Memory, layout: QueueLayout, base = 0) {
    this.memory = memory;
    this.layout = layout;
    this.#view = memory.view;
    this.#base = base;
  }

  /** The next available chain, undefined when there is none. */
  take(): MockChain | undefined {
    if (this.#seen === this.availIdx) return undefined;
    const { avail, desc, size } = this.layout;
    const head = this.#view.getUint16(avail + 4 + 2 * (this.#seen % size), true);
    this.#seen = (this.#seen + 1) & 0xffff;
    const pieces: MockChain['pieces'] = [];
    for (let i = head; ; ) {
      const at = desc + i * DESC_SIZE;
      const flags = this.#view.getUint16(at + 12, true);
      pieces.push({
        address: Number(this.#view.getBigUint64(at, true)),
        len: this.#view.getUint32(at + 8, true),
        writable: (flags & DESC_F_WRITE) !== 0,
      });
      if ((flags & DESC_F_NEXT) === 0) return { head, pieces };
      i = this.#view.getUint16(at + 14, true);
    }
  }

  /** Writes a used entry and shows it. */
  give(id: number, len: number): void {
    const { used, size } = this.layout;
    const at = used + 4 + 8 * (this.usedIdx % size);
    this.#view.setUint32(at, id, true);
    this.#view.setUint32(at + 4, len, true);
    this.usedIdx = (this.usedIdx + 1) & 0xffff;
  }

  /** The bytes of a piece. */
  bytes(piece: { address: number; len: number }): Uint8Array {
    const at = piece.address - this.#base;
    return this.memory.u8.subarray(at, at + piece.len);
  }

  get availIdx(): number {
    return this.#view.getUint16(this.layout.avail + 2, true);
  }
  get availFlags(): number {
    return this.#view.getUint16(this.layout.avail, true);
  }
  get usedEvent(): number {
    return this.#view.getUint16(this.layout.avail + 4 + 2 * this.layout.size, true);
  }
  get usedIdx(): number {
    return this.#view.getUint16(this.layout.used + 2, true);
  }
  set usedIdx(value: number) {
    this.#view.setUint16(this.layout.used + 2, value, true);
  }
  set usedFlags(value: number) {
    this.#view.setUint16(this.layout.used, value, true);
  }
  set availEvent(value: number) {
    this.#view.setUint16(this.layout.used + 4 + 8 * this.layout.size, value, true);
  }
}
