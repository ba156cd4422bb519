/**
 * The data plane of the program `ixl`: frames between a NIC and its port of the switch, without a copy.
 *
 *   NIC -> rx pool buffer -> [12-byte header right before the frame] -> virtqueue 1 -> switch
 *   switch -> virtqueue 0, whose buffers come from the tx pool -> NIC transmit descriptor
 *
 * One turn handles at most 128 frames each way, NIC batches are 32. While there is work nobody is
 * notified: the NIC's interrupt is masked and both used rings say "no interrupt"; `arm` turns on what is
 * needed and looks again. A broken rule of the switch's surfaces once through `onBroken`.
 */
import type { Memory } from '#common/memory';
import type { PumpWork } from '#common/shm/pump';
import type { DriverQueue } from '#common/virtio/driver_queue';
import { NET_HDR_SIZE, writePlainHeader } from '#common/virtio/net_header';
import type { IxlDevice } from '../device.ts';
import { BUFFER, MAX_FRAME, MIN_FRAME, setLength } from '../memory/buffer.ts';
import { deviceGone } from './errors.ts';

/** Frames handled for one direction before the other gets its turn (F3.9). */
export const BURST = 128;
const NIC_BATCH = 32;
/** Where the virtio-net header lies in a packet buffer: right before the frame. */
const HEADER = BUFFER.DATA - NET_HDR_SIZE;
/** A frame of the switch may have an 802.1Q tag more. */
const MAX_TAGGED = MAX_FRAME + 4;
/** Room that the switch gets for one frame with its header. */
export const SLOT = NET_HDR_SIZE + MAX_TAGGED;
/** What the original's ixl port writes into hdr_len (F3.8). */
const HDR_LEN = NET_HDR_SIZE;
/** The NIC has no interrupt for a free transmit descriptor: a full ring is looked at this often. */
const TX_RETRY_MS = 1;
const NONE = -1;

export interface ForwarderParts {
  readonly device: IxlDevice;
  readonly memory: Memory;
  /** Virtqueue 0: the switch writes frames for the NIC into it. */
  readonly fromSwitch: DriverQueue;
  /** Virtqueue 1: frames that the NIC received. */
  readonly toSwitch: DriverQueue;
  /** Add this to an arena offset of the packet memory to get the address that the switch knows. */
  readonly addressOffset: number;
  /** Tells the switch to look at its queues. */
  readonly notify: () => void;
  /** Asks for another turn later: a timer's way to kick the pump. */
  readonly kick: () => void;
  /** The switch broke the ring protocol; nothing is done until the caller starts anew. */
  readonly onBroken: (error: unknown) => void;
}

export interface ForwarderCounters {
  /** Frames from the NIC to the switch. */
  received: number;
  /** Frames from the switch to the NIC. */
  sent: number;
  /** Frames of the switch that had an impossible length. */
  dropped: number;
}

export class Forwarder implements PumpWork {
  readonly counters: ForwarderCounters = { received: 0, sent: 0, dropped: 0 };
  readonly #p: ForwarderParts;
  readonly #received = new Int32Array(NIC_BATCH);
  readonly #toSend = new Int32Array(NIC_BATCH);
  /** Packet buffer of each chain, by its head; NONE when it is ours. */
  readonly #atSwitch: Int32Array;
  readonly #atSwitchToFill: Int32Array;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(parts: ForwarderParts) {
    this.#p = parts;
    this.#atSwitch = new Int32Array(parts.toSwitch.size).fill(NONE);
    this.#atSwitchToFill = new Int32Array(parts.fromSwitch.size).fill(NONE);
  }

  poll(): boolean {
    if (this.#stopped) return false;
    try {
      this.#reclaim();
      const received = this.#receive();
      const sent = this.#transmit();
      this.#offerRoom();
      // Both queues share the one notification of the port.
      const toSwitch = this.#p.toSwitch.flush();
      const fromSwitch = this.#p.fromSwitch.flush();
      if (toSwitch || fromSwitch) this.#p.notify();
      return received || sent;
    } catch (err) {
      this.#break(err);
      return false;
    }
  }

  arm(): boolean {
    if (this.#stopped) return false;
    const { device, toSwitch, fromSwitch } = this.#p;
    // Buffers that come back are of interest only to frames that wait for one.
    const starving = this.#starving();
    if (starving && toSwitch.enableInterrupts()) return true;
    if (device.txRoom(0) === 0) {
      this.#retry ??= setTimeout(this.#retryNow, TX_RETRY_MS);
    } else if (fromSwitch.enableInterrupts()) {
      return true;
    }
    if (device.rxPending(0) && !starving) return true;
    // Reading the cause clears what was handled by polling, or the NIC would interrupt for that again.
    device.checkRecvIrq(0);
    if (device.gone) {
      this.#break(deviceGone());
      return false;
    }
    device.ackRecvIrq(0);
    return device.rxPending(0) && !starving;
  }

  disarm(): void {
    if (this.#stopped) return;
    this.#p.toSwitch.disableInterrupts();
    this.#p.fromSwitch.disableInterrupts();
    this.#p.device.disableRecvIrq(0);
  }

  /** Ends the work and takes back every buffer; the switch must have reset its queues or be gone. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#takeBack(this.#atSwitch);
    this.#takeBack(this.#atSwitchToFill);
  }

  /** Nothing can be taken from the NIC: no room in the queue, or no buffer to put into the NIC's ring. */
  #starving(): boolean {
    return this.#p.toSwitch.free === 0 || this.#p.device.packets.rxPool.available === 0;
  }

  /** Frames that the switch has read: their buffers go back to the rx pool. */
  #reclaim(): void {
    const { toSwitch, device } = this.#p;
    for (let head = toSwitch.pop(); head >= 0; head = toSwitch.pop()) {
      device.freeBuffer(this.#atSwitch[head] as number);
      this.#atSwitch[head] = NONE;
    }
  }

  #receive(): boolean {
    const { device, memory, toSwitch, addressOffset } = this.#p;
    let done = 0;
    while (done < BURST) {
      const count = device.rxBatch(0, this.#received, Math.min(NIC_BATCH, toSwitch.free));
      for (let n = 0; n < count; n++) {
        const buffer = this.#received[n] as number;
        writePlainHeader(memory, buffer + HEADER, HDR_LEN, 1);
        const length = NET_HDR_SIZE + (memory.u32[(buffer + BUFFER.LENGTH) >>> 2] as number);
        const head = toSwitch.add(buffer + HEADER + addressOffset, length, false);
        this.#atSwitch[head] = buffer;
      }
      done += count;
      if (count < NIC_BATCH) break;
    }
    this.counters.received += done;
    return done > 0;
  }

  #transmit(): boolean {
    const { device } = this.#p;
    let taken = 0;
    while (taken < BURST) {
      const room = Math.min(NIC_BATCH, device.txRoom(0));
      const count = this.#collect(room);
      if (count > 0) device.txBatch(0, this.#toSend, count);
      this.counters.sent += count;
      taken += count;
      if (count < NIC_BATCH) break;
    }
    return taken > 0;
  }

  /** Takes at most `room` frames of the switch into #toSend. */
  #collect(room: number): number {
    const { fromSwitch, memory, device } = this.#p;
    let count = 0;
    while (count < room) {
      const head = fromSwitch.pop();
      if (head < 0) break;
      const buffer = this.#atSwitchToFill[head] as number;
      this.#atSwitchToFill[head] = NONE;
      const length = fromSwitch.usedLength - NET_HDR_SIZE;
      if (length < MIN_FRAME || length > MAX_TAGGED) {
        this.counters.dropped += 1;
        device.freeBuffer(buffer);
        continue;
      }
      setLength(memory, buffer, length);
      this.#toSend[count] = buffer;
      count += 1;
    }
    return count;
  }

  /** Fills virtqueue 0 with transmit buffers, a quarter of it at a time: each filling may wake the switch. */
  #offerRoom(): void {
    const { fromSwitch, device, addressOffset } = this.#p;
    if (fromSwitch.free < fromSwitch.size >>> 2) return;
    while (fromSwitch.free > 0) {
      const buffer = device.txPool.alloc();
      if (buffer < 0) break;
      const head = fromSwitch.add(buffer + HEADER + addressOffset, SLOT, true);
      this.#atSwitchToFill[head] = buffer;
    }
  }

  #takeBack(buffers: Int32Array): void {
    for (let head = 0; head < buffers.length; head++) {
      const buffer = buffers[head] as number;
      if (buffer !== NONE) this.#p.device.freeBuffer(buffer);
      buffers[head] = NONE;
    }
  }

  readonly #retryNow = (): void => {
    this.#retry = undefined;
    this.#p.kick();
  };

  #break(error: unknown): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#p.onBroken(error);
  }
}
