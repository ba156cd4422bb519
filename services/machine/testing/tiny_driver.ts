/**
 * The driver's half of an 82540EM over an ArrayBuffer, for tests: rings, buffers and registers of a
 * model that runs on a clock of its own. Just enough to push frames through.
 */
import { Memory } from '#common/memory';
import {
  CTRL_SLU,
  RCTL_BAM,
  RCTL_EN,
  RCTL_UPE,
  REG,
  RX_DESC,
  TCTL_EN,
  TCTL_PSP,
  TX_DESC,
} from '#common/nic/e1000';
import { DmaSpace } from '../dma_space.ts';
import { E1000 } from '../e1000/e1000.ts';
import { FunctionDma } from '../function_dma.ts';
import { DMA_MAX } from '../nic_model.ts';

const SCRATCH = 0;
const ONES = 0x10000;
const RINGS = 0x20000;
const RINGS_SIZE = 0x10000;
const BUFFERS = 0x100000;
const BUFFERS_SIZE = 0x100000;
const WIRE = 0x300000;
export const BUFFER = 2048;
const WORD = 2 ** 32;

export const MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

export class TinyDriver {
  readonly memory = new Memory(new ArrayBuffer(0x400000));
  readonly space = new DmaSpace();
  readonly dma: FunctionDma;
  readonly nic: E1000;
  readonly logs: string[] = [];
  /** Frames that the NIC sent. */
  readonly sent: Uint8Array[] = [];
  now = 1000;
  timerAt = Infinity;
  irq = false;
  assertions = 0;
  /** I/O addresses of the rings and of the buffers. */
  readonly rings: number;
  readonly buffers: number;
  /** Ring sizes in descriptors. */
  readonly count: number;
  #txIndex = 0;

  constructor(count = 16) {
    this.count = count;
    this.memory.u8.fill(0xff, ONES, ONES + DMA_MAX);
    this.dma = new FunctionDma({
      name: '00:03.0 e1000',
      ones: ONES,
      now: () => this.now,
      log: (text) => this.logs.push(text),
    });
    this.dma.enabled = true;
    this.dma.assign(this.space);
    this.rings = this.space.map(RINGS, RINGS_SIZE, 0);
    this.buffers = this.space.map(BUFFERS, BUFFERS_SIZE, 0);
    this.nic = new E1000(
      {
        memory: this.memory,
        scratch: SCRATCH,
        dma: this.dma,
        setIrq: (asserted) => {
          this.irq = asserted;
          if (asserted) this.assertions++;
        },
        now: () => this.now,
        setTimer: (at) => {
          this.timerAt = at;
        },
        transmit: (offset, length) => this.sent.push(this.memory.u8.slice(offset, offset + length)),
        log: (text) => this.logs.push(text),
      },
      MAC,
    );
    this.nic.linkChanged(true);
    this.nic.read32(REG.ICR.offset);
  }

  read(register: { offset: number }): number {
    return this.nic.read32(register.offset);
  }

  write(register: { offset: number }, value: number): void {
    this.nic.write32(register.offset, value >>> 0);
  }

  /** Rings set up, all receive descriptors but one free, both units on. */
  start(rctl = RCTL_BAM | RCTL_UPE, tctl = TCTL_PSP): void {
    this.write(REG.CTRL, CTRL_SLU);
    this.write(REG.RDBAL, this.rings % WORD);
    this.write(REG.RDBAH, Math.floor(this.rings / WORD));
    this.write(REG.RDLEN, this.count * RX_DESC.SIZE);
    this.write(REG.TDBAL, (this.rings + this.#txRing()) % WORD);
    this.write(REG.TDBAH, 0);
    this.write(REG.TDLEN, this.count * TX_DESC.SIZE);
    for (let n = 0; n < this.count; n++) this.refill(n);
    this.write(REG.RDT, this.count - 1);
    this.write(REG.RCTL, RCTL_EN | rctl);
    this.write(REG.TCTL, TCTL_EN | tctl);
  }

  /** After a reset: as `start`, from the first descriptor on. */
  restart(): void {
    this.#txIndex = 0;
    this.start();
  }

  refill(index: number): void {
    const word = (RINGS + index * RX_DESC.SIZE) >>> 2;
    this.memory.u32[word] = this.buffers + index * BUFFER;
    this.memory.u32.fill(0, word + 1, word + 4);
  }

  /** Hands a frame to the NIC as its wire does. */
  offer(frame: Uint8Array, offset = WIRE, sound = false): boolean {
    this.memory.u8.set(frame, offset);
    return this.nic.receive(offset, frame.length, sound);
  }

  /** Receive descriptor `index` with its buffer's bytes. */
  rx(index: number): {
    status: number;
    errors: number;
    length: number;
    checksum: number;
    special: number;
    data: Uint8Array;
  } {
    const at = RINGS + index * RX_DESC.SIZE;
    const { view, u8 } = this.memory;
    const length = view.getUint16(at + RX_DESC.LENGTH, true);
    const from = BUFFERS + index * BUFFER;
    return {
      status: u8[at + RX_DESC.STATUS] as number,
      errors: u8[at + RX_DESC.ERRORS] as number,
      length,
      checksum: view.getUint16(at + RX_DESC.CHECKSUM, true),
      special: view.getUint16(at + RX_DESC.SPECIAL, true),
      data: u8.slice(from, from + length),
    };
  }

  /** Copies `data` into a transmit buffer at `at` (from the upper half) and returns its I/O address. */
  place(data: Uint8Array, at = 0): number {
    const offset = BUFFERS_SIZE / 2 + at;
    this.memory.u8.set(data, BUFFERS + offset);
    return this.buffers + offset;
  }

  /** Writes one transmit descriptor of four words and moves the tail behind it. */
  queue(low: number, high: number, lower: number, upper: number): number {
    const index = this.#txIndex;
    const word = (RINGS + this.#txRing() + index * TX_DESC.SIZE) >>> 2;
    this.memory.u32.set([low, high, lower >>> 0, upper >>> 0], word);
    this.#txIndex = (index + 1) % this.count;
    this.write(REG.TDT, this.#txIndex);
    return index;
  }

  /** Runs the transmit unit until it has nothing to do. */
  run(): void {
    for (let n = 0; n < 10_000 && this.nic.poll(); n++);
  }

  txStatus(index: number): number {
    return this.memory.u8[RINGS + this.#txRing() + index * TX_DESC.SIZE + TX_DESC.STATUS] as number;
  }

  /** Lets `us` microseconds pass. */
  advance(us: number): void {
    const end = this.now + us;
    while (this.timerAt <= end) {
      this.now = this.timerAt;
      this.timerAt = Infinity;
      this.nic.timer();
    }
    this.now = end;
  }

  #txRing(): number {
    return RINGS_SIZE / 2;
  }
}

/** A frame of `length` bytes with a counting pattern. */
export function frame(length: number, destination: readonly number[] = [...MAC]): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, n) => (n * 7) & 0xff);
  bytes.set(destination);
  bytes.set([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], 6);
  return bytes;
}

/** One's complement sum the slow way, independent of the code under test. */
export function slowSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let n = 0; n < bytes.length; n += 2) {
    sum += (bytes[n] as number) * 256 + (bytes[n + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

export interface PacketOptions {
  readonly payload: Uint8Array;
  readonly udp?: boolean;
  readonly v6?: boolean;
  readonly vlan?: number;
  /** False: checksum fields stay 0. */
  readonly checksums?: boolean;
}

/** An Ethernet frame with IP and TCP (20 bytes) or UDP (8), flags FIN|PSH|ACK, sequence 0xfffffff0. */
export function packet({
  payload,
  udp = false,
  v6 = false,
  vlan,
  checksums = true,
}: PacketOptions): Uint8Array {
  const transport = udp ? 8 : 20;
  const ip = v6 ? 40 : 20;
  const tag = vlan === undefined ? [] : [0x81, 0x00, vlan >>> 8, vlan & 0xff];
  const l3 = 14 + tag.length;
  const l4 = l3 + ip;
  const bytes = new Uint8Array(l4 + transport + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set([...MAC, 2, 0, 0, 0, 0, 1, ...tag, ...(v6 ? [0x86, 0xdd] : [0x08, 0x00])]);
  bytes.set(v6 ? [0x60] : [0x45], l3);
  const length = transport + payload.length;
  const addresses = v6 ? [l3 + 8, 32] : [l3 + 12, 8];
  for (let n = 0; n < (addresses[1] as number); n++) bytes[(addresses[0] as number) + n] = n + 1;
  if (v6) {
    view.setUint16(l3 + 4, length);
    bytes.set([udp ? 17 : 6, 64], l3 + 6);
  } else {
    view.setUint16(l3 + 2, 20 + length);
    view.setUint16(l3 + 4, 0xfffe);
    bytes.set([64, udp ? 17 : 6], l3 + 8);
    if (checksums) view.setUint16(l3 + 10, ~slowSum(bytes.subarray(l3, l3 + 20)) & 0xffff);
  }
  bytes.set([0x12, 0x34, 0x00, 0x50], l4);
  if (udp) view.setUint16(l4 + 4, length);
  else {
    view.setUint32(l4 + 4, 0xffff_fff0);
    bytes.set([0x50, 0x19], l4 + 12);
  }
  bytes.set(payload, l4 + transport);
  if (checksums) {
    const pseudo = transportPseudo(bytes, l3, v6, udp ? 17 : 6, length);
    const sum = slowSum(Uint8Array.of(...pseudo, ...bytes.subarray(l4)));
    view.setUint16(l4 + (udp ? 6 : 16), ~sum & 0xffff);
  }
  return bytes;
}

/** Pseudo header bytes, with `length` as its length field. */
export function transportPseudo(
  bytes: Uint8Array,
  l3: number,
  v6: boolean,
  protocol: number,
  length: number,
): number[] {
  const addresses = v6 ? bytes.subarray(l3 + 8, l3 + 40) : bytes.subarray(l3 + 12, l3 + 20);
  return [...addresses, 0, protocol, length >>> 8, length & 0xff];
}
