/** A NIC that lies: in its rings, in packet buffers, in its registers, and with interrupts. It reaches its DMA memory only. */
import { L4Error } from '#common/ipc/errors';
import { REG, RX_DESC, RX_STATUS_DD, RX_STATUS_EOP, TX_DESC, TX_STATUS_DD } from '#common/nic/e1000';
import type { Random } from '#common/testing/random';
import { BUFFER } from '#ixl/ixl';
import type { DmaAllocator, DmaMemory } from '../../services/ixl/memory/dma_memory.ts';
import type { DeviceView } from '../../services/ixl/testing/fake_dma.ts';
import type { FakeE1000 } from '../../services/ixl/testing/fake_e1000.ts';
import { evilFrame } from './evil_datagrams.ts';
import type { HookedMemory } from './hooked_memory.ts';

const PAGE = 4096;
const DMA_BASE = 2 ** 32;
const DESCRIPTORS = 256;
const RX_RING_BYTES = DESCRIPTORS * RX_DESC.SIZE;
const RECENT = 8;
const ALL_ONES = 0xffff_ffff;
const CAUSES = [0x80, 0x80, 0x04, 0x40, 0xd4];
/** Fills what lies around DMA memory. */
const GUARD = Buffer.from('c0ffee00baddcafe', 'hex');

/** DMA memory with guards around. */
export class GuardedDma implements DmaAllocator, DeviceView {
  readonly memory: HookedMemory;
  readonly chunks: DmaMemory[] = [];
  readonly #guards: number[] = [];
  readonly #page = Buffer.alloc(PAGE, GUARD);
  #next: number;

  /** Memory from `at` on is its own. */
  constructor(memory: HookedMemory, at: number) {
    this.memory = memory;
    this.#next = at;
    this.#guard();
  }

  /** Bytes that no frame may have. */
  get word(): Buffer {
    return GUARD;
  }

  async allocate(size: number): Promise<DmaMemory> {
    const bytes = Math.ceil(size / PAGE) * PAGE;
    if (this.#next + bytes + PAGE > this.memory.buffer.byteLength)
      throw new L4Error('ENOMEM', 'Cannot allocate memory of the fuzzer as it is full');
    const ref = { name: '0'.repeat(32), size: bytes, writable: true };
    const chunk = { offset: this.#next, size: bytes, address: DMA_BASE * (1 + this.chunks.length), ref };
    this.#next += bytes;
    this.#guard();
    this.chunks.push(chunk);
    return chunk;
  }

  resolve(address: number, size: number): number {
    for (const chunk of this.chunks) {
      const distance = address - chunk.address;
      if (distance >= 0 && distance + size <= chunk.size) return chunk.offset + distance;
    }
    throw new Error(`DMA fault at 0x${address.toString(16)}`);
  }

  /** Throws when the driver or the switch has written around the memory. */
  check(): void {
    for (const at of this.#guards)
      if (this.#page.compare(this.memory.u8, at, at + PAGE) !== 0)
        throw new Error('something was written outside of DMA memory');
  }

  #guard(): void {
    this.memory.u8.set(this.#page, this.#next);
    this.#guards.push(this.#next);
    this.#next += PAGE;
  }
}

/** Answers reads with lies while `lies` is above 0. Descriptors that it has spoilt itself are its own affair. */
export function makeLiar(nic: FakeE1000, random: () => Random): { lies: number } {
  const liar = { lies: 0 };
  const transmit = nic.transmit.bind(nic);
  nic.transmit = (limit) => faulting(() => transmit(limit));
  const honest = nic.read32.bind(nic);
  nic.read32 = (offset) => {
    if (liar.lies === 0) return honest(offset);
    liar.lies -= 1;
    return random().oneIn(4) ? ALL_ONES : random().u32();
  };
  return liar;
}

export class HostileNic {
  /** An interrupt has been raised and not been delivered. */
  interrupt = false;
  readonly #nic: FakeE1000;
  readonly #dma: GuardedDma;
  readonly #liar: { lies: number };
  /** Offsets of packet buffers that something was received into lately. */
  readonly #recent = new Int32Array(RECENT);
  #received = 0;

  constructor(nic: FakeE1000, dma: GuardedDma, liar: { lies: number }) {
    this.#nic = nic;
    this.#dma = dma;
    this.#liar = liar;
    nic.onIrq = () => {
      this.interrupt = true;
    };
  }

  /** One operation. `quietly`: while the switch reads; nothing that needs its turn. */
  act(random: Random, quietly: boolean): void {
    const kind = random.below(16);
    if (kind < 5) this.#receive(random);
    else if (kind === 5) this.#ringWord(random);
    else if (kind < 8) this.#bufferHeader(random);
    else if (kind === 8) this.#bufferByte(random);
    else if (kind === 9) this.#manyDone(random);
    else if (kind === 10) this.#nic.transmit(random.below(40));
    else if (kind === 11) this.#sentWithout(random);
    else if (kind === 12) this.#cause(random);
    else if (kind === 13 && !quietly) this.#liar.lies = random.oneIn(8) ? 20 : 1;
    else if (kind === 14) this.#nic.transmitting = random.oneIn(2);
    else if (kind === 15) this.#nic.changeLink(random.oneIn(2));
  }

  /** A frame, with the length and the status that it has, or others. */
  #receive(random: Random): void {
    this.#remember();
    const bytes = evilFrame(random, 14 + random.below(random.oneIn(8) ? 1970 : 1500));
    const options = {
      ...(random.oneIn(6) && { length: random.below(0x1_0000) }),
      ...(random.oneIn(12) && { status: random.below(256) }),
    };
    faulting(() => void this.#nic.receive(bytes, options));
  }

  /** Packet buffer of the descriptor that is next. */
  #remember(): void {
    const [packets, ring] = this.#dma.chunks;
    if (!packets || !ring) return;
    const desc = ring.offset + (this.#nic.get(REG.RDH) % DESCRIPTORS) * RX_DESC.SIZE;
    const low = this.#dma.memory.u32[desc >>> 2] as number;
    const at = (low - (packets.address % 2 ** 32)) >>> 0;
    if (at < packets.size) this.#recent[this.#received++ % RECENT] = at & ~(BUFFER.SIZE - 1);
  }

  /** A word of either ring. */
  #ringWord(random: Random): void {
    const ring = this.#dma.chunks[1];
    if (!ring) return;
    this.#dma.memory.u32[(ring.offset >>> 2) + random.below(ring.size >>> 2)] = random.u32();
  }

  /** The header of a packet buffer: what is not the device's to write. */
  #bufferHeader(random: Random): void {
    const packets = this.#dma.chunks[0];
    if (!packets) return;
    const any = random.below(packets.size / BUFFER.SIZE) * BUFFER.SIZE;
    const buffer = random.oneIn(4) ? any : (this.#recent[random.below(RECENT)] as number);
    const field = random.oneIn(4) ? random.below(16) * 4 : BUFFER.LENGTH;
    const value = random.oneIn(2) ? random.u32() : random.below(70_000);
    this.#dma.memory.u32[(packets.offset + buffer + field) >>> 2] = value;
  }

  #bufferByte(random: Random): void {
    const packets = this.#dma.chunks[0];
    if (packets) this.#dma.memory.u8[packets.offset + random.below(packets.size)] = random.u32();
  }

  /** Receive descriptors said to be done, with any length. */
  #manyDone(random: Random): void {
    const ring = this.#dma.chunks[1];
    if (!ring) return;
    const from = random.below(DESCRIPTORS);
    for (let n = 0; n < random.below(DESCRIPTORS); n++) {
      const at = ring.offset + ((from + n) % DESCRIPTORS) * RX_DESC.SIZE;
      this.#dma.memory.u16[(at + RX_DESC.LENGTH) >>> 1] = random.u32();
      this.#dma.memory.u8[at + RX_DESC.STATUS] = RX_STATUS_DD | (random.oneIn(8) ? 0 : RX_STATUS_EOP);
    }
  }

  /** Frames said to be sent. */
  #sentWithout(random: Random): void {
    const ring = this.#dma.chunks[1];
    if (!ring) return;
    const at = ring.offset + RX_RING_BYTES + random.below(DESCRIPTORS) * TX_DESC.SIZE;
    this.#dma.memory.u8[at + TX_DESC.STATUS] = random.oneIn(4) ? 0 : TX_STATUS_DD;
  }

  /** A cause and an interrupt, or one without the other. */
  #cause(random: Random): void {
    if (!random.oneIn(4))
      this.#nic.set(REG.ICR, random.oneIn(4) ? random.u32() : (CAUSES[random.below(5)] as number));
    this.interrupt = true;
  }
}

function faulting(work: () => void): void {
  try {
    work();
  } catch (err) {
    if (!(err instanceof Error && err.message.startsWith('DMA fault'))) throw err;
  }
}
