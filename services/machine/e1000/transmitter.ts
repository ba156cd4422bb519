/**
 * The transmit unit: reads descriptors between TDH and TDT, puts frames together, sends them.
 * [8254x §3.3, §3.4, §3.5]
 *
 * A frame in one legacy descriptor that needs nothing done goes to the wire from where it lies. All
 * others are assembled in the NIC's own memory. One turn is bounded in descriptors and frames; a
 * segmentation that exceeds it goes on in the next turn, from fields that were read once.
 */
import {
  CTRL_VME,
  ICR_TXD_LOW,
  ICR_TXQE,
  RCTL_LBM,
  REG,
  TCTL_EN,
  TCTL_PSP,
  TX_CMD_DEXT,
  TX_CMD_EOP,
  TX_CMD_IC,
  TX_CMD_IDE,
  TX_CMD_IFCS,
  TX_CMD_RS,
  TX_CMD_TSE,
  TX_CMD_VLE,
  TX_DATA_LENGTH,
  TX_DESC,
  TX_DTYP,
  TX_DTYP_CONTEXT,
  TX_DTYP_DATA,
  TX_LEGACY_LENGTH,
  TX_POPTS_IXSM,
  TX_POPTS_TXSM,
  TX_STATUS_DD,
  TXDCTL_LWTHRESH_SHIFT,
} from '#common/nic/e1000';
import { Throttle } from '#common/obs/throttle';
import { put16 } from '#common/wire/bytes';
import { DMA_MAX } from '../nic_model.ts';
import { canSegment, insertChecksum, OffloadContext, SegmentHeader } from './offload.ts';
import { DescriptorRing } from './ring.ts';
import type { UnitParts } from './unit.ts';

const CTRL = REG.CTRL.offset >>> 2;
const RCTL = REG.RCTL.offset >>> 2;
const TCTL = REG.TCTL.offset >>> 2;
const TXDCTL = REG.TXDCTL.offset >>> 2;
const VET = REG.VET.offset >>> 2;

const DESCRIPTORS_PER_TURN = 128;
const FRAMES_PER_TURN = 128;
const MIN_FRAME = 60;
const FCS = 4;
/** Longest frame before padding and FCS. [8254x §3.3.3] */
export const MAX_FRAME = 16288;
const WORD = 2 ** 32;
const NO_TAG = -1;

const RING = {
  baseLow: REG.TDBAL,
  baseHigh: REG.TDBAH,
  length: REG.TDLEN,
  head: REG.TDH,
  tail: REG.TDT,
} as const;

export interface TransmitterParts extends UnitParts {
  /** Sends a finished frame to the wire, or back in loopback mode. */
  readonly emit: (offset: number, length: number, loopback: boolean) => void;
}

export class Transmitter {
  readonly #parts: TransmitterParts;
  readonly #ring: DescriptorRing;
  /** A driver can cause a line as often as it likes. */
  readonly #complaints: Throttle;
  readonly #plain = new OffloadContext();
  readonly #segmentation = new OffloadContext();
  /** What the segmentation in work began with: a context that comes in the middle of it is the next one's. */
  readonly #current = new OffloadContext();
  readonly #header = new SegmentHeader();

  // The data descriptor in work.
  #open = false;
  #address = 0;
  #left = 0;
  #lower = 0;
  #upper = 0;

  // The frame in work: what its first data descriptor said, and how far it is.
  #started = false;
  #length = 0;
  #popts = 0;
  #checksumAt = 0;
  #checksumStart = 0;
  #segmenting = false;
  #headerDone = false;
  #discard = false;
  #tag = NO_TAG;

  // The turn in work.
  #framesLeft = 0;
  #reported = false;
  #allDelayed = true;
  #warnedFcs = false;

  /** `parts.scratch`: MAX_FRAME bytes, with 4 spare ones before them. */
  constructor(parts: TransmitterParts) {
    this.#parts = parts;
    this.#ring = new DescriptorRing(parts.regs, RING);
    this.#complaints = new Throttle(parts.host.log, () => parts.host.now() / 1000);
  }

  reset(): void {
    this.#plain.reset();
    this.#segmentation.reset();
    this.restart();
  }

  /** The driver has written TDH: the ring begins anew, what was read of a frame belongs to the old one. */
  restart(): void {
    this.#open = false;
    this.#newFrame();
  }

  /** One turn. True when there was anything to do. */
  poll(): boolean {
    const { regs, host } = this.#parts;
    if (((regs[TCTL] as number) & TCTL_EN) === 0 || !host.dma.enabled) return false;
    const before = this.#ring.owned;
    if (before === 0) return false;
    this.#framesLeft = FRAMES_PER_TURN;
    this.#reported = false;
    this.#allDelayed = true;
    const turn = Math.min(before, DESCRIPTORS_PER_TURN);
    for (let n = 0; n < turn && this.#framesLeft > 0; n++) {
      if (!this.#step()) break;
      this.#ring.advance();
    }
    this.#interrupt(before, this.#ring.owned);
    return true;
  }

  #interrupt(before: number, after: number): void {
    const { interrupts, regs } = this.#parts;
    if (this.#reported) interrupts.transmitted(this.#allDelayed);
    const low = ((regs[TXDCTL] as number) >>> TXDCTL_LWTHRESH_SHIFT) * 8;
    const causes = (after === 0 ? ICR_TXQE : 0) | (before > low && after <= low && low > 0 ? ICR_TXD_LOW : 0);
    if (causes !== 0) interrupts.raise(causes);
  }

  /** Processes the descriptor at the head; false: not finished, the turn's frames are used up. */
  #step(): boolean {
    const { host } = this.#parts;
    const at = this.#ring.address;
    if (!this.#open) this.#fetch(at);
    if (this.#open) {
      if (!this.#consume()) return false;
      this.#open = false;
      if (this.#lower & TX_CMD_EOP) this.#finish();
    }
    if ((this.#lower & TX_CMD_RS) === 0) return true;
    const back = host.dma.write(at, TX_DESC.SIZE);
    if (back >= 0) Atomics.store(host.memory.i32, (back >>> 2) + 3, (this.#upper & ~0xf) | TX_STATUS_DD);
    this.#reported = true;
    if ((this.#lower & TX_CMD_IDE) === 0) this.#allDelayed = false;
    return true;
  }

  /** Reads one descriptor. Data and legacy descriptors are then open; a context is taken over at once. */
  #fetch(at: number): void {
    const { host } = this.#parts;
    const { u32 } = host.memory;
    const word = host.dma.read(at, TX_DESC.SIZE) >>> 2;
    const low = u32[word] as number;
    const high = u32[word + 1] as number;
    const lower = u32[word + 2] as number;
    const upper = u32[word + 3] as number;
    this.#lower = lower;
    this.#upper = upper;
    if ((lower & TX_CMD_DEXT) === 0) {
      this.#openData(high * WORD + low, lower & TX_LEGACY_LENGTH);
    } else if ((lower & TX_DTYP) === TX_DTYP_DATA) {
      this.#openData(high * WORD + low, lower & TX_DATA_LENGTH);
    } else if ((lower & TX_DTYP) === TX_DTYP_CONTEXT) {
      const context = lower & TX_CMD_TSE ? this.#segmentation : this.#plain;
      context.load(low, high, lower, upper);
    }
  }

  #openData(address: number, length: number): void {
    this.#open = true;
    this.#address = address;
    // A null address moves no data. [8254x §3.3.3]
    this.#left = address === 0 ? 0 : length;
    const extended = (this.#lower & TX_CMD_DEXT) !== 0;
    if (!this.#started) {
      this.#started = true;
      this.#segmenting = extended && (this.#lower & TX_CMD_TSE) !== 0;
      if (this.#segmenting) this.#current.copy(this.#segmentation);
      this.#popts = extended ? this.#upper & (TX_POPTS_IXSM | TX_POPTS_TXSM) : 0;
      this.#checksumAt = (this.#lower >>> 16) & 0xff;
      this.#checksumStart = (this.#upper >>> 8) & 0xff;
    }
    // VLE counts in the descriptor with EOP; when segmenting the first frame leaves long before that.
    const counts = this.#segmenting || (this.#lower & TX_CMD_EOP) !== 0;
    const vme = ((this.#parts.regs[CTRL] as number) & CTRL_VME) !== 0;
    if (counts && vme && this.#lower & TX_CMD_VLE) this.#tag = this.#upper >>> 16;
  }

  /** Takes the open descriptor's bytes; false when the turn's frames are used up before its end. */
  #consume(): boolean {
    if (this.#segmenting) return this.#consumeSegments();
    if (this.#isWhole()) return true;
    while (this.#left > 0) {
      if (this.#length + this.#left > MAX_FRAME) this.#discard = true;
      if (this.#discard) break;
      this.#append(Math.min(this.#left, DMA_MAX));
    }
    this.#left = 0;
    return true;
  }

  /** The short way: sends a frame from where the driver put it. True when it did. */
  #isWhole(): boolean {
    const { host, regs } = this.#parts;
    const length = this.#left;
    const plain = (this.#lower & (TX_CMD_EOP | TX_CMD_IC | TX_CMD_DEXT)) === TX_CMD_EOP;
    if (!plain || this.#length > 0 || this.#tag !== NO_TAG || length > MAX_FRAME || this.#discard)
      return false;
    if (length < ((regs[TCTL] as number) & TCTL_PSP ? MIN_FRAME : 1)) return false;
    this.#emit(host.dma.read(this.#address, length), length);
    this.#newFrame();
    return true;
  }

  #consumeSegments(): boolean {
    const context = this.#current;
    while (this.#left > 0 && !this.#discard) {
      const limit = context.headerLength + (this.#headerDone ? context.mss : 0);
      if (this.#length < limit) {
        this.#append(Math.min(this.#left, DMA_MAX, limit - this.#length));
      } else if (this.#headerDone) {
        if (this.#framesLeft <= 0) return false;
        this.#segment(false);
      } else if (canSegment(context, MAX_FRAME)) {
        this.#header.begin(this.#parts.host.memory, this.#parts.scratch, context);
        this.#headerDone = true;
      } else {
        this.#discard = true;
      }
    }
    this.#left = 0;
    return true;
  }

  /** Copies the next `bytes` of the open descriptor behind what the frame has already. */
  #append(bytes: number): void {
    const { host, scratch } = this.#parts;
    const from = host.dma.read(this.#address, bytes);
    host.memory.u8.copyWithin(scratch + this.#length, from, from + bytes);
    this.#address += bytes;
    this.#left -= bytes;
    this.#length += bytes;
  }

  /** The descriptor with EOP is consumed. */
  #finish(): void {
    if (!this.#started) return; // went the short way
    const { statistics } = this.#parts;
    if (this.#segmenting) {
      const sent = this.#headerDone && !this.#discard;
      if (sent) this.#segment(true);
      statistics.count(sent ? REG.TSCTC : REG.TSCTFC);
      if (!sent) this.#complaints.say('dropped a TCP segmentation whose context does not fit its header');
    } else if (this.#discard) {
      this.#complaints.say(`dropped a frame to send as it is longer than ${MAX_FRAME} bytes`);
    } else if (this.#length > 0) {
      this.#offload();
      this.#send(this.#length);
    }
    this.#newFrame();
  }

  /** Checksums of a frame that is not segmented. */
  #offload(): void {
    const { host, scratch } = this.#parts;
    const { memory } = host;
    if ((this.#lower & (TX_CMD_DEXT | TX_CMD_IC)) === TX_CMD_IC) {
      insertChecksum(memory, scratch, this.#length, this.#checksumStart, this.#checksumAt, 0, 0, false);
    }
    if (this.#popts & TX_POPTS_TXSM) this.#plain.insertTransport(memory, scratch, this.#length, 0);
    if (this.#popts & TX_POPTS_IXSM) this.#plain.insertIp(memory, scratch, this.#length);
  }

  /** Sends header and payload that lie in the scratch area as one segment; the header stays. */
  #segment(last: boolean): void {
    const { host, scratch } = this.#parts;
    const { headerLength } = this.#current;
    const ip = (this.#popts & TX_POPTS_IXSM) !== 0;
    const transport = (this.#popts & TX_POPTS_TXSM) !== 0;
    this.#header.next(host.memory, scratch, this.#length - headerLength, last, ip, transport);
    this.#send(this.#length);
    this.#length = headerLength;
  }

  /** Sends `length` bytes of the scratch area, padded and tagged as asked. */
  #send(length: number): void {
    const { host, regs, scratch } = this.#parts;
    const { u8 } = host.memory;
    let bytes = length;
    if (bytes < MIN_FRAME && (regs[TCTL] as number) & TCTL_PSP) {
      u8.fill(0, scratch + bytes, scratch + MIN_FRAME);
      bytes = MIN_FRAME;
    }
    if (this.#tag === NO_TAG || bytes < 12) {
      this.#emit(scratch, bytes);
      return;
    }
    const type = (regs[VET] as number) & 0xffff;
    u8.copyWithin(scratch - 4, scratch, scratch + 12);
    put16(u8, scratch + 8, type);
    put16(u8, scratch + 10, this.#tag);
    this.#emit(scratch - 4, bytes + 4);
    // The addresses go back: they are the next segment's as well.
    u8.copyWithin(scratch, scratch - 4, scratch + 8);
  }

  #emit(offset: number, length: number): void {
    const { statistics, counters, regs, host } = this.#parts;
    if ((this.#lower & (TX_CMD_IFCS | TX_CMD_EOP)) === TX_CMD_EOP && !this.#warnedFcs) {
      this.#warnedFcs = true;
      host.log('a frame was sent without IFCS: on a real link its last 4 bytes would be taken for the FCS');
    }
    this.#framesLeft--;
    counters.txPackets++;
    counters.txBytes += length;
    statistics.txGood(offset, length + FCS);
    this.#parts.emit(offset, length, ((regs[RCTL] as number) & RCTL_LBM) !== 0);
  }

  #newFrame(): void {
    this.#started = false;
    this.#length = 0;
    this.#segmenting = false;
    this.#headerDone = false;
    this.#discard = false;
    this.#tag = NO_TAG;
  }
}
