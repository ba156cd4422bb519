/** Reads the MAC address from a NIC's EEPROM through EERD: e1000 and igb, with different bit positions. */
import { L4Error } from '#common/ipc/errors';
import type { Mmio } from '#common/shm/mmio';
import type { Clock } from '../clock.ts';

export interface EerdLayout {
  readonly register: number;
  readonly start: number;
  readonly done: number;
  readonly addressShift: number;
  readonly dataShift: number;
}

const POLL_MS = 1;
const TIMEOUT_MS = 100;
const MAC_WORDS = 3;
const ALL_ONES = 0xffff_ffff;

/** Words 0 to 2, two bytes each, low byte first. Throws L4Error EIO when the EEPROM does not answer in 100 ms. */
export async function readMacWords(mmio: Mmio, eerd: EerdLayout, clock: Clock): Promise<Uint8Array> {
  const mac = new Uint8Array(2 * MAC_WORDS);
  for (let word = 0; word < MAC_WORDS; word++) {
    const value = await readWord(mmio, eerd, clock, word);
    mac[2 * word] = value & 0xff;
    mac[2 * word + 1] = value >>> 8;
  }
  return mac;
}

async function readWord(mmio: Mmio, eerd: EerdLayout, clock: Clock, word: number): Promise<number> {
  mmio.write32(eerd.register, eerd.start | (word << eerd.addressShift));
  for (let waited = 0; ; waited += POLL_MS) {
    const value = mmio.read32(eerd.register);
    if (value === ALL_ONES) {
      throw new L4Error(
        'EIO',
        'Cannot read the MAC address as the NIC does not answer: is the machine gone, or does another driver use this NIC?',
        {
          code: 'IXL_DEVICE_GONE',
        },
      );
    }
    if ((value & eerd.done) !== 0) return value >>> eerd.dataShift;
    if (waited >= TIMEOUT_MS) break;
    await clock.sleep(POLL_MS);
  }
  throw new L4Error('EIO', `Cannot read EEPROM word ${word} as it must be there within ${TIMEOUT_MS} ms`, {
    code: 'IXL_EEPROM',
  });
}
