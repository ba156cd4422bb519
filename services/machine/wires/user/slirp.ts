/**
 * One libslirp instance: the user network behind one NIC.
 *
 * libslirp calls back from inside `input` and `turn`; callbacks only copy, note and return, they never
 * call into it again. A full turn (fill, peek, poll) costs several calls through koffi, so it is made only when a
 * descriptor is ready, the guest has sent something, or a timer is due; else a turn is one epoll_wait.
 */

import { Throttle } from '#common/obs/throttle';
import type { Arena } from '#common/shm/arena';
import { lastError, listen } from '../libc.ts';
import type { HostForward } from '../options.ts';
import { EpollSet } from './epoll_set.ts';
import {
  callTimer,
  configVersion,
  type LibSlirp,
  libslirp,
  nativeCallback,
  PROTO,
  SLIRP_CB,
} from './libslirp.ts';
import { CONFIG_SIZE, type UserNetwork, writeConfig } from './network.ts';

/** What the owner of an instance hears. Called from inside `input` and `turn`: must not call back. */
export interface SlirpEvents {
  /** A frame for the guest at a native address; valid during the call only. */
  frame(address: number, length: number): void;
  /** There is something to do: `turn` soon. */
  notify(): void;
  /** It has opened a socket of the host (of those of `forwardHost` it does not tell), or is about to close it. */
  opened(fd: number): void;
  closed(fd: number): void;
  /** Whether it may take another connection at a host-forward now. */
  mayAccept(): boolean;
  log(level: 'warn' | 'error', text: string): void;
}

/** Timeout word behind the structures. */
const TIMEOUT = CONFIG_SIZE + SLIRP_CB.SIZE;
const BYTES = 4096;
/** Connections to a host-forward that may wait to be taken: as many as Linux allows (net.core.somaxconn, 4096 by default). */
const BACKLOG = 4096;

/** Writes one callback into the structure that libslirp gets. */
type Put = (
  where: number,
  callback: (...args: never[]) => unknown,
  proto: (typeof PROTO)[keyof typeof PROTO],
) => void;

interface Timer {
  readonly fire: () => void;
  /** In milliseconds of the clock that slirp reads; Infinity: not set. */
  expires: number;
}

export class Slirp {
  readonly #lib: LibSlirp;
  readonly #arena: Arena;
  readonly #events: SlirpEvents;
  readonly #set: EpollSet;
  /** What libslirp says about the guest. */
  readonly #complaints: Throttle;
  readonly #memory: number;
  readonly #callbacks: { readonly address: number; release(): void }[] = [];
  readonly #timers = new Map<number, Timer>();
  readonly #addPoll: number;
  readonly #getRevents: number;
  /** Sockets that listen for host-forwards. */
  readonly #listening = new Set<number>();
  #instance = 0;
  #lastTimer = 0;
  /** slirp's wishes may have changed since the last fill. */
  #needFill = true;
  /** A turn is due even when no descriptor is ready. */
  #needPoll = true;
  #deadline = 0;
  #frames = 0;

  /** `version` forces an older layout of the configuration (tests). */
  constructor(arena: Arena, network: UserNetwork, events: SlirpEvents, version?: number) {
    this.#lib = libslirp();
    this.#arena = arena;
    this.#events = events;
    // Each of them may come again with every turn, or every frame of a guest.
    const failures = new Throttle((text) => events.log('error', text));
    this.#complaints = new Throttle((text) => events.log('warn', `libslirp: ${text}`));
    this.#set = new EpollSet(arena, (text) => failures.say(text));
    this.#memory = arena.mapPrivate(BYTES);
    const level = version ?? configVersion(this.#lib.version);
    writeConfig(arena, this.#memory, network, level);
    this.#writeCallbacks(this.#memory + CONFIG_SIZE, level);
    this.#addPoll = this.#native((fd: number, wanted: number) => this.#want(fd, wanted), PROTO.addPoll);
    this.#getRevents = this.#native((index: number) => this.#set.ready(index), PROTO.getRevents);
    const at = arena.address + this.#memory;
    this.#instance = Number(this.#lib.create(at, at + CONFIG_SIZE, 0));
    if (this.#instance === 0) {
      this.close();
      throw new Error(`Cannot make wire "user" as libslirp ${this.#lib.version} refused its configuration`);
    }
  }

  /** Readable when a turn would do something; to be watched while asleep. */
  get pollFd(): number {
    return this.#set.fd;
  }

  /** Descriptors that slirp waits for. */
  get sockets(): number {
    return this.#set.size;
  }

  /** Listens on a port of the host for a guest. False: the host does not let us. */
  forwardHost({ udp, hostIp, hostPort, guestIp, guestPort }: HostForward): boolean {
    const before = new Set(this.#wished());
    const words = [hostIp, guestIp].map(networkOrder) as [number, number];
    const [host, guest] = words;
    if (this.#lib.addHostForward(this.#instance, udp ? 1 : 0, host, hostPort, guest, guestPort) !== 0)
      return false;
    if (!udp) for (const fd of this.#wished()) if (!before.has(fd)) this.#letWait(fd);
    return true;
  }

  /**
   * libslirp lets one connection wait and takes one in a turn: Linux drops the SYNs of the others, which try again after
   * seconds, or resets them. It does not tell the socket's number, but wishes to hear of it.
   */
  #letWait(fd: number): void {
    this.#listening.add(fd);
    if (listen(fd, BACKLOG) < 0)
      this.#events.log('warn', `Only one connection at a time can wait at a host-forward: ${lastError()}`);
  }

  /** The descriptors that slirp wants to hear of now. */
  #wished(): readonly number[] {
    this.#fill(performance.now());
    return [...this.#set.descriptors];
  }

  /** Hands slirp a frame from the guest. May call `frame` at once. */
  input(offset: number, length: number): void {
    this.#needFill = true;
    this.#needPoll = true;
    this.#lib.input(this.#instance, this.#arena.address + offset, length);
  }

  /**
   * Sends what waits for the MAC address that the guest has just told, without looking at sockets. slirp remembers 16
   * guests; by the next turn others may have taken the place, and it asks but once for a packet and drops it after 1 s.
   */
  flush(): void {
    this.#lib.pollfdsPoll(this.#instance, 1, this.#getRevents, 0);
    this.#needFill = true;
  }

  /** One non-blocking turn over at most `maxSockets` ready descriptors. True when anything was done. */
  turn(maxSockets: number): boolean {
    const now = performance.now();
    if (now >= this.#deadline) this.#expire(now);
    if (this.#needFill) this.#fill(now);
    const ready = this.#set.peek(maxSockets);
    if (ready === 0 && !this.#needPoll) return false;
    const before = this.#frames;
    this.#needPoll = false;
    this.#lib.pollfdsPoll(this.#instance, ready < 0 ? 1 : 0, this.#getRevents, 0);
    this.#set.clear();
    this.#needFill = true;
    return ready > 0 || this.#frames !== before;
  }

  /** About to sleep: milliseconds until a turn is due (0: now); `pollFd` then covers everything else. */
  prepareSleep(): number {
    const now = performance.now();
    if (this.#needPoll || now >= this.#deadline) return 0;
    if (this.#needFill) this.#fill(now);
    return Math.max(0, this.#deadline - now);
  }

  close(): void {
    if (this.#instance !== 0) this.#lib.cleanup(this.#instance);
    this.#instance = 0;
    this.#timers.clear();
    this.#set.close();
    this.#arena.unmap(this.#memory, BYTES);
    for (const callback of this.#callbacks) callback.release();
    this.#callbacks.length = 0;
  }

  /** slirp wishes to hear of a descriptor. Of who connects it does not hear while it may not accept: they wait in the kernel. */
  #want(fd: number, wanted: number): number {
    const hears = this.#listening.size === 0 || !this.#listening.has(fd) || this.#events.mayAccept();
    return this.#set.want(fd, hears ? wanted : 0);
  }

  #fill(now: number): void {
    const at = this.#memory + TIMEOUT;
    const { view } = this.#arena;
    view.setUint32(at, 0xffffffff, true);
    this.#set.begin();
    this.#lib.pollfdsFill(this.#instance, this.#arena.address + at, this.#addPoll, 0);
    this.#set.commit();
    this.#needFill = false;
    this.#deadline = now + sleepFor(view.getUint32(at, true), this.#set.size);
    for (const timer of this.#timers.values()) this.#deadline = Math.min(this.#deadline, timer.expires);
  }

  #expire(now: number): void {
    this.#needFill = true;
    this.#needPoll = true;
    for (const timer of this.#timers.values()) {
      if (timer.expires > now) continue;
      timer.expires = Number.POSITIVE_INFINITY;
      timer.fire();
    }
  }

  #newTimer(fire: () => void): number {
    const id = ++this.#lastTimer;
    this.#timers.set(id, { fire, expires: Number.POSITIVE_INFINITY });
    return id;
  }

  #native(callback: (...args: never[]) => unknown, proto: (typeof PROTO)[keyof typeof PROTO]): number {
    const made = nativeCallback(callback, proto);
    this.#callbacks.push(made);
    return made.address;
  }

  /** The structure of callbacks at `at`, in the layout of configuration version `level`. */
  #writeCallbacks(at: number, level: number): void {
    const put: Put = (where, callback, proto) =>
      this.#arena.view.setBigUint64(at + where, BigInt(this.#native(callback, proto)), true);
    this.#writeTimerCallbacks(put, level);
    const { notify, frame } = this.#events;
    put(
      SLIRP_CB.SEND_PACKET,
      (address: number, length: number) => {
        this.#frames += 1;
        frame(address, length);
        return length;
      },
      PROTO.sendPacket,
    );
    put(SLIRP_CB.GUEST_ERROR, (text: string) => this.#complaints.say(text), PROTO.guestError);
    put(SLIRP_CB.REGISTER_POLL_FD, (fd: number) => this.#events.opened(fd), PROTO.pollFd);
    put(
      SLIRP_CB.UNREGISTER_POLL_FD,
      (fd: number) => {
        this.#set.forget(fd);
        this.#events.closed(fd);
      },
      PROTO.pollFd,
    );
    put(
      SLIRP_CB.NOTIFY,
      () => {
        this.#needFill = true;
        this.#needPoll = true;
        notify();
      },
      PROTO.notify,
    );
    if (level >= 4) put(SLIRP_CB.INIT_COMPLETED, () => undefined, PROTO.initCompleted);
  }

  #writeTimerCallbacks(put: Put, level: number): void {
    put(SLIRP_CB.CLOCK_GET_NS, () => Math.floor(performance.now() * 1e6), PROTO.clockGetNs);
    put(
      SLIRP_CB.TIMER_NEW,
      (callback: number, opaque: number) => this.#newTimer(() => callTimer(callback, opaque)),
      PROTO.timerNew,
    );
    put(SLIRP_CB.TIMER_FREE, (timer: number) => this.#timers.delete(Number(timer)), PROTO.timerFree);
    put(
      SLIRP_CB.TIMER_MOD,
      (timer: number, expires: number) => this.#setTimer(Number(timer), Number(expires)),
      PROTO.timerMod,
    );
    if (level < 4) return;
    put(
      SLIRP_CB.TIMER_NEW_OPAQUE,
      (id: number, opaque: number) => this.#newTimer(() => this.#lib.handleTimer(this.#instance, id, opaque)),
      PROTO.timerNewOpaque,
    );
  }

  #setTimer(id: number, expires: number): void {
    const timer = this.#timers.get(id);
    if (timer === undefined) return;
    timer.expires = expires;
    if (expires < this.#deadline) this.#deadline = expires;
  }
}

/** The word whose bytes in memory are the address in network order. */
function networkOrder(address: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, 1)[0] as number;
}

/** slirp's cap: it asks for a look every second even when no timer of its own runs. */
const NO_TIMER_MS = 1000;
/** Without a timer only the expiry of UDP sockets (4 minutes) is left to look after. */
const LAZY_MS = 30_000;

function sleepFor(timeout: number, sockets: number): number {
  if (timeout < NO_TIMER_MS) return timeout;
  return sockets > 0 ? LAZY_MS : Number.POSITIVE_INFINITY;
}
