/**
 * Driver half of a split queue, written for tests of the device half: obvious rather than fast, and free to
 * break every rule. Its memory holds the rings from offset 0 on and then buffers; the device sees it
 * from address `BASE` on.
 */
import { Memory } from '#common/memory';
import {
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  DESC_SIZE,
  layoutQueue,
  type QueueLayout,
  queueBytes,
} from '#common/virtio/layout';
import { Regions } from '#common/virtio/regions';

/** Where the stock client begins (F4.4). */
export const BASE = 2 * 1024 * 1024;
const SLOT = 2048;

export interface MockPiece {
  readonly len: number;
  readonly writable?: boolean;
  /** Device address; by default a slot of its own. */
  readonly address?: number;
}

export class MockDriver {
  readonly memory: Memory;
  readonly layout: QueueLayout;
  /** The memory as a device has it registered. */
  readonly regions = new Regions(2);
  /** First byte behind the rings. */
  readonly buffers: number;
  readonly #view: DataView;
  #nextDesc = 0;

  constructor(size: number, options: { writable?: boolean; bytes?: number } = {}) {
    this.layout = layoutQueue(size, 0);
    this.buffers = Math.ceil(queueBytes(size) / SLOT) * SLOT;
    const bytes = options.bytes ?? this.buffers + size * SLOT;
    this.memory = new Memory(new ArrayBuffer(bytes));
    this.#view = this.memory.view;
    this.regions.add(BASE, bytes, 0, options.writable ?? true);
  }

  /** Device address of slot `i`: 2048 bytes of buffer. */
  slot(i: number): number {
    return BASE + this.buffers + i * SLOT;
  }

  setDesc(i: number, address: number, len: number, flags: number, next: number): void {
    this.writeDesc(this.layout.desc + i * DESC_SIZE, address, len, flags, next);
  }

  /** A descriptor anywhere in the memory: for indirect tables. */
  writeDesc(at: number, address: number, len: number, flags: number, next: number): void {
    this.#view.setBigUint64(at, BigInt(address), true);
    this.#view.setUint32(at + 8, len, true);
    this.#view.setUint16(at + 12, flags, true);
    this.#view.setUint16(at + 14, next, true);
  }

  /** Writes a chain into the next descriptors of the table and makes it available. Returns its head. */
  offer(pieces: readonly MockPiece[]): number {
    const head = this.#nextDesc;
    for (const [n, piece] of pieces.entries()) {
      const i = this.#nextDesc;
      this.#nextDesc = (i + 1) % this.layout.size;
      const last = n === pieces.length - 1;
      const flags = (last ? 0 : DESC_F_NEXT) | (piece.writable ? DESC_F_WRITE : 0);
      this.setDesc(i, piece.address ?? this.slot(i), piece.len, flags, last ? 0 : this.#nextDesc);
    }
    this.makeAvailable(head);
    return head;
  }

  /** The same through an indirect table that lies at offset `at` of the memory. */
  offerIndirect(at: number, pieces: readonly MockPiece[]): number {
    for (const [n, piece] of pieces.entries()) {
      const last = n === pieces.length - 1;
      const flags = (last ? 0 : DESC_F_NEXT) | (piece.writable ? DESC_F_WRITE : 0);
      this.writeDesc(at + n * DESC_SIZE, piece.address ?? this.slot(n), piece.len, flags, last ? 0 : n + 1);
    }
    const head = this.#nextDesc;
    this.#nextDesc = (head + 1) % this.layout.size;
    this.setDesc(head, BASE + at, pieces.length * DESC_SIZE, DESC_F_INDIRECT, 0);
    this.makeAvailable(head);
    return head;
  }

  makeAvailable(head: number): void {
    const { avail, size } = this.layout;
    const idx = this.availIdx;
    this.#view.setUint16(avail + 4 + 2 * (idx % size), head, true);
    this.availIdx = (idx + 1) & 0xffff;
  }

  get availIdx(): number {
    return this.#view.getUint16(this.layout.avail + 2, true);
  }
  set availIdx(value: number) {
    this.#view.setUint16(this.layout.avail + 2, value, true);
  }
  set availFlags(value: number) {
    this.#view.setUint16(this.layout.avail, value, true);
  }
  set usedEvent(value: number) {
    this.#view.setUint16(this.layout.avail + 4 + 2 * this.layout.size, value, true);
  }
  get usedFlags(): number {
    return this.#view.getUint16(this.layout.used, true);
  }
  get usedIdx(): number {
    return this.#view.getUint16(this.layout.used + 2, true);
  }
  get availEvent(): number {
    return this.#view.getUint16(this.layout.used + 4 + 8 * this.layout.size, true);
  }

  /** The n-th used entry. */
  used(n: number): { id: number; len: number } {
    const at = this.layout.used + 4 + 8 * (n % this.layout.size);
    return { id: this.#view.getUint32(at, true), len: this.#view.getUint32(at + 4, true) };
  }
}
