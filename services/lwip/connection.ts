/**
 * One TCP connection of lwIP: a pcb, what it received, and its flow control.
 *
 * Acknowledgements: lwIP would send one for every second segment. While a batch of frames is processed we turn
 * "now" back into "delayed" and let one out for every `ACK_BYTES`, and at the end of the batch; each costs a frame through
 * the whole chain and back. The window opens (`tcp_recved`) for bytes that the program takes; when it stops reading, at most
 * one window of 64 KiB is kept here and the peer is stopped.
 */
import type { IpAddress } from './address.ts';
import { readIp, writeAnyIp, writeIp } from './address.ts';
import { ERR } from './errors.ts';
import {
  IPADDR_TYPE,
  SOF_KEEPALIVE,
  TCP_PCB,
  TCP_WRITE_FLAG_COPY,
  TCP_WRITE_FLAG_MORE,
  TF,
} from './layout.ts';
import { ReceiveBuffer } from './receive_buffer.ts';
import type { Callee, Dirty, Stack } from './stack.ts';

/** Eight segments: an eighth of the window, so that the peer never waits for an acknowledgement. */
const ACK_BYTES = 8 * 1460;
const MAX_U16 = 0xffff;
const MAX_KEEP_MS = 2 ** 31 - 1;
/** As Linux. */
const MAX_KEEP_COUNT = 127;

/** What a connection tells its socket; always from `Stack.settle`, never below lwIP. */
export interface ConnectionEvents {
  connected(): void;
  /** False: no more until `Connection.resume`. */
  data(chunk: Buffer): boolean;
  /** The peer has sent its FIN and all data has been delivered. */
  ended(): void;
  /** There is room to write again. */
  writable(): void;
  /** The connection is gone; an `err_t`. */
  failed(err: number): void;
}

/** Of a keep-alive; absent or 0: as before. */
export interface KeepAliveTimes {
  readonly idleMs?: number;
  readonly intervalMs?: number;
  readonly count?: number;
}

export class Connection implements Callee, Dirty {
  readonly #stack: Stack;
  readonly #id: number;
  readonly #events: ConnectionEvents;
  readonly #received: ReceiveBuffer;
  /** 0 once lwIP has freed it. */
  #pcb: number;
  /** The pcb's fields; never touched once #pcb is 0. */
  #view: DataView;
  #reading = false;
  #uncredited = 0;
  #sinceAck = 0;
  #heldBack = false;
  #dirty = false;
  #justConnected = false;
  #writable = false;
  #peerEnded = false;
  #finSent = false;
  #endDelivered = false;
  #error: number = ERR.OK;
  #errorDelivered = false;

  /** With `pcb` 0 a new one is made; otherwise an accepted one is taken over. Throws RangeError without memory. */
  constructor(stack: Stack, events: ConnectionEvents, pcb = 0) {
    this.#stack = stack;
    this.#events = events;
    this.#received = new ReceiveBuffer(stack);
    const { ffi, callbacks } = stack;
    this.#pcb = pcb === 0 ? ffi.tcp_new_ip_type(IPADDR_TYPE.ANY) : pcb;
    if (this.#pcb === 0) throw new RangeError('Cannot open a TCP connection as lwIP has no memory left');
    this.#view = new DataView(ffi.view(this.#pcb, TCP_PCB.SIZE));
    this.#id = stack.register(this);
    ffi.tcp_arg(this.#pcb, this.#id);
    ffi.tcp_recv(this.#pcb, callbacks.recv);
    ffi.tcp_sent(this.#pcb, callbacks.sent);
    ffi.tcp_err(this.#pcb, callbacks.err);
  }

  get open(): boolean {
    return this.#pcb !== 0;
  }

  /** Starts to connect; returns an err_t. `localPort` 0 = any. */
  connect(to: IpAddress, port: number, localPort: number, localAddress: IpAddress | undefined): number {
    const { ffi, memory, scratch, callbacks, timers } = this.#stack;
    const ip = memory.address + scratch.ip;
    if (localPort !== 0 || localAddress !== undefined) {
      if (localAddress === undefined) writeAnyIp(memory, scratch.ip);
      else writeIp(memory, scratch.ip, localAddress);
      const err = ffi.tcp_bind(this.#pcb, ip, localPort);
      if (err !== ERR.OK) return err;
    }
    writeIp(memory, scratch.ip, to);
    const err = ffi.tcp_connect(this.#pcb, ip, port, callbacks.connected);
    timers.touch();
    this.#stack.flush();
    return err;
  }

  // ---- callbacks of lwIP ----

  onConnected(): void {
    this.#justConnected = true;
    this.#mark();
  }

  onRecv(pbuf: number, _err: number): number {
    if (pbuf === 0) {
      this.#peerEnded = true;
      // Both FINs are there: from now on lwIP may free the pcb without telling (TIME-WAIT), so we let go of it first.
      if (this.#finSent) this.#release();
    } else {
      const n = this.#received.takeChain(pbuf);
      this.#uncredited += n;
      this.#sinceAck += n;
      this.#paceAck();
    }
    this.#mark();
    return ERR.OK;
  }

  /** In lwIP's input, just before it sends: hold its acknowledgement back, or make it a full one. */
  #paceAck(): void {
    const flags = this.#view.getUint16(TCP_PCB.FLAGS, true);
    if (this.#sinceAck >= ACK_BYTES) {
      this.#sinceAck = 0;
      this.#heldBack = false;
      if (this.#reading) this.#credit();
      else this.#setFlags((flags & ~TF.ACK_DELAY) | TF.ACK_NOW);
    } else if (flags & TF.ACK_NOW) {
      this.#setFlags((flags & ~TF.ACK_NOW) | TF.ACK_DELAY);
      this.#heldBack = true;
    }
  }

  onSent(_length: number): void {
    this.#writable = true;
    this.#mark();
  }

  /** lwIP has freed the pcb already. ERR_CLSD: both sides had closed, nothing went wrong. */
  onError(err: number): void {
    this.#pcb = 0;
    if (err !== ERR.CLSD) this.#error = err;
    this.#mark();
  }

  onInterfaceFailed(ip: string): void {
    if (this.#pcb === 0 || this.endpoints?.local !== ip) return;
    this.#forget();
    this.#stack.ffi.tcp_abort(this.#pcb);
    this.onError(ERR.IF);
  }

  #mark(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    this.#stack.markDirty(this);
  }

  // ---- settle ----

  acknowledge(): void {
    if (this.#pcb === 0) return;
    if (this.#reading) this.#credit();
    if (!this.#heldBack) return;
    this.#heldBack = false;
    this.#sinceAck = 0;
    const flags = this.#view.getUint16(TCP_PCB.FLAGS, true);
    // tcp_recved may have sent it already.
    if ((flags & TF.ACK_DELAY) === 0) return;
    this.#setFlags((flags & ~TF.ACK_DELAY) | TF.ACK_NOW);
    this.#stack.ffi.tcp_output(this.#pcb);
  }

  deliver(): void {
    this.#dirty = false;
    if (this.#justConnected) {
      this.#justConnected = false;
      this.#events.connected();
    }
    this.#deliverData();
    if (this.#writable && this.#pcb !== 0) {
      this.#writable = false;
      this.#events.writable();
    }
    if (this.#error !== ERR.OK && !this.#errorDelivered && (this.#received.length === 0 || !this.#reading)) {
      this.#errorDelivered = true;
      this.#stack.unregister(this.#id);
      this.#events.failed(this.#error);
    }
  }

  #deliverData(): void {
    while (this.#reading && this.#received.length > 0) {
      const chunk = this.#received.shift();
      if (chunk === undefined) break;
      this.#reading = this.#events.data(chunk);
    }
    if (this.#peerEnded && !this.#endDelivered && this.#reading && this.#received.length === 0) {
      this.#endDelivered = true;
      this.#events.ended();
    }
  }

  // ---- calls of the socket ----

  /** The program wants data: opens the window for what lies here and delivers it from the event loop. */
  resume(): void {
    if (this.#reading) return;
    this.#reading = true;
    if (this.#pcb !== 0 && this.#uncredited > 0) {
      this.#credit();
      this.#stack.flush();
    }
    if (this.#received.length > 0 || this.#peerEnded || this.#error !== ERR.OK) this.#mark();
  }

  #credit(): void {
    while (this.#uncredited > 0) {
      const n = Math.min(this.#uncredited, MAX_U16);
      this.#uncredited -= n;
      this.#stack.ffi.tcp_recved(this.#pcb, n);
    }
  }

  /**
   * Queues as much of `bytes` from `from` as lwIP takes (it copies). Returns the number of bytes taken, or a
   * negative err_t when the connection cannot send any more. `more`: the caller has further bytes at hand.
   */
  write(bytes: Uint8Array, from: number, more: boolean): number {
    if (this.#pcb === 0) return ERR.CONN;
    const { ffi } = this.#stack;
    let taken = 0;
    while (from + taken < bytes.length) {
      const room = this.#view.getUint32(TCP_PCB.SND_BUF, true);
      const n = Math.min(room, bytes.length - from - taken, MAX_U16);
      if (n === 0) break;
      const last = from + taken + n === bytes.length && !more;
      const flags = TCP_WRITE_FLAG_COPY | (last ? 0 : TCP_WRITE_FLAG_MORE);
      const err = ffi.tcp_write(this.#pcb, bytes.subarray(from + taken, from + taken + n), n, flags);
      if (err === ERR.MEM) break;
      if (err !== ERR.OK) return err;
      taken += n;
    }
    return taken;
  }

  /** Sends what `write` queued. */
  output(): void {
    if (this.#pcb === 0) return;
    this.#stack.ffi.tcp_output(this.#pcb);
    this.#stack.timers.touch();
    this.#stack.flush();
  }

  /** Sends a FIN behind what was written; receiving goes on. */
  shutdownWrite(): void {
    if (this.#pcb === 0) return;
    this.#finSent = true;
    if (this.#peerEnded) this.#release();
    else {
      const err = this.#stack.ffi.tcp_shutdown(this.#pcb, 0, 1);
      if (err !== ERR.OK && err !== ERR.CONN) this.abort();
    }
    this.#stack.flush();
  }

  /** Leaves the rest (our FIN's acknowledgement, TIME-WAIT) to lwIP; received data stays here to be read. */
  #release(): void {
    // With its whole window open again lwIP closes gracefully.
    this.#credit();
    this.#forget();
    const { ffi } = this.#stack;
    if (ffi.tcp_close(this.#pcb) !== ERR.OK) ffi.tcp_abort(this.#pcb);
    this.#pcb = 0;
  }

  /** Gives the connection up: a FIN behind what was written, or a RST when data was left unread. */
  close(): void {
    if (!this.#detach()) return;
    const { ffi } = this.#stack;
    if (ffi.tcp_close(this.#pcb) !== ERR.OK) ffi.tcp_abort(this.#pcb);
    this.#pcb = 0;
    this.#stack.timers.touch();
    this.#stack.flush();
  }

  /** Sends a RST. */
  abort(): void {
    if (!this.#detach()) return;
    this.#stack.ffi.tcp_abort(this.#pcb);
    this.#pcb = 0;
    this.#stack.flush();
  }

  /** No callback comes from the pcb any more. False when it was gone already. */
  #detach(): boolean {
    this.#stack.unregister(this.#id);
    this.#reading = false;
    this.#errorDelivered = true;
    if (this.#pcb === 0) return false;
    this.#forget();
    return true;
  }

  #forget(): void {
    const { ffi } = this.#stack;
    ffi.tcp_arg(this.#pcb, 0);
    ffi.tcp_recv(this.#pcb, 0);
    ffi.tcp_sent(this.#pcb, 0);
    ffi.tcp_err(this.#pcb, 0);
  }

  // ---- fields of the pcb ----

  setNoDelay(on: boolean): void {
    if (this.#pcb === 0) return;
    const flags = this.#view.getUint16(TCP_PCB.FLAGS, true);
    this.#setFlags(on ? flags | TF.NODELAY : flags & ~TF.NODELAY);
  }

  /**
   * After `idleMs` without a segment the peer is probed, `count` times every `intervalMs` while it does not answer; 0 keeps
   * what was set before, at first lwIP's two hours, 75 s and 9 times.
   */
  setKeepAlive(on: boolean, { idleMs = 0, intervalMs = 0, count = 0 }: KeepAliveTimes): void {
    if (this.#pcb === 0) return;
    // lwIP adds all of it up in 32 bits.
    const set = (at: number, value: number, most: number): void => {
      if (value > 0) this.#view.setUint32(at, Math.min(value, most), true);
    };
    set(TCP_PCB.KEEP_IDLE, idleMs, MAX_KEEP_MS);
    set(TCP_PCB.KEEP_CNT, count, MAX_KEEP_COUNT);
    const probes = this.#view.getUint32(TCP_PCB.KEEP_CNT, true);
    set(TCP_PCB.KEEP_INTVL, intervalMs, Math.floor(MAX_KEEP_MS / probes));
    const options = this.#view.getUint8(TCP_PCB.SO_OPTIONS);
    this.#view.setUint8(TCP_PCB.SO_OPTIONS, on ? options | SOF_KEEPALIVE : options & ~SOF_KEEPALIVE);
  }

  #setFlags(flags: number): void {
    this.#view.setUint16(TCP_PCB.FLAGS, flags, true);
  }

  /** Addresses and ports; undefined once the connection is gone. */
  get endpoints(): { local: string; localPort: number; remote: string; remotePort: number } | undefined {
    if (this.#pcb === 0) return undefined;
    const { ffi, memory, scratch } = this.#stack;
    ffi.memcpy(memory.address + scratch.ip, this.#pcb + TCP_PCB.LOCAL_IP, 48);
    return {
      local: readIp(memory, scratch.ip),
      localPort: this.#view.getUint16(TCP_PCB.LOCAL_PORT, true),
      remote: readIp(memory, scratch.ip2),
      remotePort: this.#view.getUint16(TCP_PCB.REMOTE_PORT, true),
    };
  }
}
