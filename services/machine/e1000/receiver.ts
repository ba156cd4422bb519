/**
 * The receive unit: takes a frame off the wire, filters it, writes it through the descriptor ring
 * into the host's memory. [8254x §3.2]
 *
 * A frame that finds no descriptor stays on the wire (the wire is our FIFO) and counts in RNBC; only
 * a frame that can never fit is lost (MPC, RXO). The FCS of a delivered frame is four zero bytes:
 * there was none on the way, so a real one would prove nothing. Short frames are padded to 60 bytes.
 */
import {
  CTRL_VME,
  ICR_RXDMT0,
  ICR_RXO,
  RCTL_BSEX,
  RCTL_BSIZE_SHIFT,
  RCTL_EN,
  RCTL_LPE,
  RCTL_PMCF,
  RCTL_RDMTS_SHIFT,
  RCTL_SECRC,
  REG,
  type Register,
  RX_DESC,
  RX_STATUS_DD,
  RX_STATUS_EOP,
  RX_STATUS_PIF,
  RX_STATUS_VP,
} from '#common/nic/e1000';
import { get16 } from '#common/wire/bytes';
import { DescriptorRing } from './ring.ts';
import { RxChecksum } from './rx_checksum.ts';
import { filterAddress, filterVlan, INEXACT, REJECTED } from './rx_filter.ts';
import type { UnitParts } from './unit.ts';

const CTRL = REG.CTRL.offset >>> 2;
const RCTL = REG.RCTL.offset >>> 2;
const RXCSUM = REG.RXCSUM.offset >>> 2;
const VET = REG.VET.offset >>> 2;

const MIN_FRAME = 60;
const FCS = 4;
/** Without RCTL.LPE, FCS included; a VLAN tag may make it 4 more than Ethernet's 1518. */
const MAX_NORMAL = 1522;
const MAX_LONG = 16384;
const TAG_AT = 12;
/** MAC control frames. [IEEE 802.3 §31.4, §31B] */
const TYPE_MAC_CONTROL = 0x8808;
const OPCODE_AT = 14;
const OPCODE_PAUSE = 1;
const PAUSE_TIME_AT = 16;
const PAUSE_END = 18;
const WORD = 2 ** 32;

const WAIT = 0;
const ROOM = 1;
const LOST = 2;

const RING = {
  baseLow: REG.RDBAL,
  baseHigh: REG.RDBAH,
  length: REG.RDLEN,
  head: REG.RDH,
  tail: REG.RDT,
} as const;

export class Receiver {
  readonly #parts: UnitParts;
  readonly #ring: DescriptorRing;
  readonly #checksum: RxChecksum;
  /** The frame on offer was refused before: it has been counted. */
  #refused = false;

  /** `parts.scratch`: MAX_LONG bytes to rebuild a frame in. */
  constructor(parts: UnitParts) {
    this.#parts = parts;
    this.#ring = new DescriptorRing(parts.regs, RING);
    this.#checksum = new RxChecksum(parts.host.memory);
  }

  reset(): void {
    this.#refused = false;
  }

  /**
   * Offers a frame without FCS; false: no descriptor now. `sound`: its checksums are known to be right. `lossy`: it
   * cannot be offered again.
   */
  receive(offset: number, length: number, sound: boolean, lossy: boolean): boolean {
    const { regs, statistics, host } = this.#parts;
    const { u8 } = host.memory;
    const rctl = regs[RCTL] as number;
    if ((rctl & RCTL_EN) === 0 || length < 14) return true;
    const onWire = Math.max(length, MIN_FRAME) + FCS;
    const type = get16(u8, offset + TAG_AT);
    const tagged = type === ((regs[VET] as number) & 0xffff) && length >= 18;
    const filter = this.#filter(offset, length, type, tagged);
    const tooLong = onWire > (rctl & RCTL_LPE ? MAX_LONG : MAX_NORMAL);
    if (filter === REJECTED || tooLong) {
      this.#refused = false;
      statistics.rxSeen(onWire);
      if (filter !== REJECTED) {
        statistics.count(REG.ROC);
        statistics.count(REG.RLEC);
      }
      return true;
    }
    const stripped = tagged && (regs[CTRL] as number) & CTRL_VME ? 4 : 0;
    const total = onWire - stripped - (rctl & RCTL_SECRC ? FCS : 0);
    const size = bufferSize(rctl);
    const admitted = this.#admit(total <= size ? 1 : Math.ceil(total / size), lossy, onWire);
    if (admitted !== ROOM) return admitted === LOST;
    const rxcsum = regs[RXCSUM] as number;
    if (tagged) this.#checksum.examine(offset, length, get16(u8, offset + 16), 18, stripped, rxcsum, sound);
    else this.#checksum.examine(offset, length, type, 14, 0, rxcsum, sound);
    const status =
      (filter === INEXACT ? RX_STATUS_PIF : 0) | (stripped ? RX_STATUS_VP : 0) | this.#checksum.status;
    const special = stripped ? get16(u8, offset + 14) : 0;
    this.#deliver(offset, length, stripped, total, size, status, special);
    statistics.rxSeen(onWire);
    statistics.rxGood(offset, onWire);
    this.#parts.interrupts.received(onWire);
    return true;
  }

  /** Writes one frame through as many descriptors as it takes; they are free. */
  #deliver(
    offset: number,
    length: number,
    stripped: number,
    total: number,
    size: number,
    status: number,
    special: number,
  ): void {
    const { counters } = this.#parts;
    counters.rxPackets++;
    counters.rxBytes += length;
    if (total <= size) {
      let source = offset;
      let bytes = length;
      if (stripped > 0) {
        source = this.#rebuild(offset, length, stripped, total);
        bytes = total;
      }
      this.#fill(source, Math.min(bytes, total), total, status | RX_STATUS_EOP, special);
      return;
    }
    const source = this.#rebuild(offset, length, stripped, total);
    for (let at = 0; at < total; at += size) {
      const bytes = Math.min(size, total - at);
      if (at + bytes < total) this.#fill(source + at, bytes, bytes, status & RX_STATUS_VP, special);
      else this.#fill(source + at, bytes, bytes, status | RX_STATUS_EOP, special);
    }
  }

  /** The frame as the host sees it, in the scratch area: without the tag, padded, with FCS if wanted. */
  #rebuild(offset: number, length: number, stripped: number, total: number): number {
    const { scratch, host } = this.#parts;
    const { u8 } = host.memory;
    u8.copyWithin(scratch, offset, offset + TAG_AT);
    u8.copyWithin(scratch + TAG_AT, offset + TAG_AT + stripped, offset + length);
    u8.fill(0, scratch + length - stripped, scratch + total);
    return scratch;
  }

  /** Uses up one descriptor: `bytes` from `source`, zeros up to `total`. */
  #fill(source: number, bytes: number, total: number, status: number, special: number): void {
    const { host } = this.#parts;
    const { u8, u32, i32 } = host.memory;
    const at = this.#ring.address;
    const descriptor = host.dma.read(at, RX_DESC.SIZE) >>> 2;
    const address = (u32[descriptor + 1] as number) * WORD + (u32[descriptor] as number);
    const to = host.dma.write(address, total);
    if (to >= 0) {
      u8.copyWithin(to, source, source + bytes);
      for (let n = bytes; n < total; n++) u8[to + n] = 0;
    }
    const back = host.dma.write(at, RX_DESC.SIZE) >> 2;
    if (back >= 0) {
      const { checksum, errors } = this.#checksum;
      u32[back + 2] = total | (checksum << 16);
      // The word with DD goes last: a driver may be watching it from another core.
      const last = status & RX_STATUS_EOP ? errors << 8 : 0;
      Atomics.store(i32, back + 3, status | RX_STATUS_DD | last | (special << 16));
    }
    this.#ring.advance();
  }

  /** ROOM: `needed` descriptors are free; WAIT: offer the frame again; LOST: it is dropped and counted. */
  #admit(needed: number, lossy: boolean, onWire: number): number {
    const { regs, statistics, interrupts, counters, host } = this.#parts;
    const { count, owned: free } = this.#ring;
    if (needed <= free && host.dma.enabled) {
      this.#refused = false;
      const threshold = count >>> (1 + Math.min(((regs[RCTL] as number) >>> RCTL_RDMTS_SHIFT) & 3, 2));
      if (free > threshold && free - needed <= threshold) interrupts.raise(ICR_RXDMT0);
      return ROOM;
    }
    if (!this.#refused) {
      statistics.count(REG.RNBC);
      counters.rxMissed++;
    }
    // A ring of n descriptors never has more than n - 1 free.
    this.#refused = !lossy && (count === 0 || needed < count);
    if (this.#refused) return WAIT;
    statistics.count(REG.MPC);
    statistics.rxSeen(onWire);
    interrupts.raise(ICR_RXO);
    return LOST;
  }

  #filter(offset: number, length: number, type: number, tagged: boolean): number {
    const { regs, host, statistics } = this.#parts;
    const { u8 } = host.memory;
    if (tagged && !filterVlan(regs, get16(u8, offset + 14))) return REJECTED;
    if (type === TYPE_MAC_CONTROL && ((regs[RCTL] as number) & RCTL_PMCF) === 0) {
      statistics.count(controlCounter(u8, offset, length));
      return REJECTED;
    }
    return filterAddress(regs, host.memory, offset);
  }
}

/** Who counts a MAC control frame: a PAUSE that stops or lets go on, or one of no known kind. [8254x §13.7.16-13.7.20] */
function controlCounter(u8: Uint8Array, offset: number, length: number): Register {
  if (length < PAUSE_END || get16(u8, offset + OPCODE_AT) !== OPCODE_PAUSE) return REG.FCRUC;
  return get16(u8, offset + PAUSE_TIME_AT) === 0 ? REG.XONRXC : REG.XOFFRXC;
}

function bufferSize(rctl: number): number {
  const shift = (rctl >>> RCTL_BSIZE_SHIFT) & 3;
  // BSEX with size 0 is reserved; hardware then keeps 2048.
  return rctl & RCTL_BSEX && shift > 0 ? 32768 >>> shift : 2048 >>> shift;
}
