/** Shared memory that the NIC can reach. */
import type { SharedMemoryRef } from '#common/shm/dataspace';

export interface DmaMemory {
  /** Arena offset of the first byte. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** What the NIC calls the first byte. */
  readonly address: number;
  /** For peers that are to map it too. */
  readonly ref: SharedMemoryRef;
}

/** Makes memory that the NIC can reach (bringup/dma.ts; tests have their own). */
export interface DmaAllocator {
  /** Throws L4Error ENOMEM when /dev/shm or the DMA space is full. */
  allocate(size: number): Promise<DmaMemory>;
}
