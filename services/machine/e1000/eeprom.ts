/**
 * The 82540EM's EEPROM: 64 words behind EERD (one word per request) and behind EECD, where software
 * drives the pins of the microwire chip itself. Read-only. [8254x §5.3.1, §5.6; 93C46 data sheet]
 */

import {
  EECD_CS,
  EECD_DI,
  EECD_DO,
  EECD_FWE_DISABLE,
  EECD_GNT,
  EECD_PRES,
  EECD_REQ,
  EECD_SK,
  EEPROM,
  EERD_ADDR_SHIFT,
  EERD_DATA_SHIFT,
  EERD_DONE,
  EERD_START,
} from '#common/nic/e1000';
import { DEVICE_82540EM, VENDOR_INTEL } from '#common/nic/pci';

/** Intel's subsystem id of the PRO/1000 MT desktop adapter. */
export const SUBSYSTEM_PRO_1000_MT = 0x001e;

const ADDRESS_BITS = 6;
/** Start bit, two bits of operation, address. */
const COMMAND_BITS = 3 + ADDRESS_BITS;
const OP_READ = 0b110;
/** Bits that software drives. */
const EECD_WRITABLE = EECD_SK | EECD_CS | EECD_DI | 0x30 | EECD_REQ;

/** The image: MAC, ids and a checksum that drivers verify. [8254x §5.6] */
export function eepromImage(mac: Uint8Array): Uint16Array {
  const words = new Uint16Array(EEPROM.WORDS).fill(0xffff, 0x10, EEPROM.CHECKSUM);
  for (let n = 0; n < 3; n++)
    words[EEPROM.MAC + n] = (mac[2 * n] as number) | ((mac[2 * n + 1] as number) << 8);
  words[0x05] = 0x1000; // image version
  words[0x08] = 0x0000; // board number, two words
  words[0x09] = 0x0001;
  words[0x0a] = 0x4000; // initialization control 1: the signature 01 makes the image valid
  words[0x0b] = SUBSYSTEM_PRO_1000_MT;
  words[0x0c] = VENDOR_INTEL;
  words[0x0d] = DEVICE_82540EM;
  words[0x0e] = VENDOR_INTEL;
  words[0x0f] = 0x0000; // initialization control 2
  const sum = words.subarray(0, EEPROM.CHECKSUM).reduce((total, word) => total + word, 0);
  words[EEPROM.CHECKSUM] = EEPROM.SUM - sum;
  return words;
}

export class Eeprom {
  readonly #words: Uint16Array;
  #pins = EECD_FWE_DISABLE;
  #bitsIn = 0;
  #command = 0;
  /** What the chip shifts out: bit 16 is the dummy zero, then 16 data bits. */
  #out = 0;
  #bitsOut = 0;

  constructor(mac: Uint8Array) {
    this.#words = eepromImage(mac);
  }

  word(address: number): number {
    return this.#words[address & (EEPROM.WORDS - 1)] as number;
  }

  /** What EERD holds after `value` was written to it; the read is done at once. */
  eerd(value: number): number {
    if ((value & EERD_START) === 0) return value;
    const address = (value >>> EERD_ADDR_SHIFT) & 0xff;
    return ((this.word(address) << EERD_DATA_SHIFT) | (address << EERD_ADDR_SHIFT) | EERD_DONE) >>> 0;
  }

  readEecd(): number {
    const granted = this.#pins & EECD_REQ ? EECD_GNT : 0;
    return this.#pins | granted | EECD_PRES | (this.#dataOut() ? EECD_DO : 0);
  }

  writeEecd(value: number): void {
    const rising = (value & ~this.#pins & EECD_SK) !== 0;
    this.#pins = value & EECD_WRITABLE;
    if ((value & EECD_CS) === 0) {
      this.#bitsIn = 0;
      this.#command = 0;
      this.#bitsOut = 0;
    } else if (rising) {
      this.#clock((value & EECD_DI) !== 0);
    }
  }

  /** The data pin floats high when the chip has nothing to say, which also reads as "ready". */
  #dataOut(): boolean {
    return this.#bitsOut === 0 || ((this.#out >>> (this.#bitsOut - 1)) & 1) === 1;
  }

  #clock(bit: boolean): void {
    if (this.#bitsIn === COMMAND_BITS) {
      if (this.#bitsOut > 0) this.#bitsOut--;
      return;
    }
    if (this.#bitsIn === 0 && !bit) return; // before the start bit
    this.#command = (this.#command << 1) | (bit ? 1 : 0);
    if (++this.#bitsIn < COMMAND_BITS || this.#command >>> ADDRESS_BITS !== OP_READ) return;
    this.#out = this.word(this.#command);
    this.#bitsOut = 17;
  }
}
