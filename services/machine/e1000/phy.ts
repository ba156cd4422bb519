/**
 * The internal PHY as the MDI control register shows it: a Marvell 88E1011 that has negotiated
 * 1000 Mbit/s full duplex with its partner at once. [IEEE 802.3 §22.2.4; 8254x §13.4, MDIC]
 */
import {
  MDIC_DATA,
  MDIC_ERROR,
  MDIC_OP_READ,
  MDIC_OP_WRITE,
  MDIC_PHY_SHIFT,
  MDIC_READY,
  MDIC_REG_SHIFT,
  PHY_ADDRESS,
} from '#common/nic/e1000';

const CONTROL = 0;
const STATUS = 1;
const PARTNER = 5;
const EXPANSION = 6;
const STATUS_1000T = 10;
const SPECIFIC_STATUS = 17;

const CONTROL_RESET = 0x8000;
const CONTROL_RESTART = 0x0200;
const STATUS_LINK = 0x0004;
const STATUS_NEGOTIATED = 0x0020;
const SPECIFIC_LINK = 0x0400;

/** Register values of a PHY with link, as after a reset. */
const RESET: readonly (readonly [number, number])[] = [
  [CONTROL, 0x1140], // autonegotiation, full duplex, 1000
  [STATUS, 0x7949], // 10/100 in both modes, extended status, able to negotiate
  [2, 0x0141], // Marvell
  [3, 0x0c20], // 88E1011
  [4, 0x0de1], // we offer everything
  [PARTNER, 0x45e1], // so does the partner
  [EXPANSION, 0x0003], // partner negotiates, page received
  [9, 0x0e00], // 1000 full and half duplex offered
  [STATUS_1000T, 0x3c00], // receivers good, partner can 1000
  [15, 0x3000], // extended status: 1000BASE-T
  [16, 0x0068], // automatic crossover
  [SPECIFIC_STATUS, 0xa800], // 1000, full duplex, resolved
  [20, 0x0d60],
];
/** Registers that software may write. */
const WRITABLE = new Set([CONTROL, 4, 7, 9, 16, 18, 20, 22, 24, 26, 29, 30, 31]);

export class Phy {
  linkUp = false;
  readonly #registers = new Uint16Array(32);

  constructor() {
    this.reset();
  }

  reset(): void {
    this.#registers.fill(0);
    for (const [register, value] of RESET) this.#registers[register] = value;
  }

  read(register: number): number {
    const value = this.#registers[register] as number;
    if (register === STATUS) return this.linkUp ? value | STATUS_LINK | STATUS_NEGOTIATED : value;
    if (register === SPECIFIC_STATUS) return this.linkUp ? value | SPECIFIC_LINK : 0;
    // What the partner said is known only after a negotiation.
    if (register === PARTNER || register === EXPANSION || register === STATUS_1000T)
      return this.linkUp ? value : 0;
    return value;
  }

  write(register: number, value: number): void {
    if (!WRITABLE.has(register)) return;
    if (register === CONTROL && value & CONTROL_RESET) this.reset();
    else this.#registers[register] = register === CONTROL ? value & ~CONTROL_RESTART : value;
  }

  /** Performs the cycle that a write to MDIC asks for; returns what the register holds then. */
  mdic(command: number): number {
    const register = (command >>> MDIC_REG_SHIFT) & 0x1f;
    const kept = command & 0x2fff_ffff & ~(MDIC_READY | MDIC_ERROR);
    if (((command >>> MDIC_PHY_SHIFT) & 0x1f) !== PHY_ADDRESS) return kept | MDIC_READY | MDIC_ERROR;
    if (command & MDIC_OP_READ) return (kept & ~MDIC_DATA) | this.read(register) | MDIC_READY;
    if (command & MDIC_OP_WRITE) this.write(register, command & MDIC_DATA);
    return kept | MDIC_READY;
  }
}
