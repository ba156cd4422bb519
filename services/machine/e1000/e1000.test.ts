import { describe, expect, it } from 'vitest';
import {
  CTRL_RST,
  CTRL_SLU,
  EECD_CS,
  EECD_DI,
  EECD_DO,
  EECD_GNT,
  EECD_REQ,
  EECD_SK,
  EEPROM,
  EERD_DONE,
  EERD_START,
  ICR_LSC,
  ICR_MDAC,
  ICR_RXT0,
  ICR_TXDW,
  MDIC_ERROR,
  MDIC_INT,
  MDIC_OP_READ,
  MDIC_READY,
  REG,
  STATUS_LU,
  STATUS_SPEED,
  STATUS_SPEED_1000,
} from '#common/nic/e1000';
import { frame, TinyDriver } from '../testing/tiny_driver.ts';

const readEerd = (driver: TinyDriver, word: number): number => {
  driver.write(REG.EERD, (word << 8) | EERD_START);
  const value = driver.read(REG.EERD);
  expect(value & EERD_DONE).not.toBe(0);
  return value >>> 16;
};

/** Reads a word as drivers that know nothing of EERD do: by clocking the chip's pins. */
function readMicrowire(driver: TinyDriver, word: number): number {
  const clock = (pins: number): void => {
    driver.write(REG.EECD, EECD_REQ | pins | EECD_SK);
    driver.write(REG.EECD, EECD_REQ | pins);
  };
  driver.write(REG.EECD, EECD_REQ);
  expect(driver.read(REG.EECD) & EECD_GNT).not.toBe(0);
  driver.write(REG.EECD, EECD_REQ | EECD_CS);
  for (const bit of (0b110_000000 | word).toString(2)) clock(EECD_CS | (bit === '1' ? EECD_DI : 0));
  let value = 0;
  for (let n = 0; n < 16; n++) {
    clock(EECD_CS);
    value = (value << 1) | (driver.read(REG.EECD) & EECD_DO ? 1 : 0);
  }
  driver.write(REG.EECD, 0);
  return value;
}

const readPhy = (driver: TinyDriver, register: number, phy = 1): number => {
  driver.write(REG.MDIC, MDIC_OP_READ | (phy << 21) | (register << 16));
  return driver.read(REG.MDIC);
};

describe('E1000 registers', () => {
  it('read32() does give the MAC of the EEPROM and a checksum of 0xbaba when read through EERD', () => {
    const driver = new TinyDriver();
    const words = Array.from({ length: EEPROM.WORDS }, (_, n) => readEerd(driver, n));
    expect(words.slice(0, 3)).toEqual([0x5452, 0x1200, 0x5634]);
    expect(words.reduce((sum, word) => (sum + word) & 0xffff, 0)).toBe(EEPROM.SUM);
  });

  it('read32() does give the same words when EECD is driven bit by bit', () => {
    const driver = new TinyDriver();
    for (const word of [0, 1, 2, 0x0d, 63]) expect(readMicrowire(driver, word)).toBe(readEerd(driver, word));
  });

  it('read32() does show the MAC in RAL0 and RAH0 when nobody has written them', () => {
    const driver = new TinyDriver();
    expect(driver.read(REG.RAL0)).toBe(0x12005452);
    expect(driver.read(REG.RAH0)).toBe(0x80005634);
  });

  it('write32() of MDIC does read a negotiated Marvell PHY when the address is 1, an error otherwise', () => {
    const driver = new TinyDriver();
    expect(readPhy(driver, 2) & 0xffff).toBe(0x0141);
    expect(readPhy(driver, 3) & 0xfff0).toBe(0x0c20);
    expect(readPhy(driver, 1) & 0x24).toBe(0x24);
    expect(readPhy(driver, 1) & MDIC_READY).not.toBe(0);
    expect(readPhy(driver, 1, 2) & MDIC_ERROR).not.toBe(0);
    driver.nic.linkChanged(false);
    expect(readPhy(driver, 1) & 0x24).toBe(0);
    driver.write(REG.MDIC, MDIC_OP_READ | MDIC_INT | (1 << 21));
    expect(driver.read(REG.ICR) & ICR_MDAC).not.toBe(0);
  });

  it('write32() does leave registers alone that software can only read', () => {
    const driver = new TinyDriver();
    const readOnly = Object.values(REG).filter(({ kind }) => kind === 'RO');
    for (const register of readOnly) {
      const before = driver.read(register);
      driver.write(register, 0xffff_ffff);
      expect(driver.read(register)).toBe(before);
    }
    driver.write(REG.RDLEN, 0xffff_ffff);
    expect(driver.read(REG.RDLEN)).toBe(0x000f_ff80);
  });

  it('linkChanged() does set STATUS.LU and raise LSC when the cable comes and goes', () => {
    const driver = new TinyDriver();
    expect(driver.read(REG.STATUS) & (STATUS_LU | STATUS_SPEED)).toBe(STATUS_LU | STATUS_SPEED_1000);
    driver.nic.linkChanged(false);
    expect(driver.read(REG.STATUS) & STATUS_LU).toBe(0);
    expect(driver.read(REG.ICR)).toBe(ICR_LSC);
    driver.write(REG.CTRL, 0);
    driver.nic.linkChanged(true);
    expect(driver.read(REG.STATUS) & STATUS_LU).toBe(0);
    driver.write(REG.CTRL, CTRL_SLU);
    expect(driver.read(REG.STATUS) & STATUS_LU).toBe(STATUS_LU);
  });

  it('write32() of CTRL.RST does stop everything, lower the interrupt and keep the link', () => {
    const driver = new TinyDriver();
    driver.start();
    driver.write(REG.IMS, ICR_RXT0);
    driver.offer(frame(60));
    expect(driver.irq).toBe(true);
    driver.write(REG.CTRL, CTRL_RST | CTRL_SLU);
    expect(driver.irq).toBe(false);
    for (const register of [REG.RCTL, REG.TCTL, REG.RDH, REG.RDT, REG.IMS, REG.ICR, REG.GPRC])
      expect(driver.read(register)).toBe(0);
    expect(driver.read(REG.CTRL) & CTRL_RST).toBe(0);
    expect(driver.read(REG.STATUS) & STATUS_LU).toBe(STATUS_LU);
    expect(driver.read(REG.RAL0)).toBe(0x12005452);
  });

  it('read32() does give all ones and write32() nothing when the offset is none of a register', () => {
    const driver = new TinyDriver();
    for (const offset of [0x20000, 0xffff_fffc, 2, 0x2811]) {
      driver.nic.write32(offset, 0x1234);
      expect(driver.nic.read32(offset)).toBe(0xffff_ffff);
    }
  });
});

describe('E1000 interrupts', () => {
  it('setIrq() is called with the level of ICR and IMS when either changes', () => {
    const driver = new TinyDriver();
    driver.write(REG.ICS, ICR_RXT0);
    expect(driver.irq).toBe(false);
    driver.write(REG.IMS, ICR_RXT0 | ICR_TXDW);
    expect(driver.read(REG.IMS)).toBe(ICR_RXT0 | ICR_TXDW);
    expect(driver.irq).toBe(true);
    driver.write(REG.IMC, ICR_RXT0);
    expect(driver.irq).toBe(false);
    driver.write(REG.IMS, ICR_RXT0);
    expect(driver.read(REG.ICR)).toBe(ICR_RXT0);
    expect(driver.irq).toBe(false);
    expect(driver.read(REG.ICR)).toBe(0);
    driver.write(REG.ICS, ICR_RXT0);
    driver.write(REG.ICR, ICR_RXT0);
    expect(driver.irq).toBe(false);
  });

  it('ITR does delay the second interrupt and never the first when frames come close together', () => {
    const driver = new TinyDriver();
    driver.start();
    driver.write(REG.ITR, 500); // 128 us
    driver.write(REG.IMS, ICR_RXT0);
    driver.advance(10_000);
    driver.offer(frame(60));
    expect(driver.assertions).toBe(1);
    driver.read(REG.ICR);
    driver.offer(frame(60));
    driver.offer(frame(60));
    expect(driver.irq).toBe(false);
    driver.advance(127);
    expect(driver.irq).toBe(false);
    driver.advance(1);
    expect(driver.irq).toBe(true);
    expect(driver.assertions).toBe(2);
  });

  it('RDTR does restart with every frame and RADV does end the wait when traffic goes on', () => {
    const driver = new TinyDriver(64);
    driver.start();
    driver.write(REG.RDTR, 10); // 10.24 us
    driver.write(REG.RADV, 20); // 20.48 us
    driver.write(REG.IMS, ICR_RXT0);
    for (let n = 0; n < 3; n++) {
      driver.offer(frame(60));
      expect(driver.irq).toBe(false);
      driver.advance(8);
    }
    expect(driver.irq).toBe(true);
    driver.read(REG.ICR);
    driver.offer(frame(60));
    driver.advance(10);
    expect(driver.irq).toBe(false);
    driver.advance(1);
    expect(driver.irq).toBe(true);
  });

  it('RDTR.FPD and RSRPD do interrupt at once when a delay is set', () => {
    const driver = new TinyDriver();
    driver.start();
    driver.write(REG.IMS, 0x1ffff);
    driver.write(REG.RDTR, 1000);
    driver.offer(frame(60));
    driver.write(REG.RDTR, 0x8000_0000 + 1000);
    expect(driver.read(REG.ICR)).toBe(ICR_RXT0);
    driver.write(REG.RSRPD, 64);
    driver.offer(frame(60));
    expect(driver.irq).toBe(true);
  });
});
