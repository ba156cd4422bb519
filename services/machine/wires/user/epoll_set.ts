/**
 * All sockets of one libslirp instance in one epoll descriptor.
 *
 * libslirp says before each turn which descriptors it wants to hear of (`begin`, `want`..., `commit`). The set is
 * brought to exactly that: what is not wanted now must leave, a level-triggered hang-up would spin. Numbers are
 * reused by the kernel, so a descriptor that slirp closes is forgotten at once (`forget`).
 */

import { closeSync } from 'node:fs';
import type { Arena } from '#common/shm/arena';
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLL_EVENT,
  epollCreate,
  epollCtl,
  epollPeek,
  lastError,
} from '../libc.ts';

const MAX_EVENTS = 64;
/** First event slot is the argument of epoll_ctl, the others are filled by epoll_wait. */
const BYTES = (MAX_EVENTS + 1) * EPOLL_EVENT.SIZE;

/** SLIRP_POLL_IN, OUT, PRI are 1, 2, 4; EPOLLIN, PRI, OUT are 1, 2, 4; ERR 8 and HUP 16 are the same in both. */
function swapped(events: number): number {
  return (events & 0x19) | ((events & 2) << 1) | ((events & 4) >>> 1);
}

export class EpollSet {
  readonly fd: number;
  readonly #arena: Arena;
  readonly #at: number;
  readonly #onError: (text: string) => void;
  /** Descriptor by slirp's index, and how many there are this time. */
  #wanted = new Int32Array(64);
  #count = 0;
  /** By descriptor: registered events + 1 (0: not registered), round in which it was wanted, ready events. */
  #registered = new Int32Array(64);
  #round = new Int32Array(64);
  #ready = new Int32Array(64);
  #now = 0;
  readonly #members: number[] = [];
  readonly #hot: number[] = [];

  constructor(arena: Arena, onError: (text: string) => void) {
    this.#arena = arena;
    this.#onError = onError;
    this.fd = epollCreate();
    this.#at = arena.mapPrivate(BYTES);
  }

  get size(): number {
    return this.#members.length;
  }

  /** The descriptors in the set, in no order. */
  get descriptors(): readonly number[] {
    return this.#members;
  }

  begin(): void {
    this.#count = 0;
    this.#now = (this.#now + 1) | 0;
  }

  /** slirp wants `events` (SLIRP_POLL_*) of `fd`. Returns the index for `ready`. */
  want(fd: number, events: number): number {
    if (this.#count === this.#wanted.length) this.#wanted = grown(this.#wanted, this.#count * 2);
    if (fd >= this.#registered.length) this.#growTo(fd);
    this.#wanted[this.#count] = fd;
    this.#round[fd] = this.#now;
    const mask = swapped(events);
    const before = this.#registered[fd] as number;
    if (before === 0) this.#add(fd, mask);
    else if (before !== mask + 1) this.#modify(fd, mask);
    return this.#count++;
  }

  /** Takes out what was not wanted since `begin`. */
  commit(): void {
    if (this.#members.length === this.#count) return;
    for (let i = this.#members.length - 1; i >= 0; i--) {
      const fd = this.#members[i] as number;
      if (this.#round[fd] !== this.#now) this.#remove(i, fd);
    }
  }

  /** slirp is about to close `fd`. */
  forget(fd: number): void {
    if (fd < this.#registered.length && this.#registered[fd] !== 0)
      this.#remove(this.#members.indexOf(fd), fd);
  }

  /** Looks, without waiting, which of at most `max` descriptors are ready. Returns their number, or -1 on failure. */
  peek(max: number): number {
    const at = this.#at + EPOLL_EVENT.SIZE;
    const count = epollPeek(this.fd, this.#arena.address + at, Math.min(max, MAX_EVENTS));
    const { view } = this.#arena;
    for (let i = 0; i < count; i++) {
      const event = at + i * EPOLL_EVENT.SIZE;
      const fd = view.getInt32(event + EPOLL_EVENT.DATA, true);
      this.#ready[fd] = swapped(view.getUint32(event, true));
      this.#hot.push(fd);
    }
    return count;
  }

  /** SLIRP_POLL_* events of the descriptor at slirp's `index`, as of the last `peek`. */
  ready(index: number): number {
    return this.#ready[this.#wanted[index] as number] as number;
  }

  /** Forgets what the last `peek` saw. */
  clear(): void {
    for (let i = 0; i < this.#hot.length; i++) this.#ready[this.#hot[i] as number] = 0;
    this.#hot.length = 0;
  }

  close(): void {
    closeSync(this.fd);
    this.#arena.unmap(this.#at, BYTES);
  }

  #add(fd: number, mask: number): void {
    if (this.#control(EPOLL_CTL_ADD, fd, mask) < 0 && this.#control(EPOLL_CTL_MOD, fd, mask) < 0) {
      this.#onError(`epoll_ctl: ${lastError()} on descriptor ${fd}`);
      return;
    }
    this.#registered[fd] = mask + 1;
    this.#members.push(fd);
  }

  #modify(fd: number, mask: number): void {
    if (this.#control(EPOLL_CTL_MOD, fd, mask) < 0 && this.#control(EPOLL_CTL_ADD, fd, mask) < 0) {
      this.#onError(`epoll_ctl: ${lastError()} on descriptor ${fd}`);
    }
    this.#registered[fd] = mask + 1;
  }

  #remove(index: number, fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0);
    this.#registered[fd] = 0;
    this.#ready[fd] = 0;
    this.#members[index] = this.#members[this.#members.length - 1] as number;
    this.#members.pop();
  }

  #control(operation: number, fd: number, mask: number): number {
    const { view } = this.#arena;
    view.setUint32(this.#at, mask, true);
    view.setInt32(this.#at + EPOLL_EVENT.DATA, fd, true);
    return epollCtl(this.fd, operation, fd, this.#arena.address + this.#at);
  }

  #growTo(fd: number): void {
    const size = Math.max(fd + 1, this.#registered.length * 2);
    this.#registered = grown(this.#registered, size);
    this.#round = grown(this.#round, size);
    this.#ready = grown(this.#ready, size);
  }
}

function grown(array: Int32Array, size: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(size);
  larger.set(array);
  return larger;
}
