/**
 * The far end of a test's interface: libslirp as a user network on 10.0.2.0/24, in the same process.
 *
 * 10.0.2.2 is the host's loopback, 10.0.2.15 the address its DHCP server gives; fe80::2 answers neighbour discovery only. For tests only: it polls slirp's sockets
 * with poll(2), every 2 ms when idle. libslirp.so.0 (Debian package libslirp0), struct layouts of version 4.7.
 */
import koffi from 'koffi';
import { parseIpv4 } from '#common/wire/ipv4';
import { type FramePort, type FrameSink, MAX_FRAME } from '../netif.ts';
import type { NativeMemory } from '../stack.ts';

const P = 'uint64_t';
const RX_BUFFERS = 256;
const SLOT = 1526;
const IDLE_MS = 2;

const PROTO = {
  send: koffi.proto('int64_t SlirpSend(uint64_t buf, size_t len, uint64_t opaque)'),
  error: koffi.proto('void SlirpError(const char *message, uint64_t opaque)'),
  clock: koffi.proto('int64_t SlirpClock(uint64_t opaque)'),
  timerNew: koffi.proto('uint64_t SlirpTimerNew(int id, uint64_t cbOpaque, uint64_t opaque)'),
  timerFree: koffi.proto('void SlirpTimerFree(uint64_t timer, uint64_t opaque)'),
  timerMod: koffi.proto('void SlirpTimerMod(uint64_t timer, int64_t ms, uint64_t opaque)'),
  fd: koffi.proto('void SlirpFd(int fd, uint64_t opaque)'),
  notify: koffi.proto('void SlirpNotify(uint64_t opaque)'),
  init: koffi.proto('void SlirpInit(uint64_t slirp, uint64_t opaque)'),
  add: koffi.proto('int SlirpAdd(int fd, int events, uint64_t opaque)'),
  revents: koffi.proto('int SlirpRevents(int index, uint64_t opaque)'),
};

/** SLIRP_POLL_IN, OUT, PRI, ERR, HUP and poll(2)'s bits for them. */
const EVENTS = [
  [1, 1],
  [2, 4],
  [4, 2],
  [8, 8],
  [16, 16],
] as const;

interface Timer {
  readonly id: number;
  readonly opaque: number;
  handle?: NodeJS.Timeout;
}

type Fn = (...args: number[]) => unknown;

export interface SlirpOptions {
  /** 10.0.2.3 answers name queries with the host's resolver; off: nobody is there. */
  readonly dns?: boolean;
}

export class SlirpPort implements FramePort {
  readonly mac = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
  readonly mtu = 1500;
  readonly rxBuffers = RX_BUFFERS;
  /** Frames slirp sent that found no buffer. */
  dropped = 0;
  /** When set, frames are dropped for which it returns true ('rx' is towards lwIP). */
  lose: ((direction: 'rx' | 'tx', offset: number, length: number) => boolean) | undefined;
  readonly #memory: NativeMemory;
  readonly #rx: number;
  readonly #tx: number;
  readonly #free: number[] = [];
  readonly #queue: { index: number; length: number }[] = [];
  readonly #kept: unknown[] = [];
  readonly #timers = new Map<number, Timer>();
  readonly #lib = koffi.load('libslirp.so.0');
  readonly #libc = koffi.load('libc.so.6');
  readonly #memcpy = this.#libc.func('memcpy', 'void', [P, P, 'size_t']);
  readonly #poll = this.#libc.func('poll', 'int', ['void *', 'ulong', 'int']);
  readonly #input = this.#lib.func('slirp_input', 'void', [P, P, 'int']);
  readonly #fill = this.#lib.func('slirp_pollfds_fill', 'void', [P, P, P, P]);
  readonly #done = this.#lib.func('slirp_pollfds_poll', 'void', [P, 'int', P, P]);
  readonly #handleTimer = this.#lib.func('slirp_handle_timer', 'void', [P, 'int', P]);
  readonly #slirp: number;
  readonly #fds = new Int32Array(2 * 1024);
  #fdCount = 0;
  readonly #add: number;
  readonly #revents: number;
  readonly #scratch: number;
  #netif: FrameSink | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #timeout: NodeJS.Timeout | undefined;
  #idle = 0;
  #closed = false;

  constructor(memory: NativeMemory, options: SlirpOptions = {}) {
    this.#memory = memory;
    this.#rx = memory.mapPrivate(RX_BUFFERS * SLOT);
    this.#tx = memory.mapPrivate(SLOT);
    this.#scratch = memory.mapPrivate(4096);
    for (let i = 0; i < RX_BUFFERS; i++) this.#free.push(i);
    this.#add = this.#callback('add', (fd, events) => {
      const i = this.#fdCount++;
      this.#fds[2 * i] = fd as number;
      let wanted = 0;
      for (const [slirp, poll] of EVENTS.slice(0, 3)) if ((events as number) & slirp) wanted |= poll;
      this.#fds[2 * i + 1] = wanted;
      return i;
    });
    this.#revents = this.#callback('revents', (i) => {
      const got = (this.#fds[2 * (i as number) + 1] as number) >>> 16;
      let events = 0;
      for (const [slirp, poll] of EVENTS) if (got & poll) events |= slirp;
      return events;
    });
    const create = this.#lib.func('slirp_new', P, [P, P, P]);
    this.#slirp = create(this.#config(options), this.#callbacks(), 0);
  }

  #callback(name: keyof typeof PROTO, fn: Fn): number {
    const pointer = koffi.register(fn, koffi.pointer(PROTO[name]));
    this.#kept.push(pointer);
    return Number(koffi.address(pointer));
  }

  /** struct SlirpCb, 11 pointers. */
  #callbacks(): number {
    const at = this.#scratch + 512;
    const nothing = this.#callback('fd', () => {});
    const table = [
      this.#callback('send', (from, length) => this.#fromSlirp(from as number, Number(length))),
      this.#callback('error', () => {}),
      this.#callback('clock', () => process.hrtime.bigint()),
      0,
      this.#callback('timerFree', (timer) => {
        clearTimeout(this.#timers.get(Number(timer))?.handle);
        this.#timers.delete(Number(timer));
      }),
      this.#callback('timerMod', (timer, ms) => this.#modTimer(Number(timer), Number(ms))),
      nothing,
      nothing,
      this.#callback('notify', () => this.#kick()),
      this.#callback('init', () => {}),
      this.#callback('timerNew', (id, opaque) => {
        const key = this.#timers.size + 1;
        this.#timers.set(key, { id: id as number, opaque: Number(opaque) });
        return key;
      }),
    ];
    table.forEach((address, i) => {
      this.#memory.view.setBigUint64(at + 8 * i, BigInt(address), true);
    });
    return this.#memory.address + at;
  }

  /** struct SlirpConfig, 184 bytes. */
  #config(options: SlirpOptions): number {
    const at = this.#scratch;
    const { view } = this.#memory;
    const ip = (offset: number, text: string): void => view.setUint32(at + offset, parseIpv4(text) ?? 0);
    view.setUint32(at, 4, true);
    view.setUint8(at + 8, 1);
    ip(12, '10.0.2.0');
    ip(16, '255.255.255.0');
    ip(20, '10.0.2.2');
    ip(96, '10.0.2.15');
    ip(100, '10.0.2.3');
    const { u8 } = this.#memory;
    u8[at + 24] = 1;
    u8.set([0xfe, 0xc0], at + 28);
    u8[at + 44] = 64;
    u8.set([0xfe, 0xc0], at + 48);
    u8[at + 48 + 15] = 2;
    u8.set([0xfe, 0xc0], at + 104);
    u8[at + 104 + 15] = 3;
    view.setUint8(at + 176, options.dns ? 0 : 1);
    return this.#memory.address + at;
  }

  #modTimer(key: number, ms: number): void {
    const timer = this.#timers.get(key);
    if (timer === undefined) return;
    clearTimeout(timer.handle);
    const wait = Math.max(0, ms - Number(process.hrtime.bigint() / 1_000_000n));
    timer.handle = setTimeout(() => {
      this.#handleTimer(this.#slirp, timer.id, timer.opaque);
      this.#kick();
    }, wait).unref();
  }

  /** Never calls lwIP from here: the frame waits for the next turn. */
  #fromSlirp(from: number, length: number): number {
    const at = this.#enqueue(length);
    if (at >= 0) this.#memcpy(this.#memory.address + at, from, length);
    return length;
  }

  /** A frame as if slirp had sent it; those of one turn of the event loop come in one batch. */
  inject(frame: Uint8Array): void {
    const at = this.#enqueue(frame.length);
    if (at >= 0) this.#memory.u8.set(frame, at);
  }

  /** Where the next frame goes, or -1 when it is dropped. */
  #enqueue(length: number): number {
    const index = length > MAX_FRAME ? undefined : this.#free.pop();
    if (index === undefined) {
      this.dropped++;
      return -1;
    }
    this.#queue.push({ index, length });
    this.#kick();
    return this.#bufferAt(index);
  }

  #bufferAt(index: number): number {
    return this.#rx + index * SLOT + 12;
  }

  /** Leads a free TCP port of the host's loopback to a port of the guest 10.0.2.15; returns it. */
  forward(guestPort: number): number {
    const add = this.#lib.func('slirp_add_hostfwd', 'int', [P, 'int', 'uint32_t', 'int', 'uint32_t', 'int']);
    // struct in_addr by value: network order in a little-endian word.
    const loopback = 0x0100007f;
    const guest = 0x0f02000a;
    if (add(this.#slirp, 0, loopback, 0, guest, guestPort) !== 0) {
      throw new Error(`Cannot forward to guest port ${guestPort} as libslirp refused it`);
    }
    const table: string = this.#lib.func('slirp_connection_info', 'str', [P])(this.#slirp);
    const entry = new RegExp(
      `HOST_FORWARD\\]\\s+\\d+\\s+127\\.0\\.0\\.1\\s+(\\d+)\\s+10\\.0\\.2\\.15\\s+${guestPort}\\s`,
    );
    return Number(entry.exec(table)?.[1]);
  }

  // ---- FramePort ----

  start(netif: FrameSink): void {
    this.#netif = netif;
    this.#kick();
  }

  txSlot(): number {
    return this.#tx;
  }

  txCommit(length: number): void {
    if (this.#closed || this.lose?.('tx', this.#tx, length)) return;
    this.#input(this.#slirp, this.#memory.address + this.#tx, length);
    this.#kick();
  }

  flush(): void {}

  rxRelease(index: number): void {
    this.#free.push(index);
  }

  close(): void {
    this.#closed = true;
    clearImmediate(this.#immediate);
    clearTimeout(this.#timeout);
    for (const { handle } of this.#timers.values()) clearTimeout(handle);
    this.#lib.func('slirp_cleanup', 'void', [P])(this.#slirp);
  }

  // ---- turns ----

  #kick(): void {
    this.#idle = 0;
    if (this.#immediate !== undefined || this.#closed) return;
    clearTimeout(this.#timeout);
    this.#immediate = setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    this.#immediate = undefined;
    const busy = this.#pollSlirp();
    if (this.#queue.length > 0) this.#deliver();
    if (this.#immediate !== undefined || this.#closed) return;
    if (busy) this.#idle = 0;
    if (this.#idle++ < 2) this.#immediate = setImmediate(this.#turn);
    else this.#timeout = setTimeout(this.#turn, IDLE_MS).unref();
  };

  #pollSlirp(): boolean {
    this.#fdCount = 0;
    this.#fill(this.#slirp, this.#memory.address + this.#scratch + 1024, this.#add, 0);
    const ready = this.#fdCount === 0 ? 0 : this.#poll(this.#fds, this.#fdCount, 0);
    this.#done(this.#slirp, ready < 0 ? 1 : 0, this.#revents, 0);
    return ready > 0;
  }

  #deliver(): void {
    const frames = this.#queue.splice(0);
    for (const { index, length } of frames) {
      const offset = this.#bufferAt(index);
      if (this.lose?.('rx', offset, length)) this.#free.push(index);
      else this.#netif?.receive(index, offset, length);
    }
    this.#netif?.endBatch();
  }
}
