/**
 * The 82540EM as a model: registers over receiver, transmitter, interrupts, EEPROM and PHY.
 *
 * Registers without behaviour are plain storage, as in hardware. [8254x §13]
 */
import {
  BAR0_SIZE,
  BAR1_SIZE,
  CTRL_EXT_EE_RST,
  CTRL_FD,
  CTRL_PHY_RST,
  CTRL_RST,
  CTRL_SLU,
  ICR_LSC,
  ICR_MDAC,
  MDIC_INT,
  RAH_AV,
  REG,
  type Register,
  STATUS_FD,
  STATUS_LU,
  STATUS_SPEED_1000,
  TCTL_SWXOFF,
} from '#common/nic/e1000';
import { DEVICE_82540EM, VENDOR_INTEL } from '#common/nic/pci';
import type { NicCounters, NicHost, NicModel } from '../nic_model.ts';
import { type PciIdentity, pciX, powerManagement } from '../pci/config_space.ts';
import { Eeprom, SUBSYSTEM_PRO_1000_MT } from './eeprom.ts';
import { Interrupts } from './interrupts.ts';
import { Phy } from './phy.ts';
import { Receiver } from './receiver.ts';
import { isStatistic, Statistics } from './statistics.ts';
import { Transmitter } from './transmitter.ts';

/** Bits that software can change in a register where that is neither all nor none; the others keep their value. */
const MASKS: readonly (readonly [Register, number])[] = [
  [REG.RDBAL, 0xffff_fff0],
  [REG.TDBAL, 0xffff_fff0],
  [REG.RDLEN, 0x000f_ff80],
  [REG.TDLEN, 0x000f_ff80],
  [REG.RDH, 0xffff],
  [REG.RDT, 0xffff],
  [REG.TDH, 0xffff],
  [REG.TDT, 0xffff],
  [REG.ITR, 0xffff],
  [REG.RDTR, 0xffff],
  [REG.RADV, 0xffff],
  [REG.TIDV, 0xffff],
  [REG.TADV, 0xffff],
  [REG.VET, 0xffff],
  [REG.FCT, 0xffff],
  [REG.FCAH, 0xffff],
];

const CTRL = REG.CTRL.offset >>> 2;

const TX_SCRATCH = 64;
const RX_SCRATCH = 0x8000;

const IDENTITY: PciIdentity = {
  vendor: VENDOR_INTEL,
  device: DEVICE_82540EM,
  revision: 2,
  classCode: 0x020000,
  subsystemVendor: VENDOR_INTEL,
  subsystem: SUBSYSTEM_PRO_1000_MT,
  bars: [
    { kind: 'memory', size: BAR0_SIZE },
    { kind: 'io', size: BAR1_SIZE },
  ],
  interruptPin: 1,
  capabilities: [powerManagement(0xdc), pciX(0xe4, 0xf8)],
};

export class E1000 implements NicModel {
  readonly name = 'e1000';
  readonly pci = IDENTITY;
  readonly counters: NicCounters = { rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0, rxMissed: 0 };
  readonly #host: NicHost;
  readonly #regs = new Uint32Array(BAR0_SIZE >>> 2);
  readonly #masks = new Uint32Array(BAR0_SIZE >>> 2).fill(0xffff_ffff);
  readonly #eeprom: Eeprom;
  readonly #phy = new Phy();
  readonly #interrupts: Interrupts;
  readonly #statistics: Statistics;
  readonly #receiver: Receiver;
  readonly #transmitter: Transmitter;

  /** `mac`: 6 bytes, burnt into the EEPROM. */
  constructor(host: NicHost, mac: Uint8Array) {
    this.#host = host;
    this.#eeprom = new Eeprom(mac);
    this.#interrupts = new Interrupts(host);
    this.#statistics = new Statistics(this.#regs, host.memory);
    for (const { offset, kind } of Object.values(REG)) if (kind !== 'RW') this.#masks[offset >>> 2] = 0;
    for (const [register, mask] of MASKS) this.#masks[register.offset >>> 2] = mask;
    const parts = {
      host,
      regs: this.#regs,
      interrupts: this.#interrupts,
      statistics: this.#statistics,
      counters: this.counters,
    };
    this.#receiver = new Receiver({ ...parts, scratch: host.scratch + RX_SCRATCH });
    this.#transmitter = new Transmitter({
      ...parts,
      scratch: host.scratch + TX_SCRATCH,
      emit: (offset, length, loopback) => this.#emit(offset, length, loopback),
    });
    this.reset();
  }

  reset(): void {
    this.#regs.fill(0);
    for (const { offset, reset } of Object.values(REG)) this.#regs[offset >>> 2] = reset;
    this.#loadMac();
    this.#interrupts.reset();
    this.#receiver.reset();
    this.#transmitter.reset();
  }

  receive(offset: number, length: number, sound = false): boolean {
    return !this.#linkUp || this.#receiver.receive(offset, length, sound, false);
  }

  linkChanged(up: boolean): void {
    const before = this.#linkUp;
    this.#phy.linkUp = up;
    if (before !== this.#linkUp) this.#interrupts.raise(ICR_LSC);
  }

  poll(): boolean {
    return this.#transmitter.poll();
  }

  timer(): void {
    this.#interrupts.timer();
  }

  read32(offset: number): number {
    switch (offset) {
      case REG.ICR.offset:
        return this.#interrupts.readIcr();
      case REG.IMS.offset:
        return this.#interrupts.mask;
      case REG.STATUS.offset:
        return this.#status();
      case REG.EECD.offset:
        return this.#eeprom.readEecd();
      case REG.ICS.offset:
      case REG.IMC.offset:
        return 0;
      default:
        // An access that no bus cycle can make reads as one that nobody answers.
        if (offset >= BAR0_SIZE || offset & 3) return 0xffff_ffff;
        return isStatistic(offset) ? this.#statistics.read(offset) : (this.#regs[offset >>> 2] as number);
    }
  }

  write32(offset: number, value: number): void {
    if (offset >= BAR0_SIZE || offset & 3 || isStatistic(offset)) return;
    if (offset === REG.CTRL.offset) {
      this.#control(value);
      return;
    }
    const index = offset >>> 2;
    const mask = this.#masks[index] as number;
    this.#regs[index] = ((this.#regs[index] as number) & ~mask) | (value & mask);
    if (this.#interruptRegister(offset, value)) return;
    switch (offset) {
      case REG.CTRL_EXT.offset:
        this.#regs[index] = value & ~CTRL_EXT_EE_RST;
        if (value & CTRL_EXT_EE_RST) this.#loadMac();
        break;
      case REG.EECD.offset:
        this.#eeprom.writeEecd(value);
        break;
      case REG.EERD.offset:
        this.#regs[index] = this.#eeprom.eerd(value);
        break;
      case REG.MDIC.offset:
        this.#regs[index] = this.#phy.mdic(value);
        if (value & MDIC_INT) this.#interrupts.raise(ICR_MDAC);
        break;
      case REG.TCTL.offset:
        this.#regs[index] = value & ~TCTL_SWXOFF;
        break;
      case REG.TDH.offset:
        this.#transmitter.restart();
        break;
      default:
        break;
    }
  }

  /** True when `offset` is one of the interrupt unit's registers. */
  #interruptRegister(offset: number, value: number): boolean {
    switch (offset) {
      case REG.ICR.offset:
        this.#interrupts.clear(value);
        return true;
      case REG.ICS.offset:
        this.#interrupts.raise(value & 0x1_ffff);
        return true;
      case REG.IMS.offset:
        this.#interrupts.setMask(value);
        return true;
      case REG.IMC.offset:
        this.#interrupts.clearMask(value);
        return true;
      case REG.ITR.offset:
        this.#interrupts.setItr(value);
        return true;
      case REG.RDTR.offset:
        this.#interrupts.setRxDelay(value);
        return true;
      case REG.RADV.offset:
        this.#interrupts.setRxAbsolute(value);
        return true;
      case REG.TIDV.offset:
        this.#interrupts.setTxDelay(value);
        return true;
      case REG.TADV.offset:
        this.#interrupts.setTxAbsolute(value);
        return true;
      case REG.RSRPD.offset:
        this.#interrupts.setSmallPacket(value);
        return true;
      default:
        return false;
    }
  }

  /** SLU lets the MAC see the PHY's link; without it the link is down for the driver. [8254x §13.4.1] */
  get #linkUp(): boolean {
    return this.#phy.linkUp && ((this.#regs[CTRL] as number) & CTRL_SLU) !== 0;
  }

  #status(): number {
    const fullDuplex = (this.#regs[CTRL] as number) & CTRL_FD ? STATUS_FD : 0;
    return STATUS_SPEED_1000 | fullDuplex | (this.#linkUp ? STATUS_LU : 0);
  }

  #control(value: number): void {
    if (value & CTRL_RST) {
      this.reset();
      return;
    }
    if (value & CTRL_PHY_RST) this.#phy.reset();
    const before = this.#linkUp;
    this.#regs[CTRL] = value & ~CTRL_PHY_RST;
    if (before !== this.#linkUp) this.#interrupts.raise(ICR_LSC);
  }

  /** Hardware loads RAL0/RAH0 from the EEPROM after a reset. [8254x §13.5.2] */
  #loadMac(): void {
    const word = (n: number): number => this.#eeprom.word(n);
    this.#regs[REG.RAL0.offset >>> 2] = word(0) | (word(1) << 16);
    this.#regs[REG.RAH0.offset >>> 2] = (word(2) | RAH_AV) >>> 0;
  }

  #emit(offset: number, length: number, loopback: boolean): void {
    if (loopback) this.#receiver.receive(offset, length, false, true);
    else if (this.#linkUp) this.#host.transmit(offset, length);
  }
}
