/** What a descriptor ring is made of, and its registers. e1000, igb and igc differ in the offsets only (F5.4-F5.6). */
import type { Memory } from '#common/memory';
import type { Mmio } from '#common/shm/mmio';
import type { PacketMemory } from '../memory/packet_memory.ts';

export interface RingRegisters {
  readonly baseLow: number;
  readonly baseHigh: number;
  readonly length: number;
  readonly head: number;
  readonly tail: number;
}

export interface RingOptions {
  readonly mmio: Mmio;
  readonly memory: Memory;
  readonly packets: PacketMemory;
  readonly registers: RingRegisters;
  /** Arena offset of the descriptors, and what the NIC calls it. */
  readonly offset: number;
  readonly address: number;
}

/** Tells the NIC where a ring of `bytes` bytes lies: base low, base high, length. */
export function writeRingBase(mmio: Mmio, registers: RingRegisters, address: number, bytes: number): void {
  mmio.write32(registers.baseLow, address >>> 0);
  mmio.write32(registers.baseHigh, Math.floor(address / 2 ** 32));
  mmio.write32(registers.length, bytes);
}
