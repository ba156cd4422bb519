/**
 * Receive ring of legacy descriptors, 256 of 16 bytes (F5.8 RX); e1000, igb and igc. [8254x §3.2.3]
 *
 * The NIC writes length, status and errors, we write the address. DD in the status hands a descriptor
 * over. What the NIC writes is read once, checked, then used: a length that does not fit the buffer
 * or a packet over several descriptors costs that packet and nothing else.
 */
import { RX_DESC, RX_STATUS_DD, RX_STATUS_EOP } from '#common/nic/e1000';
import { Throttle } from '#common/obs/throttle';
import type { Log } from '../log.ts';
import { BUFFER, MIN_FRAME } from '../memory/buffer.ts';
import type { Buffers, RxQueue } from './queue.ts';
import { type RingOptions, writeRingBase } from './registers.ts';

export const RX_DEPTH = 256;
const MASK = RX_DEPTH - 1;
export const RX_RING_BYTES = RX_DEPTH * RX_DESC.SIZE;

export interface LegacyRxOptions extends RingOptions {
  /** Bytes of FCS that the NIC leaves at the end of a frame: 4, or 0 where it strips it. */
  readonly fcsBytes: number;
  /** Read RDH after a batch (step 3). Only the Wait mode has a use for it, and a read has to wait. */
  readonly readHead: boolean;
  readonly log: Log;
}

export class LegacyRxRing implements RxQueue {
  readonly depth = RX_DEPTH;
  /** Packets that were given up: several descriptors, or an impossible length. */
  malformed = 0;
  /** Times that a batch ended because the pool had no replacement buffer. */
  noBuffer = 0;
  readonly #o: LegacyRxOptions;
  readonly #buffers = new Int32Array(RX_DEPTH);
  readonly #malformedLog: Throttle;
  readonly #noBufferLog: Throttle;
  #index = 0;
  #inMalformed = false;
  #morePending = false;

  constructor(options: LegacyRxOptions) {
    this.#o = options;
    this.#malformedLog = new Throttle(options.log.error);
    this.#noBufferLog = new Throttle(options.log.warn);
  }

  /** Gives every descriptor a buffer. The pool must have 256 of them. */
  fill(): void {
    for (let n = 0; n < RX_DEPTH; n++) {
      const buffer = this.#o.packets.rxPool.alloc();
      if (buffer < 0) throw new RangeError(`Cannot fill receive ring as the pool ended at descriptor ${n}`);
      this.#give(n, buffer);
    }
    this.#index = 0;
  }

  /** Writes base and length registers; head and tail are the driver's, their order differs. */
  writeBase(): void {
    writeRingBase(this.#o.mmio, this.#o.registers, this.#o.address, RX_RING_BYTES);
  }

  batch(buffers: Buffers, count: number): number {
    let taken = 0;
    let looked = 0;
    // The first status word is an acquiring read; the ones behind it are plain, in order.
    let status = Atomics.load(this.#o.memory.i32, this.#statusWord(this.#index));
    while ((status & RX_STATUS_DD) !== 0 && taken < count && looked < RX_DEPTH) {
      const result = this.#take(status);
      if (result === NO_BUFFER) break;
      if (result >= 0) {
        buffers[taken] = result;
        taken += 1;
      }
      looked += 1;
      this.#index = (this.#index + 1) & MASK;
      status = this.#o.memory.i32[this.#statusWord(this.#index)] as number;
    }
    if (looked > 0) this.#advanceTail();
    else this.#morePending = false;
    return taken;
  }

  pending(): boolean {
    return (Atomics.load(this.#o.memory.i32, this.#statusWord(this.#index)) & RX_STATUS_DD) !== 0;
  }

  pendingAtHead(): boolean {
    return this.#morePending;
  }

  /** Takes the packet of the descriptor at the index: its buffer, MALFORMED or NO_BUFFER. */
  #take(status: number): number {
    const { memory, packets, fcsBytes } = this.#o;
    const index = this.#index;
    const raw = memory.u16[(this.#o.offset + index * RX_DESC.SIZE + RX_DESC.LENGTH) >>> 1] as number;
    const length = raw - fcsBytes;
    const buffer = this.#buffers[index] as number;
    const last = (status & RX_STATUS_EOP) !== 0;
    if (!last || this.#inMalformed || length < MIN_FRAME || raw > BUFFER.ROOM) {
      this.#refuse(last, raw);
      this.#give(index, buffer);
      return MALFORMED;
    }
    const fresh = packets.rxPool.alloc();
    if (fresh < 0) {
      this.noBuffer += 1;
      this.#noBufferLog.say('No free packet buffer: received packets stay in the ring until one is freed.');
      return NO_BUFFER;
    }
    memory.u32[(buffer + BUFFER.LENGTH) >>> 2] = length;
    this.#give(index, fresh);
    return buffer;
  }

  #refuse(last: boolean, length: number): void {
    // A packet over several descriptors is given up up to and with its last one, and counted there.
    if (last) this.malformed += 1;
    const why =
      last && !this.#inMalformed
        ? `its length must be ${MIN_FRAME + this.#o.fcsBytes}..${BUFFER.ROOM}: current value is ${length}`
        : 'multi-segment packets are not supported';
    this.#inMalformed = !last;
    this.#malformedLog.say(`Cannot take received packet as ${why}`);
  }

  #give(index: number, buffer: number): void {
    const { memory, packets } = this.#o;
    const word = (this.#o.offset + index * RX_DESC.SIZE) >>> 2;
    const address = packets.dmaAddress(buffer);
    memory.u32[word] = address >>> 0;
    memory.u32[word + 1] = Math.floor(address / 2 ** 32);
    memory.u32[word + 2] = 0;
    memory.u32[word + 3] = 0;
    this.#buffers[index] = buffer;
  }

  /** RDT = last processed descriptor, one behind the next: RDT == RDH would mean an empty ring. */
  #advanceTail(): void {
    const { mmio, registers } = this.#o;
    mmio.write32(registers.tail, (this.#index - 1) & MASK);
    if (this.#o.readHead) this.#morePending = mmio.read32(registers.head) !== this.#index;
  }

  #statusWord(index: number): number {
    return (this.#o.offset + index * RX_DESC.SIZE + RX_DESC.STATUS) >>> 2;
  }
}

const MALFORMED = -1;
const NO_BUFFER = -2;
