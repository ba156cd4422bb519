/**
 * An Ethernet interface of lwIP over an abstract frame port (virtio-net in `virtio_netif.ts`).
 *
 * Receive is zero-copy: for each receive buffer of the port there is one `struct pbuf_custom` in our own memory, so a
 * frame costs a few stores and one call, `ethernet_input`; when TCP data reaches a connection, pbuf and payload are read
 * with plain loads and the buffer goes back without a call. lwIP's custom-free callback covers every other end of a pbuf.
 * Transmit copies the frame once, with one call, into a slot of the port.
 */

import type { Memory } from '#common/memory';
import { get16 } from '#common/wire/bytes';
import { ETH, ETHERTYPE, formatMac } from '#common/wire/ethernet';
import { formatIpv4 } from '#common/wire/ipv4';
import { writeIpv4 } from './address.ts';
import { ERR } from './errors.ts';
import { acceptFrame } from './frame_filter.ts';
import { NETIF, NETIF_FLAG, PBUF, PBUF_FLAG_IS_CUSTOM, PBUF_LAYER, PBUF_TYPE } from './layout.ts';
import { Neighbours } from './neighbours.ts';
import { NetifFields } from './netif_fields.ts';
import { check } from './self_test.ts';
import type { Stack, StackNetif } from './stack.ts';
import { opensConnection } from './time_wait.ts';

/** Longest frame without FCS: what a slot of a port must hold. */
export const MAX_FRAME = 1514;
const TWO_32 = 2 ** 32;
/** struct netif, rounded up; the pbuf pool follows. */
const NETIF_BYTES = 512;

/** A source and sink of Ethernet frames in the stack's memory. All offsets are even. */
export interface FramePort {
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Bytes of an IP packet. */
  readonly mtu: number;
  /** Receive buffers are numbered 0 to rxBuffers - 1. */
  readonly rxBuffers: number;
  /** Starts delivering frames to `netif.receive`, ending each batch with `netif.endBatch`. */
  start(netif: FrameSink): void;
  /** Offset of a free transmit slot of `MAX_FRAME` bytes; -1 when there is none (`netif.txRoom` is called when there is). */
  txSlot(): number;
  /** Sends the first `length` bytes of the slot that `txSlot` returned last. */
  txCommit(length: number): void;
  /** Tells the far end about everything committed since. */
  flush(): void;
  /** The receive buffer may be filled again, behind the end of the batch. */
  rxRelease(index: number): void;
  close(): void;
}

/** The netif as its port sees it. */
export interface FrameSink {
  receive(index: number, offset: number, length: number): void;
  endBatch(): void;
  txRoom(): void;
  /** Frames have probably been lost on their way in, and all that were not have been received. */
  rxLost(): void;
}

/** Sees received frames before lwIP; true = it was for me. */
export type FrameTap = (offset: number, length: number) => boolean;

export interface NetifCounters {
  rxFrames: number;
  rxBytes: number;
  /** Not for us, or malformed. */
  rxFiltered: number;
  /** Copied because lwIP held too many receive buffers (out-of-order data, fragments). */
  rxCopied: number;
  rxNoMemory: number;
  /** Times that the device had no receive buffer left: frames were probably lost. */
  rxLost: number;
  txFrames: number;
  txBytes: number;
  /** Refused as the transmit queue was full; lwIP sends them again. */
  txFull: number;
}

export class Netif implements StackNetif, FrameSink {
  readonly address: number;
  readonly name: string;
  readonly mac: Uint8Array;
  readonly neighbours: Neighbours;
  readonly counters: NetifCounters = {
    rxFrames: 0,
    rxBytes: 0,
    rxFiltered: 0,
    rxCopied: 0,
    rxNoMemory: 0,
    rxLost: 0,
    txFrames: 0,
    txBytes: 0,
    txFull: 0,
  };
  /** Why the interface does not work any more; undefined while it does. */
  failure: string | undefined;
  /** Sees frames first while set: the DHCP client. */
  tap: FrameTap | undefined;
  readonly #stack: Stack;
  readonly #port: FramePort;
  readonly #at: number;
  readonly #fields: NetifFields;
  readonly #pool: number;
  readonly #poolEnd: number;
  /** Offset of each struct netif in the process, for the filter. */
  static readonly #all: number[] = [];
  #held = 0;
  readonly #heldLimit: number;
  #full = false;
  #closed = false;

  /** Name that the next interface will have. */
  static nextName(memory: Memory): string {
    return `vn${Netif.#freeNumber(memory)}`;
  }

  /** Adds the interface to lwIP, link up; the first one becomes the default route. */
  constructor(stack: Stack, port: FramePort) {
    this.#stack = stack;
    this.#port = port;
    this.mac = port.mac;
    this.#at = stack.memory.mapPrivate(NETIF_BYTES + port.rxBuffers * PBUF.CUSTOM_SIZE);
    this.#fields = new NetifFields(stack.memory, this.#at);
    this.address = stack.memory.address + this.#at;
    this.#pool = this.#at + NETIF_BYTES;
    this.#poolEnd = this.#pool + port.rxBuffers * PBUF.CUSTOM_SIZE;
    // A quarter of the buffers always stays with the device, or a stalled hole in the data could starve it for ever.
    this.#heldLimit = port.rxBuffers - (port.rxBuffers >>> 2);
    for (let at = this.#pool; at < this.#poolEnd; at += PBUF.CUSTOM_SIZE) {
      this.#writePointer(at + PBUF.CUSTOM_FREE, stack.callbacks.customFree);
    }
    this.neighbours = new Neighbours(stack, this);
    this.name = this.#add();
    stack.netifs.push(this);
    Netif.#all.push(this.#at);
    this.#up();
  }

  #add(): string {
    const { ffi, memory, scratch, callbacks } = this.#stack;
    const any = memory.address + scratch.ip;
    writeIpv4(memory, scratch.ip, 0);
    const input = ffi.symbol('ethernet_input');
    check(
      'netif_add()',
      ffi.netif_add(this.address, any, any, any, 0, callbacks.netifInit, input),
      this.address,
    );
    check('netif.input', this.#fields.input, input);
    this.#fields.fill({
      name: 'vn',
      mac: this.mac,
      mtu: this.#port.mtu,
      output: ffi.symbol('etharp_output'),
      outputIp6: ffi.symbol('ethip6_output'),
      linkOutput: callbacks.linkOutput,
    });
    const num = Netif.#freeNumber(memory);
    this.#fields.num = num;
    return `vn${num}`;
  }

  /** lwIP counts on for ever; an interface that comes after one was closed is to be vn0 again. */
  static #freeNumber(memory: Memory): number {
    const used = Netif.#all.map((at) => memory.u8[at + NETIF.NUM]);
    return Array.from({ length: used.length + 1 }, (_, i) => i).find((i) => !used.includes(i)) ?? 0;
  }

  #up(): void {
    const { ffi, netifs, timers } = this.#stack;
    this.#port.start(this);
    ffi.netif_set_link_up(this.address);
    ffi.netif_create_ip6_linklocal_address(this.address, 1);
    ffi.netif_set_up(this.address);
    if (netifs.length === 1) ffi.netif_set_default(this.address);
    const up = NETIF_FLAG.UP | NETIF_FLAG.LINK_UP;
    check('netif.flags', this.#fields.flags & up, up);
    timers.touch();
    this.flush();
  }

  /** Receive buffers that lwIP keeps at the moment: out-of-order data, fragments. */
  get held(): number {
    return this.#held;
  }

  /** Number for IPv6 zones, from 1. */
  get index(): number {
    return this.#fields.num + 1;
  }

  /** Sets address, netmask and gateway, as 32-bit numbers; announces the address by ARP. */
  setAddress(ip: number, netmask: number, gateway: number): void {
    const { ffi, memory, scratch } = this.#stack;
    const base = memory.address;
    writeIpv4(memory, scratch.ip, ip);
    writeIpv4(memory, scratch.ip2, netmask);
    writeIpv4(memory, scratch.ip3, gateway);
    ffi.netif_set_addr(this.address, base + scratch.ip, base + scratch.ip2, base + scratch.ip3);
    this.#stack.timers.touch();
    this.#stack.settle();
  }

  /** Largest IP packet; DHCP may lower it. */
  setMtu(mtu: number): void {
    this.#fields.mtu = Math.min(mtu, this.#port.mtu);
  }

  get ip(): number {
    return this.#fields.ip;
  }

  get netmask(): number {
    return this.#fields.netmask;
  }

  get gateway(): number {
    return this.#fields.gateway;
  }

  /** IPv6 addresses that may be used now. */
  get ip6(): string[] {
    return this.#fields.ip6;
  }

  /** `vn0 10.0.2.15/255.255.255.0 52:54:..`: for messages. */
  toString(): string {
    return `${this.name} (${formatIpv4(this.ip)}, netmask ${formatIpv4(this.netmask)}, MAC ${formatMac(this.mac)})`;
  }

  // ---- frames in ----

  receive(index: number, offset: number, length: number): void {
    const { memory, ffi } = this.#stack;
    if (this.#closed || this.tap?.(offset, length)) {
      this.#port.rxRelease(index);
      return;
    }
    if (!acceptFrame(memory, offset, length, this.#at, Netif.#all)) {
      this.counters.rxFiltered++;
      this.#port.rxRelease(index);
      return;
    }
    this.counters.rxFrames++;
    this.counters.rxBytes += length;
    const { u8 } = memory;
    const type = get16(u8, offset + ETH.TYPE);
    const opens = opensConnection(u8, offset, length);
    this.#stack.heard(opens);
    if (type === ETHERTYPE.ARP) this.neighbours.heard();
    else if (opens) {
      this.neighbours.learn(offset);
      this.#stack.timeWait.makeWay(offset);
    }
    const p =
      this.#held < this.#heldLimit ? this.#wrap(index, offset, length) : this.#copy(index, offset, length);
    if (p !== 0 && ffi.ethernet_input(p, this.address) !== ERR.OK) ffi.pbuf_free(p);
  }

  /** Makes the buffer's pbuf describe the frame, as pbuf_alloced_custom would. Returns its native address. */
  #wrap(index: number, offset: number, length: number): number {
    const { u16, u32 } = this.#stack.memory;
    const at = this.#pool + index * PBUF.CUSTOM_SIZE;
    this.#writePointer(at + PBUF.NEXT, 0);
    this.#writePointer(at + PBUF.PAYLOAD, this.#stack.memory.address + offset);
    u16[(at + PBUF.TOT_LEN) >>> 1] = length;
    u16[(at + PBUF.LEN) >>> 1] = length;
    // One store for four bytes: type, flags, ref = 1, if_idx = 0.
    u32[(at + PBUF.TYPE) >>> 2] = PBUF_TYPE.REF | (PBUF_FLAG_IS_CUSTOM << 8) | (1 << 16);
    this.#held++;
    return this.#stack.memory.address + at;
  }

  #copy(index: number, offset: number, length: number): number {
    const { ffi, memory } = this.#stack;
    const p = ffi.pbuf_alloc(PBUF_LAYER.RAW, length, PBUF_TYPE.RAM);
    if (p === 0) this.counters.rxNoMemory++;
    else ffi.memcpy(p + PBUF.SIZE, memory.address + offset, length);
    this.counters.rxCopied++;
    this.#port.rxRelease(index);
    return p;
  }

  endBatch(): void {
    this.#stack.timers.touch();
    this.#stack.settle();
  }

  ownsPbuf(pbuf: number): boolean {
    const at = pbuf - this.#stack.memory.address;
    return at >= this.#pool && at < this.#poolEnd;
  }

  recycle(pbuf: number): void {
    const at = pbuf - this.#stack.memory.address;
    this.#stack.memory.u8[at + PBUF.REF] = 0;
    this.#held--;
    this.#port.rxRelease((at - this.#pool) / PBUF.CUSTOM_SIZE);
  }

  // ---- frames out ----

  linkOutput(pbuf: number): number {
    const slot = this.#closed ? -1 : this.#port.txSlot();
    if (slot < 0) {
      this.counters.txFull++;
      this.#full = true;
      return ERR.MEM;
    }
    const { ffi, memory } = this.#stack;
    const length = ffi.pbuf_copy_partial(pbuf, memory.address + slot, MAX_FRAME, 0);
    this.#port.txCommit(length);
    this.counters.txFrames++;
    this.counters.txBytes += length;
    return ERR.OK;
  }

  /** Sends a frame of our own making (DHCP, ARP probes). False when the queue is full. */
  sendFrame(frame: Uint8Array, length: number): boolean {
    const slot = this.#closed ? -1 : this.#port.txSlot();
    if (slot < 0) return false;
    this.#stack.memory.u8.set(frame.subarray(0, length), slot);
    this.#port.txCommit(length);
    this.counters.txFrames++;
    this.counters.txBytes += length;
    this.#port.flush();
    return true;
  }

  flush(): void {
    this.#port.flush();
  }

  txRoom(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#stack.retryOutput();
  }

  rxLost(): void {
    this.counters.rxLost++;
    this.#stack.askPeers();
  }

  /** The device is dead: connections over it end now instead of timing out. */
  fail(reason: string): void {
    this.failure = reason;
    this.#stack.interfaceFailed(this.ip);
  }

  /** Takes the interface out; what comes from the port afterwards is ignored. */
  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    const { ffi, netifs } = this.#stack;
    ffi.netif_remove(this.address);
    netifs.splice(netifs.indexOf(this), 1);
    Netif.#all.splice(Netif.#all.indexOf(this.#at), 1);
    this.#port.close();
  }

  #writePointer(at: number, value: number): void {
    const { u32 } = this.#stack.memory;
    u32[at >>> 2] = value % TWO_32;
    u32[(at >>> 2) + 1] = value / TWO_32;
  }
}
