/**
 * Transmit ring of legacy descriptors, 256 of 16 bytes (F5.8 TX); e1000, igb and igc. [8254x §3.3.3]
 *
 * Sent descriptors are reclaimed 32 at a time, by looking at the 32nd only: the NIC reports them in
 * order. Up to 31 sent buffers therefore stay in the ring until more traffic comes.
 */
import { TX_CMD_EOP, TX_CMD_IFCS, TX_CMD_RS, TX_DESC, TX_STATUS_DD } from '#common/nic/e1000';
import { BUFFER } from '../memory/buffer.ts';
import type { Buffers, TxQueue } from './queue.ts';
import { type RingOptions, writeRingBase } from './registers.ts';

export const TX_DEPTH = 256;
const MASK = TX_DEPTH - 1;
export const TX_RING_BYTES = TX_DEPTH * TX_DESC.SIZE;
export const TX_CLEAN_BATCH = 32;
const COMMAND = TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS;

export class LegacyTxRing implements TxQueue {
  readonly depth = TX_DEPTH;
  /** Frames that were freed unsent as their length was 0 or above the buffer's room. */
  badLength = 0;
  readonly #o: RingOptions;
  readonly #buffers = new Int32Array(TX_DEPTH);
  #index = 0;
  #clean = 0;

  constructor(options: RingOptions) {
    this.#o = options;
  }

  /** Writes base and length registers. */
  writeBase(): void {
    writeRingBase(this.#o.mmio, this.#o.registers, this.#o.address, TX_RING_BYTES);
  }

  batch(buffers: Buffers, count: number): number {
    this.#reclaim();
    let queued = 0;
    while (queued < count) {
      const next = (this.#index + 1) & MASK;
      if (next === this.#clean) break;
      if (this.#put(buffers[queued] as number)) this.#index = next;
      queued += 1;
    }
    // Written even when nothing was queued, as in the original.
    this.#o.mmio.write32(this.#o.registers.tail, this.#index);
    return queued;
  }

  room(): number {
    this.#reclaim();
    return MASK - this.#inFlight();
  }

  #inFlight(): number {
    return (this.#index - this.#clean) & MASK;
  }

  #put(buffer: number): boolean {
    const { memory, packets } = this.#o;
    const length = memory.u32[(buffer + BUFFER.LENGTH) >>> 2] as number;
    if (length === 0 || length > BUFFER.ROOM) {
      this.badLength += 1;
      packets.free(buffer);
      return false;
    }
    const address = packets.dmaAddress(buffer);
    const word = (this.#o.offset + this.#index * TX_DESC.SIZE) >>> 2;
    memory.u32[word] = address >>> 0;
    memory.u32[word + 1] = Math.floor(address / 2 ** 32);
    memory.u32[word + 2] = (COMMAND | length) >>> 0;
    memory.u32[word + 3] = 0;
    this.#buffers[this.#index] = buffer;
    return true;
  }

  /** All or nothing: 32 buffers at a time while the 32nd is done. */
  #reclaim(): void {
    while (this.#inFlight() >= TX_CLEAN_BATCH) {
      const last = (this.#clean + TX_CLEAN_BATCH - 1) & MASK;
      const word = (this.#o.offset + last * TX_DESC.SIZE + TX_DESC.STATUS) >>> 2;
      if ((Atomics.load(this.#o.memory.i32, word) & TX_STATUS_DD) === 0) return;
      for (let n = 0; n < TX_CLEAN_BATCH; n++) {
        this.#o.packets.free(this.#buffers[(this.#clean + n) & MASK] as number);
      }
      this.#clean = (this.#clean + TX_CLEAN_BATCH) & MASK;
    }
  }
}
