/**
 * The tunnel end point of this switch at one local address and port: a UDP socket that all its VXLAN ports share, told
 * apart by their VNI [RFC 7348 §4].
 *
 * The first port polls the socket for all of them. Whether what arrives is believed is for the port to say.
 */
import { DROP } from '#common/capture/drop_reasons';
import type { Memory } from '#common/memory';
import type { IpAddress } from '#common/udp/address';
import type { Datagrams, UdpOptions } from '#common/udp/socket';
import { readVni, VXLAN_HEADER } from './header.ts';

/** A port as the tunnel end point sees it. */
export interface TunnelPort {
  readonly number: number;
  readonly vni: number;
  /** The group whose datagrams it wants. */
  readonly group: IpAddress | undefined;
  /** An inner frame; `length` is negative when it is longer than its buffer. `sender` is the offset of a socket address. */
  arrived(offset: number, length: number, sender: number): void;
}

export interface TunnelCounters {
  /** Datagrams without a valid header, or with a VNI that is no port's. */
  strangers: number;
}

/** Where a tunnel end point is. */
export interface VtepPlace extends Omit<UdpOptions, 'receives' | 'noChecksum'> {
  /** Address that it sends from; default the one that it listens on. */
  readonly source?: IpAddress | undefined;
}

export interface VtepEnv {
  readonly memory: Memory;
  /** Throws SocketError. */
  open(options: UdpOptions): Datagrams;
  /** Frames may have come for that port. */
  activate(port: number): void;
  /** Datagrams have come that are nobody's, `count` by now; VNI (-1: none) and sender of the last. At most once a second. */
  stranger?(count: number, vni: number, sender: number): void;
  /** Milliseconds. */
  clock(): number;
}

/** Sockets with source ports of their own: routers spread flows over equal paths by them (§5). */
const SENDERS = 4;
/** [RFC 6335 §6] Private ports. */
const FIRST_PRIVATE_PORT = 49_152;
const PRIVATE_PORTS = 65_536 - FIRST_PRIVATE_PORT;
const TRIES = 16;

export class Vtep {
  readonly counters: TunnelCounters = { strangers: 0 };
  /** When datagrams were last taken, in seconds. */
  now = 0;
  /** When strangers were told of. */
  #said = -1;
  readonly #env: VtepEnv;
  readonly #socket: Datagrams;
  readonly #senders: Datagrams[] = [];
  readonly #ports = new Map<number, TunnelPort>();
  /** The port that polls the socket: the first one; -1: there is none. */
  #leader = -1;
  /** Number of ports that want a group, by its bytes as text. */
  readonly #groups = new Map<string, number>();

  /** Throws SocketError. */
  constructor(env: VtepEnv, { source, ...place }: VtepPlace) {
    this.#env = env;
    this.#socket = env.open({ ...place, noChecksum: true });
    try {
      const sender = { ...place, address: source ?? place.address, receives: false, noChecksum: true };
      for (let n = 0; n < SENDERS; n++) this.#senders.push(privateSocket(env, sender));
    } catch (err) {
      this.close();
      throw err;
    }
  }

  /** Ports that use it. */
  get size(): number {
    return this.#ports.size;
  }

  has(vni: number): boolean {
    return this.#ports.has(vni);
  }

  /** Throws SocketError: the group cannot be joined. */
  add(port: TunnelPort): void {
    if (port.group) this.#join(port.group);
    this.#ports.set(port.vni, port);
    this.#elect();
    this.#env.activate(this.#leader);
  }

  remove(port: TunnelPort): void {
    if (this.#ports.get(port.vni) !== port) return;
    this.#ports.delete(port.vni);
    this.#elect();
    if (port.group) this.#leave(port.group);
    if (this.#ports.size > 0) this.#env.activate(this.#leader);
  }

  /** The socket that frames of a flow leave from. */
  sender(hash: number): Datagrams {
    return this.#senders[hash & (SENDERS - 1)] as Datagrams;
  }

  /**
   * Sends everything that waits, and tells each datagram that was lost since the last call. Ports that share the socket
   * share its losses: they count at the port whose turn it is.
   */
  flush(lost: (reason: number) => void): void {
    for (const sender of this.#senders) {
      sender.flush();
      const { losses } = sender;
      for (; losses.tooLong > 0; losses.tooLong--) lost(DROP.TOO_LONG);
      for (; losses.full > 0; losses.full--) lost(DROP.RING_FULL);
      for (; losses.refused > 0; losses.refused--) lost(DROP.UNREACHABLE);
    }
  }

  /** Takes at most `max` datagrams, if `port` is the one that does that. */
  receive(port: TunnelPort, max: number): number {
    if (port.number !== this.#leader) return 0;
    let taken = 0;
    while (taken < max) {
      const count = this.#socket.receive(max - taken);
      if (count === 0) break;
      if (taken === 0) this.now = Math.floor(this.#env.clock() / 1000);
      for (let n = 0; n < count; n++) this.#take(n);
      taken += count;
    }
    return taken;
  }

  listen(port: TunnelPort): void {
    if (port.number === this.#leader) this.#socket.listen(this.#onReadable);
  }

  unlisten(port: TunnelPort): void {
    if (port.number === this.#leader) this.#socket.unlisten();
  }

  close(): void {
    this.#socket.close();
    for (const sender of this.#senders) sender.close();
  }

  readonly #onReadable = (): void => this.#env.activate(this.#leader);

  #elect(): void {
    const [first] = this.#ports.values();
    this.#leader = first?.number ?? -1;
  }

  #take(n: number): void {
    const socket = this.#socket;
    const length = socket.length(n);
    const at = socket.offset(n);
    const vni = length < 0 || length > VXLAN_HEADER ? readVni(this.#env.memory, at) : -1;
    const port = this.#ports.get(vni);
    if (port !== undefined) {
      port.arrived(at + VXLAN_HEADER, length - VXLAN_HEADER, socket.peer(n));
      return;
    }
    this.counters.strangers += 1;
    if (this.now === this.#said) return;
    this.#said = this.now;
    this.#env.stranger?.(this.counters.strangers, vni, socket.peer(n));
  }

  #join(group: IpAddress): void {
    const members = this.#groups.get(String(group)) ?? 0;
    if (members === 0) this.#socket.join(group);
    this.#groups.set(String(group), members + 1);
  }

  #leave(group: IpAddress): void {
    const members = (this.#groups.get(String(group)) ?? 0) - 1;
    this.#groups.set(String(group), members);
    if (members > 0) return;
    this.#groups.delete(String(group));
    try {
      this.#socket.leave(group);
    } catch {
      // The interface is gone, and the membership with it.
    }
  }
}

function privateSocket(env: VtepEnv, options: Omit<UdpOptions, 'port'>): Datagrams {
  for (let tries = 1; ; tries++) {
    const port = FIRST_PRIVATE_PORT + Math.floor(Math.random() * PRIVATE_PORTS);
    try {
      return env.open({ ...options, port });
    } catch (err) {
      if (tries === TRIES) throw err;
    }
  }
}
