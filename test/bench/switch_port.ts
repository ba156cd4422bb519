/**
 * One client of the switch, as a benchmark's driver process has many: full L4virtio set-up, frames with sequence
 * numbers out, frames counted and checked in.
 *
 *   buffer   12-byte virtio-net header, Ethernet, IPv4, TCP, then at byte SEQ of the frame its number in its stream
 *
 * Both sides know what the n-th frame of a stream contains; every CHECK_EVERY-th is written and compared as a whole,
 * of the others the number. Buffers are an odd number of cache lines apart: at 2048 bytes all headers would share
 * two sets of the first-level cache.
 */
import type { Capability } from '#common/ipc/capability';
import { type DeviceMemory, DriverClient, type DriverEnv } from '#common/l4virtio/driver_client';
import type { Memory } from '#common/memory';
import type { DriverQueue } from '#common/virtio/driver_queue';
import {
  type Features,
  featureSet,
  hasFeature,
  NET_F_CSUM,
  NET_F_GUEST_CSUM,
  NET_F_GUEST_TSO4,
  NET_F_HOST_TSO4,
  NET_F_MAC,
  NET_F_MRG_RXBUF,
} from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV4, NET_HDR_SIZE } from '#common/virtio/net_header';

const RX = 0;
const TX = 1;
const LINE = 64;
const CHECK_EVERY = 256;
/** Byte of the frame where its number is: behind Ethernet, IPv4 and TCP headers, aligned to 4 with the header. */
export const SEQ = 56;
const HEADERS = 54;
const MSS = 1460;
const MIN_FRAME = 64;
/** [IEEE 802] local experimental ethertype: frames that teach the switch where a port is, never counted. */
const HELLO_TYPE = 0xb588;

export interface PortShape {
  /** Entries of each ring. */
  readonly queueSize: number;
  /** Bytes of the longest frame to send. */
  readonly frame: number;
  /** Bytes of a receive buffer, header included. */
  readonly rxBuffer: number;
  /** Negotiate mergeable buffers and, if the switch has them, segmentation offloads. */
  readonly large: boolean;
}

export class BenchPort {
  readonly link: DriverClient;
  readonly rx: DriverQueue;
  readonly tx: DriverQueue;
  readonly mac: Uint8Array;
  /** Frames that came in, and what was wrong with them. */
  received = 0;
  bytes = 0;
  errors = 0;
  /** Number of the next frame that is expected; set it together with the sender's stream. */
  expected = 0;
  /** Number of the last frame that came in. */
  last = -1;
  /** Length that every received frame must have; 0: not checked. */
  frameLength = 0;
  /** Number of the next frame to send. */
  next = 0;
  readonly #memory: Memory;
  readonly #shape: PortShape;
  readonly #address: number;
  readonly #where: number;
  readonly #txAt: number;
  readonly #rxAt: number;
  readonly #txStride: number;
  readonly #rxStride: number;
  /** Free transmit buffers. */
  readonly #free: Uint16Array;
  #freeCount: number;
  /** Buffer of each head. */
  readonly #txSlot: Uint16Array;
  readonly #rxSlot: Uint16Array;
  readonly #mergeable: boolean;
  /** First two words of the headers to send. */
  #header = 0;
  #gso = 0;
  /** Bytes of the frames to send. */
  #length = 0;

  private constructor(
    env: DriverEnv,
    link: DriverClient,
    memory: DeviceMemory,
    shape: PortShape,
    features: Features,
  ) {
    this.link = link;
    this.rx = link.queue(RX);
    this.tx = link.queue(TX);
    this.mac = link.mac ?? new Uint8Array(6);
    this.#memory = env.arena;
    this.#shape = shape;
    this.#address = memory.address;
    this.#where = memory.where;
    const { queueSize } = shape;
    [this.#txStride, this.#rxStride] = strides(shape);
    this.#txAt = ringBytes(queueSize);
    this.#rxAt = this.#txAt + queueSize * this.#txStride;
    this.#free = Uint16Array.from({ length: queueSize }, (_, n) => n);
    this.#freeCount = queueSize;
    this.#txSlot = new Uint16Array(queueSize);
    this.#rxSlot = new Uint16Array(queueSize);
    this.#mergeable = hasFeature(features, NET_F_MRG_RXBUF);
    if (shape.large && hasFeature(features, NET_F_HOST_TSO4)) {
      this.#header = NET_HDR_F_NEEDS_CSUM | (NET_HDR_GSO_TCPV4 << 8) | (HEADERS << 16);
      this.#gso = MSS | (34 << 16);
    }
    this.rx.disableInterrupts();
    this.tx.disableInterrupts();
    for (let slot = 0; slot < queueSize; slot++) this.#offer(slot);
    this.rx.flush();
  }

  /** Sets a port up: all steps of the stock client. */
  static async open(env: DriverEnv, cap: Capability, name: string, shape: PortShape): Promise<BenchPort> {
    const fail = (error: Error): void => {
      console.error(`${name}: ${error.message}`);
      process.exit(1);
    };
    const link = await DriverClient.open(env, cap, { name, onInterrupt: () => {}, onNeedsReset: fail });
    const { queueSize } = shape;
    const [tx, rx] = strides(shape);
    const memory = await link.allocate(ringBytes(queueSize) + queueSize * (tx + rx));
    await link.configureQueue(RX, memory, 0, queueSize);
    await link.configureQueue(TX, memory, queueBytes(queueSize), queueSize);
    const large = [NET_F_MRG_RXBUF, NET_F_CSUM, NET_F_GUEST_CSUM, NET_F_HOST_TSO4, NET_F_GUEST_TSO4];
    const features = await link.start(featureSet(NET_F_MAC, ...(shape.large ? large : [])));
    return new BenchPort(env, link, memory, shape, features);
  }

  /** Writes addresses, IPv4 and TCP headers into all transmit buffers: frames of `length` bytes to `to`. */
  prepare(to: Uint8Array, length: number, from: Uint8Array = this.mac): void {
    if (length < MIN_FRAME || length > this.#shape.frame)
      throw new RangeError(`no frame has ${length} bytes`);
    const { u8, view } = this.#memory;
    this.#length = length;
    for (let slot = 0; slot < this.#shape.queueSize; slot++) {
      const at = this.#where + this.#txAt + slot * this.#txStride + NET_HDR_SIZE;
      u8.set(to, at);
      u8.set(from, at + 6);
      view.setUint16(at + 12, 0x0800);
      view.setUint32(at + 14, 0x4500_0000 + Math.min(length - 14, 0xffff));
      view.setUint32(at + 18, 0);
      view.setUint32(at + 22, 0x4006_0000);
      view.setUint32(at + 26, 0x0a000001);
      view.setUint32(at + 30, 0x0a000002);
      view.setUint32(at + 34, 0x1000_1000);
      view.setUint32(at + 46, 0x5010_ffff);
    }
  }

  /** Writes the addresses of the `n`-th frame, from 0, that `produce` will send next. */
  nextAddress(n: number, to: Uint8Array, from: Uint8Array): void {
    const slot = this.#free[this.#freeCount - 1 - n] as number;
    const at = this.#where + this.#txAt + slot * this.#txStride + NET_HDR_SIZE;
    this.#memory.u8.set(to, at);
    this.#memory.u8.set(from, at + 6);
  }

  /** Teaches the switch where `from` is: a broadcast that nobody counts. `prepare` afterwards. */
  hello(from: Uint8Array = this.mac): void {
    const slot = this.#takeSlot();
    const at = this.#where + this.#txAt + slot * this.#txStride;
    const { u8, u16 } = this.#memory;
    u8.fill(0, at, at + NET_HDR_SIZE + MIN_FRAME);
    u8.fill(0xff, at + NET_HDR_SIZE, at + NET_HDR_SIZE + 6);
    u8.set(from, at + NET_HDR_SIZE + 6);
    u16[(at + NET_HDR_SIZE + 12) >>> 1] = HELLO_TYPE;
    this.#send(slot, MIN_FRAME);
    this.flush();
  }

  /** Number of frames that can be sent now. */
  get room(): number {
    return this.#freeCount;
  }

  /** Number of frames on their way to the switch. */
  get inFlight(): number {
    return this.#shape.queueSize - this.#freeCount;
  }

  /** Takes transmit buffers back that the switch has done with. */
  reclaim(): number {
    const { tx } = this;
    let count = 0;
    for (let head = tx.pop(); head >= 0; head = tx.pop()) {
      this.#free[this.#freeCount++] = this.#txSlot[head] as number;
      count += 1;
    }
    return count;
  }

  /** Sends up to `count` frames of the stream, as many as there are buffers; not shown before `flush`. */
  produce(count: number): number {
    const { u32 } = this.#memory;
    const length = this.#length;
    const todo = Math.min(count, this.#freeCount);
    for (let n = 0; n < todo; n++) {
      const slot = this.#takeSlot();
      const word = (this.#where + this.#txAt + slot * this.#txStride) >>> 2;
      const seq = this.next;
      u32[word] = this.#header;
      u32[word + 1] = this.#gso;
      u32[word + 2] = this.#header === 0 ? 0 : 16;
      u32[word + ((NET_HDR_SIZE + SEQ) >>> 2)] = seq;
      if (seq % CHECK_EVERY === 0) this.#fill(word, seq, length);
      this.next = (seq + 1) >>> 0;
      this.#send(slot, length);
    }
    return todo;
  }

  /** Shows what was produced, and notifies the switch if it asks for it. */
  flush(): void {
    if (this.tx.flush()) this.link.notify();
  }

  /** Takes up to `limit` received frames, checks and counts them, and offers their buffers again. */
  consume(limit: number): number {
    const { rx } = this;
    let count = 0;
    while (count < limit) {
      const head = rx.pop();
      if (head < 0) break;
      const slot = this.#rxSlot[head] as number;
      const at = this.#where + this.#rxAt + slot * this.#rxStride;
      this.#check(at, rx.usedLength);
      this.#offer(slot);
      count += 1;
    }
    if (count > 0 && rx.flush()) this.link.notify();
    return count;
  }

  /** One frame: its number, now and then its contents; further chains of a large one. */
  #check(at: number, length: number): void {
    const { u32, u16 } = this.#memory;
    const word = at >>> 2;
    if (u16[(at + NET_HDR_SIZE + 12) >>> 1] === HELLO_TYPE) return;
    const buffers = this.#mergeable ? (u16[(at + 10) >>> 1] as number) : 1;
    const seq = u32[word + ((NET_HDR_SIZE + SEQ) >>> 2)] as number;
    // Lost, duplicated and swapped frames all show here.
    if (seq !== this.expected) this.errors += 1;
    this.expected = (seq + 1) >>> 0;
    this.last = seq;
    let bytes = length;
    const checked = seq % CHECK_EVERY === 0;
    let index = 1;
    if (checked) index = this.#compare(word, (NET_HDR_SIZE + SEQ) / 4 + 1, length >>> 2, seq, index);
    for (let n = 1; n < buffers; n++) {
      // All chains of a frame are published together.
      const head = this.rx.pop();
      if (head < 0) throw new Error(`a frame of ${buffers} buffers ends after ${n}`);
      const slot = this.#rxSlot[head] as number;
      const size = this.rx.usedLength;
      bytes += size;
      if (checked)
        index = this.#compare(
          (this.#where + this.#rxAt + slot * this.#rxStride) >>> 2,
          0,
          size >>> 2,
          seq,
          index,
        );
      this.#offer(slot);
    }
    if (this.frameLength !== 0 && bytes !== NET_HDR_SIZE + this.frameLength) this.errors += 1;
    this.received += 1;
    this.bytes += bytes - NET_HDR_SIZE;
  }

  #fill(word: number, seq: number, length: number): void {
    const { u32 } = this.#memory;
    const end = (NET_HDR_SIZE + length) >>> 2;
    const first = (NET_HDR_SIZE + SEQ) / 4 + 1;
    for (let n = first; n < end; n++) u32[word + n] = pattern(seq, n - first + 1);
  }

  #compare(word: number, first: number, end: number, seq: number, index: number): number {
    const { u32 } = this.#memory;
    let wrong = 0;
    for (let n = first; n < end; n++) wrong |= (u32[word + n] as number) ^ pattern(seq, index + n - first);
    if (wrong !== 0) this.errors += 1;
    return index + end - first;
  }

  #takeSlot(): number {
    if (this.#freeCount === 0) throw new Error('no transmit buffer is free');
    return this.#free[--this.#freeCount] as number;
  }

  #send(slot: number, length: number): void {
    const head = this.tx.add(
      this.#address + this.#txAt + slot * this.#txStride,
      NET_HDR_SIZE + length,
      false,
    );
    this.#txSlot[head] = slot;
  }

  #offer(slot: number): void {
    const { rxBuffer } = this.#shape;
    const head = this.rx.add(this.#address + this.#rxAt + slot * this.#rxStride, rxBuffer, true);
    this.#rxSlot[head] = slot;
  }
}

/** Word `index` behind the number of frame `seq`. */
function pattern(seq: number, index: number): number {
  return (Math.imul(seq + 1, 0x9e37_79b1) + Math.imul(index, 0x85eb_ca6b)) | 0;
}

function ringBytes(queueSize: number): number {
  return Math.ceil((2 * queueBytes(queueSize)) / LINE) * LINE;
}

function strides({ frame, rxBuffer }: PortShape): [number, number] {
  return [stride(NET_HDR_SIZE + frame), stride(rxBuffer)];
}

/** An odd number of cache lines. */
function stride(bytes: number): number {
  return (Math.ceil(bytes / LINE) | 1) * LINE;
}
