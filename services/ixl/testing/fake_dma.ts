/** DMA memory over a plain ArrayBuffer: addresses above 4 GiB, so that both halves matter. */
import { L4Error } from '#common/ipc/errors';
import { Memory } from '#common/memory';
import type { SharedMemories } from '#common/shm/dataspace';
import type { DmaAllocator, DmaMemory } from '../memory/dma_memory.ts';

/** Memory as a device reaches it. */
export interface DeviceView {
  readonly memory: Memory;
  /** Offset in `memory` of what the device calls `address`; throws for what was never mapped: a DMA fault. */
  resolve(address: number, size: number): number;
}

const DMA_BASE = 2 ** 32;
const DMA_STEP = 2 ** 21;

export class FakeDma implements DmaAllocator, DeviceView {
  readonly memory: Memory;
  readonly chunks: DmaMemory[] = [];
  #next = 4096;

  constructor(bytes: number) {
    this.memory = new Memory(new ArrayBuffer(bytes));
  }

  allocate(size: number): Promise<DmaMemory> {
    const rounded = Math.ceil(size / 4096) * 4096;
    if (this.#next + rounded > this.memory.buffer.byteLength) {
      return Promise.reject(new L4Error('ENOMEM', 'Cannot allocate test memory as it is full'));
    }
    const chunk: DmaMemory = {
      offset: this.#next,
      size: rounded,
      address: DMA_BASE + this.chunks.length * 64 * DMA_STEP,
      ref: { name: '0'.repeat(32), size: rounded, writable: true },
    };
    this.#next += rounded;
    this.chunks.push(chunk);
    return Promise.resolve(chunk);
  }

  resolve(address: number, size: number): number {
    for (const chunk of this.chunks) {
      const distance = address - chunk.address;
      if (distance >= 0 && distance + size <= chunk.size) return chunk.offset + distance;
    }
    throw new Error(`DMA fault at 0x${address.toString(16)}`);
  }
}

/** The same over shared-memory files, for tests with a real peer. */
export class SharedDma implements DmaAllocator, DeviceView {
  readonly memory: Memory;
  readonly #memories: Pick<SharedMemories, 'create'>;

  constructor(memory: Memory, memories: Pick<SharedMemories, 'create'>) {
    this.memory = memory;
    this.#memories = memories;
  }

  allocate(size: number): Promise<DmaMemory> {
    const { offset, size: bytes, ref } = this.#memories.create(size);
    return Promise.resolve({ offset, size: bytes, address: DMA_BASE + offset, ref });
  }

  resolve(address: number, _size: number): number {
    return address - DMA_BASE;
  }
}
