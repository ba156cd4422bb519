/** Registers of one descriptor ring. e1000, igb and igc differ in the offsets only (F5.4-F5.6). */
import type { Mmio } from '#common/shm/mmio';

export interface RingRegisters {
  readonly baseLow: number;
  readonly baseHigh: number;
  readonly length: number;
  readonly head: number;
  readonly tail: number;
}

/** Tells the NIC where a ring of `bytes` bytes lies: base low, base high, length. */
export function writeRingBase(mmio: Mmio, registers: RingRegisters, address: number, bytes: number): void {
  mmio.write32(registers.baseLow, address >>> 0);
  mmio.write32(registers.baseHigh, Math.floor(address / 2 ** 32));
  mmio.write32(registers.length, bytes);
}
