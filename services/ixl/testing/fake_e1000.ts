/**
 * The device's half for tests of the driver: registers in a map, an EEPROM, and just enough DMA to
 * take and give frames. It can lie about lengths and status. Every register access is recorded.
 * The full model is services/machine.
 */
import * as nic from '#common/nic/e1000';
import type { Mmio } from '#common/shm/mmio';
import type { DeviceView } from './fake_dma.ts';

const { REG } = nic;
const FCS = 4;

export class FakeE1000 implements Mmio {
  /** `W RDT 0xff`, `R STATUS`, in order. */
  readonly accesses: string[] = [];
  /** Frames that the driver has sent. */
  readonly sent: Uint8Array[] = [];
  readonly mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
  linkUp = true;
  eepromAnswers = true;
  /** Sends frames at once when TDT is written. */
  transmitting = true;
  /** Answers every read with all ones, like a device that was pulled. */
  gone = false;
  /** Called when a cause is raised that IMS lets through. */
  onIrq: () => void = () => {};
  readonly #dma: DeviceView;
  readonly #registers = new Map<number, number>();

  constructor(dma: DeviceView) {
    this.#dma = dma;
    for (const { offset, reset } of Object.values(REG)) this.#registers.set(offset, reset);
  }

  get(register: nic.Register): number {
    return this.#registers.get(register.offset) ?? 0;
  }

  set(register: nic.Register, value: number): void {
    this.#registers.set(register.offset, value >>> 0);
  }

  read32(offset: number): number {
    this.accesses.push(`R ${nic.registerName(offset)}`);
    if (this.gone) return 0xffff_ffff;
    if (offset === REG.STATUS.offset) return this.linkUp ? 0x83 : 0x81;
    const value = this.#registers.get(offset) ?? 0;
    if (REG_KINDS.get(offset) === 'RC') this.#registers.set(offset, 0);
    return value;
  }

  write32(offset: number, value: number): void {
    this.accesses.push(`W ${nic.registerName(offset)} 0x${value.toString(16)}`);
    if (offset === REG.EERD.offset) this.set(REG.EERD, this.#eeprom(value));
    else if (offset === REG.CTRL.offset) this.set(REG.CTRL, value & ~nic.CTRL_RST);
    else if (offset === REG.IMS.offset) this.#unmask(value);
    else if (offset === REG.IMC.offset) this.set(REG.IMS, this.get(REG.IMS) & ~value);
    else this.#registers.set(offset, value);
    if (offset === REG.TDT.offset && this.transmitting) this.transmit();
  }

  /** Receives a frame; `options` lets the device misbehave. False: no descriptor. */
  receive(frame: Uint8Array, options: { length?: number; status?: number } = {}): boolean {
    const head = this.get(REG.RDH);
    if (head === this.get(REG.RDT)) return false;
    const desc = this.#descriptor(REG.RDBAL, REG.RDBAH, head);
    const { memory } = this.#dma;
    const at = this.#dma.resolve(this.#address(desc), frame.length);
    memory.u8.set(frame, at);
    memory.u16[(desc + nic.RX_DESC.LENGTH) >>> 1] = options.length ?? frame.length + FCS;
    memory.u8[desc + nic.RX_DESC.STATUS] = options.status ?? nic.RX_STATUS_DD | nic.RX_STATUS_EOP;
    this.set(REG.RDH, (head + 1) & 0xff);
    this.#raise(nic.ICR_RXT0);
    return true;
  }

  /** Sends what lies between TDH and TDT, at most `limit` frames. */
  transmit(limit = 256): void {
    const { memory } = this.#dma;
    for (let n = 0; n < limit && this.get(REG.TDH) !== this.get(REG.TDT); n++) {
      const head = this.get(REG.TDH);
      const desc = this.#descriptor(REG.TDBAL, REG.TDBAH, head);
      const length = (memory.u32[(desc + nic.TX_DESC.LOWER) >>> 2] as number) & nic.TX_LEGACY_LENGTH;
      const at = this.#dma.resolve(this.#address(desc), length);
      this.sent.push(memory.u8.slice(at, at + length));
      memory.u8[desc + nic.TX_DESC.STATUS] = nic.TX_STATUS_DD;
      this.set(REG.TDH, (head + 1) & 0xff);
    }
  }

  changeLink(up: boolean): void {
    this.linkUp = up;
    this.#raise(nic.ICR_LSC);
  }

  #raise(cause: number): void {
    this.set(REG.ICR, this.get(REG.ICR) | cause);
    if ((this.get(REG.ICR) & this.get(REG.IMS)) !== 0) this.onIrq();
  }

  #unmask(mask: number): void {
    this.set(REG.IMS, this.get(REG.IMS) | mask);
    this.#raise(0);
  }

  #eeprom(command: number): number {
    if (!this.eepromAnswers) return command;
    const word = (command >>> nic.EERD_ADDR_SHIFT) & 0xff;
    const data = (this.mac[2 * word] ?? 0) | ((this.mac[2 * word + 1] ?? 0) << 8);
    return (data << nic.EERD_DATA_SHIFT) | nic.EERD_DONE;
  }

  #descriptor(low: nic.Register, high: nic.Register, index: number): number {
    return this.#dma.resolve(this.get(low) + this.get(high) * 2 ** 32 + index * 16, 16);
  }

  #address(desc: number): number {
    const { u32 } = this.#dma.memory;
    return (u32[desc >>> 2] as number) + (u32[(desc >>> 2) + 1] as number) * 2 ** 32;
  }
}

const REG_KINDS = new Map<number, nic.RegisterKind>(
  Object.values(REG).map(({ offset, kind }) => [offset, kind]),
);
