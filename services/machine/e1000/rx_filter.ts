/**
 * Which frames the receiver takes: promiscuous modes, 16 exact addresses, the multicast hash table and
 * the VLAN table. [8254x §3.2.1, §9, §13.5.1]
 */
import type { Memory } from '#common/memory';
import {
  RA_ENTRIES,
  RAH_AV,
  RCTL_BAM,
  RCTL_CFI,
  RCTL_CFIEN,
  RCTL_MO_SHIFT,
  RCTL_MPE,
  RCTL_UPE,
  RCTL_VFE,
  REG,
} from '#common/nic/e1000';
import { isBroadcast } from './statistics.ts';

export const REJECTED = 0;
export const EXACT = 1;
/** Passed the hash table only: software must compare the address (status bit PIF). */
export const INEXACT = 2;

const RCTL = REG.RCTL.offset >>> 2;
const RA = REG.RAL0.offset >>> 2;
const MTA = REG.MTA.offset >>> 2;
const VFTA = REG.VFTA.offset >>> 2;

/** RCTL.MO: how far the two last bytes of the address (the last one high) are shifted: 12 bits remain. */
const MO_SHIFT = [4, 3, 2, 0] as const;

/** REJECTED, EXACT or INEXACT for the frame whose destination address is at `offset`. */
export function filterAddress(regs: Uint32Array, memory: Memory, offset: number): number {
  const { u8 } = memory;
  const rctl = regs[RCTL] as number;
  if (((u8[offset] as number) & 1) === 0) {
    if (rctl & RCTL_UPE) return EXACT;
    return matchesExactly(regs, u8, offset) ? EXACT : REJECTED;
  }
  if (rctl & RCTL_MPE) return EXACT;
  if (isBroadcast(u8, offset)) return rctl & RCTL_BAM ? EXACT : REJECTED;
  if (matchesExactly(regs, u8, offset)) return EXACT;
  const bits =
    (((u8[offset + 5] as number) << 8) | (u8[offset + 4] as number)) >>>
    (MO_SHIFT[(rctl >>> RCTL_MO_SHIFT) & 3] as number);
  const word = regs[MTA + ((bits >>> 5) & 0x7f)] as number;
  return (word >>> (bits & 0x1f)) & 1 ? INEXACT : REJECTED;
}

/** The bit of a VLAN tag that RCTL.CFI is compared with. [IEEE 802.1Q §9.6] */
const TAG_CFI = 0x1000;

/** True when a frame with this VLAN tag may pass. */
export function filterVlan(regs: Uint32Array, tag: number): boolean {
  const rctl = regs[RCTL] as number;
  if ((rctl & RCTL_VFE) === 0) return true;
  if ((rctl & RCTL_CFIEN) !== 0 && ((rctl & RCTL_CFI) !== 0) !== ((tag & TAG_CFI) !== 0)) return false;
  return (((regs[VFTA + ((tag >>> 5) & 0x7f)] as number) >>> (tag & 0x1f)) & 1) === 1;
}

function matchesExactly(regs: Uint32Array, u8: Uint8Array, offset: number): boolean {
  const low = (word(u8, offset) | (word(u8, offset + 2) << 16)) >>> 0;
  const high = (word(u8, offset + 4) | RAH_AV) >>> 0;
  for (let n = 0; n < RA_ENTRIES; n++) {
    // Bits 16-30 of RAH are reserved or choose how to match; only "destination address" exists here.
    if (regs[RA + 2 * n] === low && ((regs[RA + 2 * n + 1] as number) & 0x8000_ffff) >>> 0 === high)
      return true;
  }
  return false;
}

function word(u8: Uint8Array, at: number): number {
  return (u8[at] as number) | ((u8[at + 1] as number) << 8);
}
