/**
 * The other ends of one VXLAN port: who is listened to, and where frames go.
 *
 * Named ones are all there from the start and never change. With a group [RFC 7348 §4.2] the group stands first, as what
 * frames for everybody go to, and the ends behind it are learned from what arrives: only from networks that are allowed, and no
 * more than MAX_REMOTES. One that was heard of lately keeps its place whatever comes; without a place an end is served all the
 * same, by way of the group. So whoever forges senders costs the others nothing but that.
 *
 * An end is a slot with its socket address (common/udp/sockaddr.ts), found by a hash of the address.
 */
import type { Memory } from '#common/memory';
import { isInside, type Network } from '#common/udp/address';
import {
  addressOffset,
  copySockaddr,
  SOCKADDR_SLOT,
  setSockaddrPort,
  writeSockaddr,
} from '#common/udp/sockaddr';
import { MAX_REMOTES, type VxlanSpec } from './spec.ts';

/** Not one of the ends: not to be listened to. */
export const STRANGER = -1;
/** Slot of the group, if there is one: it stands for an end that there is no room to remember, too. */
export const GROUP = 0;
/** An end that was not heard of for so long makes room for another, in seconds. */
export const IDLE_SECONDS = 300;

/** Bytes of memory for the ends of one port. */
export const REMOTES_BYTES = (MAX_REMOTES + 1) * SOCKADDR_SLOT;
/** At most a quarter full. */
const BUCKETS = 1024;
const MASK = BUCKETS - 1;
const FREE = -1;

/** Who may be learned with a group. */
export interface Senders {
  readonly networks: readonly Network[];
  /** Our own addresses: what comes from them is our own, reflected. */
  readonly own: readonly Network[];
}

export interface RemotesOptions {
  readonly memory: Memory;
  /** Offset of REMOTES_BYTES bytes. */
  readonly at: number;
  readonly spec: Pick<VxlanSpec, 'family' | 'remotes' | 'group' | 'port'>;
  /** Number of the interface, for addresses that need one. */
  readonly scope: number;
  /** With a group. */
  readonly senders?: Senders | undefined;
  /** The end in a slot is another one from now on. */
  readonly onReplaced?: (slot: number) => void;
}

export class Remotes {
  /** Frames for everybody go to slots 0 to `flood` - 1. */
  readonly flood: number;
  readonly #o: RemotesOptions;
  readonly #buckets = new Int16Array(BUCKETS).fill(FREE);
  readonly #bucketOf = new Int16Array(MAX_REMOTES + 1);
  /** When the end was last heard of, in seconds. */
  readonly #seen = new Float64Array(MAX_REMOTES + 1);
  readonly #seed = (Math.random() * 2 ** 32) | 1;
  readonly #words: number;
  readonly #wordsAt: number;
  /** Slots in use, and the first that may be learned. */
  #size: number;
  readonly #first: number;
  /** No slot becomes free before. */
  #fullUntil = 0;

  constructor(options: RemotesOptions) {
    this.#o = options;
    const { memory, at, spec, scope } = options;
    const { family, remotes, group, port } = spec;
    this.#words = family === 4 ? 1 : 4;
    this.#wordsAt = addressOffset(family) >>> 2;
    this.flood = group ? 1 : remotes.length;
    this.#first = group ? 1 : 0;
    this.#size = this.flood;
    if (group) writeSockaddr(memory, at, group.address, port, scope);
    for (const [n, remote] of remotes.entries()) {
      writeSockaddr(memory, this.offset(n), remote.address, remote.port, scope);
      this.#link(n);
    }
  }

  /** Ends that are known, the group not counted. */
  get size(): number {
    return this.#size - this.#first;
  }

  /** Offset of the socket address in a slot. */
  offset(slot: number): number {
    return this.#o.at + slot * SOCKADDR_SLOT;
  }

  /** Slot of the end with the address at `sender`; learns it where that is allowed. Else STRANGER, or GROUP: no room. */
  slotOf(sender: number, now: number): number {
    const slot = this.#find(sender);
    if (!this.#o.senders) return slot;
    if (slot < 0) return this.#isAllowed(this.#o.senders, sender) ? this.#learn(sender, now) : STRANGER;
    this.#seen[slot] = now;
    return slot;
  }

  #find(sender: number): number {
    for (let bucket = this.#home(sender); ; bucket = (bucket + 1) & MASK) {
      const slot = this.#buckets[bucket] as number;
      if (slot === FREE || this.#same(this.offset(slot), sender)) return slot;
    }
  }

  #isAllowed({ networks, own }: Senders, sender: number): boolean {
    const { u8 } = this.#o.memory;
    const at = sender + (this.#wordsAt << 2);
    for (let n = 0; n < own.length; n++) if (isInside(own[n] as Network, u8, at)) return false;
    for (let n = 0; n < networks.length; n++) if (isInside(networks[n] as Network, u8, at)) return true;
    return false;
  }

  #learn(sender: number, now: number): number {
    const slot = this.#size <= MAX_REMOTES ? this.#size : this.#idle(now);
    if (slot < 0) return GROUP;
    if (slot === this.#size) this.#size += 1;
    else {
      this.#unlink(slot);
      this.#o.onReplaced?.(slot);
    }
    const { memory, spec } = this.#o;
    copySockaddr(memory, this.offset(slot), sender);
    // It answers where it listens, not where it sends from.
    setSockaddrPort(memory, this.offset(slot), spec.port);
    this.#seen[slot] = now;
    this.#link(slot);
    return slot;
  }

  /** The end that was not heard of for longest, if that is long enough; else -1, without looking again at once. */
  #idle(now: number): number {
    if (now < this.#fullUntil) return -1;
    let oldest = this.#first;
    for (let slot = oldest + 1; slot < this.#size; slot++)
      if ((this.#seen[slot] as number) < (this.#seen[oldest] as number)) oldest = slot;
    const until = (this.#seen[oldest] as number) + IDLE_SECONDS;
    if (now >= until) return oldest;
    this.#fullUntil = until;
    return -1;
  }

  #link(slot: number): void {
    let bucket = this.#home(this.offset(slot));
    while (this.#buckets[bucket] !== FREE) bucket = (bucket + 1) & MASK;
    this.#buckets[bucket] = slot;
    this.#bucketOf[slot] = bucket;
  }

  /** Frees the slot's bucket and moves later ones of the same run up, so that no search stops early. */
  #unlink(slot: number): void {
    let hole = this.#bucketOf[slot] as number;
    for (let bucket = (hole + 1) & MASK; this.#buckets[bucket] !== FREE; bucket = (bucket + 1) & MASK) {
      const other = this.#buckets[bucket] as number;
      const home = this.#home(this.offset(other));
      if (((bucket - home) & MASK) < ((bucket - hole) & MASK)) continue;
      this.#buckets[hole] = other;
      this.#bucketOf[other] = hole;
      hole = bucket;
    }
    this.#buckets[hole] = FREE;
  }

  #home(sockaddr: number): number {
    const { i32 } = this.#o.memory;
    const at = (sockaddr >>> 2) + this.#wordsAt;
    let hash = this.#seed;
    for (let n = 0; n < this.#words; n++) {
      hash = Math.imul(hash ^ (i32[at + n] as number), 0x85eb_ca6b);
      hash ^= hash >>> 15;
    }
    return (hash ^ (hash >>> 10)) & MASK;
  }

  #same(a: number, b: number): boolean {
    const { i32 } = this.#o.memory;
    const one = (a >>> 2) + this.#wordsAt;
    const other = (b >>> 2) + this.#wordsAt;
    for (let n = 0; n < this.#words; n++) if (i32[one + n] !== i32[other + n]) return false;
    return true;
  }
}
