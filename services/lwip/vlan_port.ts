/**
 * A frame port inside one VLAN of another port: frames leave with its 802.1Q tag and only frames with that tag come in,
 * without it. What is untagged or of another VLAN is not for this interface. [IEEE 802.1Q §9.6]
 */
import type { Memory } from '#common/memory';
import { get16, put16 } from '#common/wire/bytes';
import { ETHERTYPE, VLAN } from '#common/wire/ethernet';
import type { FramePort, FrameSink } from './netif.ts';

/** Bytes that a tag adds: the slots of the port behind must have them. */
export const TAG_BYTES = 4;
/** Both MAC addresses: what is in front of the tag. */
const MACS = VLAN.TPID;
const ID_MASK = 0xfff;

export class VlanPort implements FramePort {
  readonly #port: FramePort;
  readonly #memory: Memory;
  readonly #id: number;
  #slot = -1;

  /** `id` is 1 to 4094. */
  constructor(port: FramePort, memory: Memory, id: number) {
    this.#port = port;
    this.#memory = memory;
    this.#id = id;
  }

  get mac(): Uint8Array {
    return this.#port.mac;
  }

  get mtu(): number {
    return this.#port.mtu;
  }

  get rxBuffers(): number {
    return this.#port.rxBuffers;
  }

  start(netif: FrameSink): void {
    this.#port.start({
      receive: (index, offset, length) => this.#receive(netif, index, offset, length),
      endBatch: () => netif.endBatch(),
      txRoom: () => netif.txRoom(),
      rxLost: () => netif.rxLost(),
    });
  }

  #receive(netif: FrameSink, index: number, offset: number, length: number): void {
    const { u8 } = this.#memory;
    const ours =
      length >= VLAN.HEADER &&
      get16(u8, offset + VLAN.TPID) === ETHERTYPE.VLAN &&
      (get16(u8, offset + VLAN.TCI) & ID_MASK) === this.#id;
    if (!ours) {
      this.#port.rxRelease(index);
      return;
    }
    u8.copyWithin(offset + TAG_BYTES, offset, offset + MACS);
    netif.receive(index, offset + TAG_BYTES, length - TAG_BYTES);
  }

  /** The frame is written behind the room for its tag. */
  txSlot(): number {
    this.#slot = this.#port.txSlot();
    return this.#slot < 0 ? -1 : this.#slot + TAG_BYTES;
  }

  txCommit(length: number): void {
    const { u8 } = this.#memory;
    const slot = this.#slot;
    u8.copyWithin(slot, slot + TAG_BYTES, slot + TAG_BYTES + MACS);
    put16(u8, slot + VLAN.TPID, ETHERTYPE.VLAN);
    put16(u8, slot + VLAN.TCI, this.#id);
    this.#port.txCommit(length + TAG_BYTES);
  }

  flush(): void {
    this.#port.flush();
  }

  rxRelease(index: number): void {
    this.#port.rxRelease(index);
  }

  close(): void {
    this.#port.close();
  }
}
