/**
 * The wire `user`: a network of the NIC's own behind libslirp, as QEMU's `-netdev user`.
 *
 *     NIC ── transmit ──> guest side (DHCP, fixed names, forwards) ──> libslirp ──> host sockets
 *     NIC <── receive ─── frame ring <── guest side <───────────────── libslirp <── host sockets
 *
 * Loss is avoided by not asking: while frames wait for the NIC, or the ring has no room for what ready sockets
 * may bring, libslirp is not turned, the sockets fill up and the hosts' TCP slows down.
 */

import type { Arena } from '#common/shm/arena';
import type { Wire, WireEnd, WireLease } from '../../wire.ts';
import { FdWatch } from '../fd_watch.ts';
import { FrameRing, MAX_SLOT_FRAME } from '../frame_ring.ts';
import type { WireHost } from '../host.ts';
import { memcpy } from '../libc.ts';
import { formatHostForward, type HostForward } from '../options.ts';
import { type ForwardRule, Forwards } from './forwards.ts';
import { DONE, GuestSide, PASS, RESOLVES } from './guest_side.ts';
import { GuestSockets, type SocketBounds } from './guest_sockets.ts';
import { libslirp } from './libslirp.ts';
import { FixedNames } from './names.ts';
import { DEFAULT_NETWORK, type UserNetwork } from './network.ts';
import { Reassembly } from './reassembly.ts';
import { Slirp } from './slirp.ts';

/** 4 MiB of addresses; only what is used at once is touched. */
const SLOTS = 2048;
/** Frames that one ready socket may bring in a turn: a window of 64 KiB in segments of 1460 bytes, and some ACKs. */
const FRAMES_PER_SOCKET = 48;
/** With this many frames waiting for the NIC, slirp is left alone. */
const HOLD = 256;

/** Least distance of two lines about dropped frames. */
const DROPS_LINE_MS = 1000;

/** The guest's view of the world, fixed on the command line. */
export interface UserOptions {
  readonly hosts: ReadonlyMap<string, readonly string[]>;
  readonly forwards: readonly ForwardRule[];
  readonly hostForwards?: readonly HostForward[];
}

export class UserWire implements Wire {
  readonly kind = 'user';
  readonly linkUp = true;
  readonly #arena: Arena;
  readonly #host: WireHost;
  readonly #ring: FrameRing;
  readonly #guestSide: GuestSide;
  readonly #sockets: GuestSockets;
  readonly #slirp: Slirp;
  readonly #watch: FdWatch;
  readonly #scratch: number;
  readonly #reassembly: Reassembly;
  #end: WireEnd | undefined;
  #wake: () => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #asleep = false;
  #dropped = 0;
  #dropsLogged = 0;
  #nextDropsLine = 0;

  /** `bounds` other than the usual ones are for tests. */
  constructor(
    options: UserOptions,
    host: WireHost,
    network: UserNetwork = DEFAULT_NETWORK,
    bounds?: SocketBounds,
  ) {
    // First what can fail, so that nothing is left behind.
    libslirp();
    const names = new FixedNames(options.hosts);
    this.#arena = host.arena;
    this.#host = host;
    // libslirp and we make all frames, from what sockets give: nothing on the way could damage them.
    this.#ring = new FrameRing(host.arena, SLOTS, true);
    const warn = (text: string): void => host.log('warn', text);
    this.#guestSide = new GuestSide(
      host.arena,
      network,
      names,
      new Forwards(options.forwards),
      this.#ring,
      warn,
    );
    this.#scratch = host.arena.mapPrivate(MAX_FRAME_FROM_GUEST);
    this.#reassembly = new Reassembly(host.arena);
    this.#sockets = new GuestSockets(host.arena, network, warn, bounds);
    this.#slirp = new Slirp(host.arena, network, {
      frame: (address, length) => this.#stage(address, length),
      notify: () => this.#wakeIfAsleep(),
      opened: (fd) => this.#sockets.opened(fd),
      closed: (fd) => this.#sockets.closed(fd),
      mayAccept: () => this.#sockets.mayAccept(),
      log: host.log,
    });
    this.#listen(options.hostForwards ?? []);
    this.#watch = new FdWatch(this.#slirp.pollFd, () => this.#wake());
  }

  /** Throws, with nothing left behind, when a port of the host cannot be had. */
  #listen(forwards: readonly HostForward[]): void {
    const refused = forwards.find((forward) => !this.#slirp.forwardHost(forward));
    if (refused === undefined) {
      for (const { udp, guestIp, guestPort } of forwards) if (udp) this.#sockets.expect(guestIp, guestPort);
      return;
    }
    this.#slirp.close();
    this.#ring.close();
    this.#reassembly.close();
    this.#arena.unmap(this.#scratch, MAX_FRAME_FROM_GUEST);
    throw new Error(
      `Cannot use --host-forward ${formatHostForward(refused)} as the host's address and port must be free and allowed: ` +
        `is another program listening there (ss -lntup), is ${refused.hostPort} below 1024?`,
    );
  }

  /** Frames for the guest that found no room; the log has them too. */
  get dropped(): number {
    return this.#dropped;
  }

  leases(): WireLease[] {
    return this.#guestSide.leases();
  }

  connect(end: WireEnd, wake: () => void): void {
    this.#end = end;
    this.#wake = wake;
  }

  /** Looks at a private copy: the bytes are the driver's, who may change them meanwhile, or send them again. */
  transmit(frame: number, bytes: number): void {
    if (bytes > MAX_FRAME_FROM_GUEST) return;
    this.#arena.u8.copyWithin(this.#scratch, frame, frame + bytes);
    const offset = this.#reassembly.whole(this.#scratch, bytes);
    if (offset < 0) return;
    const { length } = this.#reassembly;
    const verdict = this.#guestSide.outbound(offset, length);
    if (verdict === RESOLVES) this.#resolve(offset, length);
    else if (verdict !== DONE) this.#input(offset, length, verdict);
    this.#wakeIfAsleep();
  }

  poll(): boolean {
    if (this.#asleep) this.#getUp();
    const end = this.#end;
    if (end === undefined) return false;
    let worked = this.#ring.deliver(end);
    if (this.#ring.count >= HOLD) return worked;
    const sockets = Math.floor(this.#ring.free / FRAMES_PER_SOCKET);
    if (this.#slirp.turn(sockets)) worked = true;
    if (this.#ring.deliver(end)) worked = true;
    if (this.#dropped !== this.#dropsLogged && performance.now() >= this.#nextDropsLine) this.#logDrops();
    return worked;
  }

  arm(): boolean {
    // The NIC was full a moment ago: its driver wakes the machine when it has made room.
    if (this.#ring.count > 0) return false;
    const ms = this.#slirp.prepareSleep();
    if (ms === 0) return true;
    this.#asleep = true;
    this.#watch.start();
    clearTimeout(this.#timer);
    if (ms !== Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.#wake(), Math.ceil(ms));
    return false;
  }

  close(): void {
    this.#getUp();
    this.#watch.close();
    this.#slirp.close();
    this.#ring.close();
    this.#reassembly.close();
    this.#arena.unmap(this.#scratch, MAX_FRAME_FROM_GUEST);
  }

  #getUp(): void {
    this.#asleep = false;
    this.#watch.stop();
    clearTimeout(this.#timer);
  }

  #wakeIfAsleep(): void {
    if (this.#asleep) this.#wake();
  }

  #resolve(offset: number, length: number): void {
    this.#slirp.input(offset, length);
    this.#slirp.flush();
  }

  #input(offset: number, length: number, verdict: number): void {
    if (!this.#sockets.begin(offset)) return;
    if (verdict !== PASS) this.#guestSide.translate(offset, verdict);
    this.#slirp.input(offset, length);
    this.#sockets.end();
  }

  #stage(address: number, length: number): void {
    const slot = this.#ring.slot();
    if (slot < 0 || length > MAX_SLOT_FRAME) {
      this.#dropped += 1;
      return;
    }
    memcpy(this.#arena.address + slot, address, length);
    this.#ring.commit(this.#guestSide.inbound(slot, length));
  }

  #logDrops(): void {
    const now = this.#dropped - this.#dropsLogged;
    this.#dropsLogged = this.#dropped;
    this.#nextDropsLine = performance.now() + DROPS_LINE_MS;
    this.#host.log(
      'warn',
      `Dropped ${now} frames as the wire's ring must hold them: it has ${SLOTS} slots (${this.#dropped} so far)`,
    );
  }
}

/** Longest IPv4 datagram with its Ethernet header, in whole pages. */
const MAX_FRAME_FROM_GUEST = 69_632;
