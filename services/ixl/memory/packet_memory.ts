/**
 * All packet buffers of one device: the receive and transmit pools and the memory they lie in.
 *
 * Answers the two questions that a ring has about any buffer: what does the NIC call it, and which
 * pool does it go back to. The first memory holds both pools, so that one `register_ds` shows it to a
 * switch; pools grow by further memories (F5.9 `reserve`).
 */
import { L4Error } from '#common/ipc/errors';
import type { Memory } from '#common/memory';
import { BUFFER } from './buffer.ts';
import type { DmaAllocator, DmaMemory } from './dma_memory.ts';
import { Mempool } from './mempool.ts';

/** Most bytes of one pool (F5.9 MEMPOOL_LIMIT). */
export const MEMPOOL_LIMIT = 2 ** 28;

export class PacketMemory {
  readonly rxPool: Mempool;
  readonly txPool: Mempool;
  readonly #memory: Memory;
  readonly #allocator: DmaAllocator;
  readonly #rxBuffers: number;
  readonly #chunks: DmaMemory[] = [];
  readonly #pools: Mempool[];
  #reserved = 0;

  private constructor(memory: Memory, allocator: DmaAllocator, rxBuffers: number) {
    this.#memory = memory;
    this.#allocator = allocator;
    this.#rxBuffers = rxBuffers;
    this.rxPool = new Mempool(memory);
    this.txPool = new Mempool(memory);
    this.#pools = [this.rxPool, this.txPool];
  }

  /** Throws L4Error ENOMEM when there is no room for that many buffers of 2048 bytes. */
  static async create(
    memory: Memory,
    allocator: DmaAllocator,
    rxBuffers: number,
    txBuffers: number,
  ): Promise<PacketMemory> {
    const packets = new PacketMemory(memory, allocator, rxBuffers);
    const first = await packets.#chunk(rxBuffers + txBuffers);
    packets.rxPool.add(first, 0, rxBuffers);
    if (txBuffers > 0) packets.txPool.add(first, rxBuffers * BUFFER.SIZE, txBuffers);
    return packets;
  }

  /** The memory that holds the receive pool (before it grew) and the transmit pool. */
  get shared(): DmaMemory {
    return this.#chunks[0] as DmaMemory;
  }

  /** A further pool. Throws L4Error ENOMEM. */
  async createPool(buffers: number): Promise<Mempool> {
    const pool = new Mempool(this.#memory);
    pool.add(await this.#chunk(buffers), 0, buffers);
    this.#pools.push(pool);
    return pool;
  }

  /**
   * Notes that `buffers` more receive buffers may be held by the program at once; the pool grows by
   * whole chunks when it is too small. Throws L4Error ENOMEM beyond 2^28 bytes.
   */
  async reserve(buffers: number): Promise<void> {
    const wanted = this.#reserved + buffers;
    if (wanted * BUFFER.SIZE > MEMPOOL_LIMIT) {
      throw new L4Error(
        'ENOMEM',
        `Cannot reserve ${buffers} receive buffers as a pool must stay within ${MEMPOOL_LIMIT} bytes: ` +
          `${this.#reserved} buffers of ${BUFFER.SIZE} bytes are reserved already`,
      );
    }
    while (this.rxPool.capacity < wanted) {
      this.rxPool.add(await this.#chunk(this.#rxBuffers), 0, this.#rxBuffers);
    }
    this.#reserved = wanted;
  }

  /** Takes a reservation back. The pool never shrinks. */
  cancel(buffers: number): void {
    this.#reserved = Math.max(0, this.#reserved - buffers);
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** What the NIC calls the first byte of the frame in `buffer`. Throws RangeError for a foreign offset. */
  dmaAddress(buffer: number): number {
    for (let n = 0; n < this.#chunks.length; n++) {
      const chunk = this.#chunks[n] as DmaMemory;
      const distance = buffer - chunk.offset;
      if (distance >= 0 && distance < chunk.size) return chunk.address + distance + BUFFER.DATA;
    }
    throw new RangeError(`Cannot give the NIC a packet buffer at ${buffer} as it lies in no packet memory`);
  }

  /** Gives a buffer back to the pool that it came from. */
  free(buffer: number): void {
    for (let n = 0; n < this.#pools.length; n++) {
      const pool = this.#pools[n] as Mempool;
      if (pool.owns(buffer)) {
        pool.free(buffer);
        return;
      }
    }
    throw new RangeError(`Cannot free packet buffer at ${buffer} as it lies in no pool of this device`);
  }

  async #chunk(buffers: number): Promise<DmaMemory> {
    const chunk = await this.#allocator.allocate(buffers * BUFFER.SIZE);
    this.#chunks.push(chunk);
    return chunk;
  }
}
