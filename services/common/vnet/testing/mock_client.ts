/**
 * Virtio clients for tests of the data plane: several ports in one memory, as a switch sees them in its arena.
 *
 * Each client has an RX and a TX ring and buffer slots; it writes descriptors by hand, so that it can also write
 * wrong ones. `offset` shifts all of its buffers, to try alignments.
 */
import type { Memory } from '#common/memory';
import { DeviceQueue } from '#common/virtio/device_queue';
import type { RingError } from '#common/virtio/errors';
import { F_INDIRECT_DESC, F_VERSION_1, featureSet, NET_F_MRG_RXBUF } from '#common/virtio/features';
import {
  DESC_F_NEXT,
  DESC_F_WRITE,
  DESC_SIZE,
  layoutQueue,
  type QueueLayout,
  queueBytes,
} from '#common/virtio/layout';
import { Regions } from '#common/virtio/regions';
import type { Fabric } from '../fabric.ts';
import { SCRATCH_BYTES, VirtioPort, type VirtioPortOptions } from '../virtio_port.ts';

export const SLOT = 2048;
/** Bytes of memory of each client. */
export const CLIENT_BYTES = 2 * 1024 * 1024;
const HEADER = 12;

/** One ring as its driver sees it. */
export class Ring {
  readonly layout: QueueLayout;
  readonly #memory: Memory;
  seen = 0;

  constructor(memory: Memory, layout: QueueLayout) {
    this.#memory = memory;
    this.layout = layout;
  }

  setDesc(i: number, address: number, len: number, flags: number, next: number): void {
    const at = this.layout.desc + i * DESC_SIZE;
    this.#memory.view.setBigUint64(at, BigInt(address), true);
    this.#memory.view.setUint32(at + 8, len, true);
    this.#memory.view.setUint16(at + 12, flags, true);
    this.#memory.view.setUint16(at + 14, next, true);
  }

  makeAvailable(head: number): void {
    const { avail, size } = this.layout;
    const { u16 } = this.#memory;
    const idx = u16[avail / 2 + 1] as number;
    u16[avail / 2 + 2 + (idx % size)] = head;
    u16[avail / 2 + 1] = idx + 1;
  }

  get usedIdx(): number {
    return this.#memory.u16[this.layout.used / 2 + 1] as number;
  }

  get suppressed(): boolean {
    return this.#memory.u16[this.layout.used / 2] === 1;
  }

  /** Takes the next used element, or undefined. */
  take(): { id: number; len: number } | undefined {
    if (this.seen === this.usedIdx) return undefined;
    const at = this.layout.used / 4 + 1 + 2 * (this.seen % this.layout.size);
    this.seen = (this.seen + 1) & 0xffff;
    return { id: this.#memory.u32[at] as number, len: this.#memory.u32[at + 1] as number };
  }
}

export interface ClientOptions {
  readonly size?: number;
  readonly mergeable?: boolean;
  readonly nic?: boolean;
  readonly offset?: number;
  readonly mute?: boolean;
  /** Numbers of further features that the client has negotiated. */
  readonly features?: readonly number[];
  readonly mtu?: number;
  /** Bytes of each buffer slot; `size` of them twice must fit CLIENT_BYTES. */
  readonly slot?: number;
  /** Makes the port under test; default: a VirtioPort. */
  readonly makePort?: (options: VirtioPortOptions) => VirtioPort;
}

/** What the ports of a test share. */
export interface MockFabric {
  readonly memory: Memory;
  readonly fabric: Fabric;
}

/** A port under test and the client behind it. */
export class MockClient {
  readonly port: VirtioPort;
  readonly rx: Ring;
  readonly tx: Ring;
  readonly errors: RingError[] = [];
  interrupts = 0;
  invalid = 0;
  /** Rules that offload headers broke. */
  readonly reasons: string[] = [];
  readonly #memory: Memory;
  readonly #slots: number;
  readonly #slot: number;
  #nextTx = 0;
  #nextRx = 0;

  constructor(lab: MockFabric, number: number, base: number, options: ClientOptions) {
    const size = options.size ?? 256;
    this.#memory = lab.memory;
    const txAt = base + queueBytes(size);
    this.rx = new Ring(lab.memory, layoutQueue(size, base));
    this.tx = new Ring(lab.memory, layoutQueue(size, txAt));
    this.#slot = options.slot ?? SLOT;
    this.#slots = Math.ceil((txAt + queueBytes(size)) / SLOT) * SLOT + (options.offset ?? 0);
    const regions = new Regions(2);
    regions.add(base, CLIENT_BYTES, base, true);
    const merge = options.mergeable === true ? [NET_F_MRG_RXBUF] : [];
    const features = featureSet(F_VERSION_1, F_INDIRECT_DESC, ...merge, ...(options.features ?? []));
    const { makePort = (port) => new VirtioPort(port) } = options;
    this.port = makePort({
      number: number,
      nic: options.nic ?? false,
      mute: options.mute ?? false,
      memory: lab.memory,
      scratch: number * SCRATCH_BYTES,
      fabric: lab.fabric,
      device: {
        fail: (error) => this.errors.push(error),
        interrupt: () => {
          this.interrupts += 1;
        },
        invalidRequest: (why) => {
          this.invalid += 1;
          if (why !== undefined) this.reasons.push(why);
        },
      },
    });
    const rx = new DeviceQueue(lab.memory, this.rx.layout, features, regions, 'rx');
    const tx = new DeviceQueue(lab.memory, this.tx.layout, features, regions, 'tx');
    this.port.start(rx, tx, features, options.mtu);
  }

  /** Offset of slot `i`; RX slots come first, then as many TX slots. */
  slot(i: number): number {
    return this.#slots + i * this.#slot;
  }

  /** Offers a receive chain with pieces of these lengths. */
  give(lens: readonly number[] = [1526]): void {
    const { size } = this.rx.layout;
    const head = this.#nextRx;
    for (const [n, len] of lens.entries()) {
      const i = this.#nextRx;
      this.#nextRx = (i + 1) % size;
      const last = n === lens.length - 1;
      this.rx.setDesc(i, this.slot(i), len, DESC_F_WRITE | (last ? 0 : DESC_F_NEXT), last ? 0 : this.#nextRx);
    }
    this.rx.makeAvailable(head);
  }

  /** Sends header and frame in pieces that end after each of `cuts` bytes (header included). */
  send(frame: Uint8Array, cuts: readonly number[] = [], header: Uint8Array = new Uint8Array(HEADER)): void {
    const { size } = this.tx.layout;
    const bytes = new Uint8Array([...header, ...frame]);
    const head = this.#nextTx;
    const ends = [...cuts.filter((cut) => cut > 0 && cut < bytes.length), bytes.length];
    let start = 0;
    for (const [n, end] of ends.entries()) {
      const i = this.#nextTx;
      this.#nextTx = (i + 1) % size;
      const at = this.slot(size + i);
      this.#memory.u8.set(bytes.subarray(start, end), at);
      const last = n === ends.length - 1;
      this.tx.setDesc(i, at, end - start, last ? 0 : DESC_F_NEXT, last ? 0 : this.#nextTx);
      start = end;
    }
    this.tx.makeAvailable(head);
  }

  /** Everything received since the last call: one entry per used element, header included. */
  received(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (let used = this.rx.take(); used !== undefined; used = this.rx.take())
      frames.push(this.#collect(used.id, used.len));
    return frames;
  }

  #collect(head: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const { desc } = this.rx.layout;
    let done = 0;
    for (let i = head; done < length; i = this.#memory.u16[(desc + i * DESC_SIZE + 14) / 2] as number) {
      const len = Math.min(this.#memory.u32[(desc + i * DESC_SIZE + 8) / 4] as number, length - done);
      bytes.set(this.#memory.u8.subarray(this.slot(i), this.slot(i) + len), done);
      done += len;
    }
    return bytes;
  }
}

const mac = (n: number): number[] => [0x02, 0, 0, 0, n >>> 8, n & 0xff];

/** An Ethernet frame with a recognisable payload. `to` and `from` are client numbers; `to` -1 is broadcast. */
export function ethernet(
  to: number,
  from: number,
  options: { length?: number; vlan?: number; seed?: number } = {},
): Uint8Array {
  const { length = 60, vlan, seed = 0 } = options;
  const tag = vlan === undefined ? [] : [0x81, 0, vlan >>> 8, vlan & 0xff];
  const head = [...(to < 0 ? [255, 255, 255, 255, 255, 255] : mac(to)), ...mac(from), ...tag, 0x08, 0x00];
  return Uint8Array.from({ length }, (_, n) => head[n] ?? (n * 7 + seed) & 0xff);
}
