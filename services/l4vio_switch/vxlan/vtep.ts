/**
 * The tunnel end point of this switch at one local address and port: a UDP socket that all its VXLAN ports share, told
 * apart by their VNI [RFC 7348 §4].
 *
 * The first port polls the socket for all of them. What arrives is believed only when it comes from a remote that the
 * port names: anybody who can reach us could put frames into the network otherwise (§7).
 */
import { DROP } from '#common/capture/drop_reasons';
import type { Arena } from '#common/shm/arena';
import { UdpSocket } from '#common/udp/socket';
import { ETH } from '#common/wire/ethernet';
import { readVni, VXLAN_HEADER } from './header.ts';

/** A port as the tunnel end point sees it. */
export interface TunnelPort {
  readonly number: number;
  readonly vni: number;
  /** Number of the remote with that address, or -1. */
  remoteOf(address: number): number;
  /** An inner frame from a remote. */
  arrived(offset: number, length: number, remote: number): void;
  dropped(reason: number): void;
}

export interface TunnelCounters {
  /** Datagrams without a valid header, or with a VNI that is no port's. */
  strangers: number;
}

/** Sockets with source ports of their own: routers spread flows over equal paths by them (§5). */
const SENDERS = 4;
/** [RFC 6335 §6] Private ports. */
const FIRST_PRIVATE_PORT = 49_152;
const PRIVATE_PORTS = 65_536 - FIRST_PRIVATE_PORT;
const TRIES = 16;

export class Vtep {
  readonly counters: TunnelCounters = { strangers: 0 };
  readonly #arena: Arena;
  readonly #socket: UdpSocket;
  readonly #senders: UdpSocket[] = [];
  readonly #ports = new Map<number, TunnelPort>();
  readonly #activate: (port: number) => void;

  /** `activate`: frames may have come for that port. Throws SocketError. */
  constructor(arena: Arena, address: number, port: number, activate: (port: number) => void) {
    this.#arena = arena;
    this.#activate = activate;
    this.#socket = new UdpSocket(arena, { address, port });
    try {
      for (let n = 0; n < SENDERS; n++) this.#senders.push(privateSocket(arena, address));
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

  add(port: TunnelPort): void {
    this.#ports.set(port.vni, port);
    this.#activate(this.#leader);
  }

  remove(port: TunnelPort): void {
    if (this.#ports.get(port.vni) !== port) return;
    this.#ports.delete(port.vni);
    if (this.#ports.size > 0) this.#activate(this.#leader);
  }

  /** The socket that frames of a flow leave from. */
  sender(hash: number): UdpSocket {
    return this.#senders[hash & (SENDERS - 1)] as UdpSocket;
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
      for (; losses.refused > 0; losses.refused--) lost(DROP.RING_FULL);
    }
  }

  /** Takes at most `max` datagrams, if `port` is the one that does that. */
  receive(port: TunnelPort, max: number): number {
    if (port.number !== this.#leader) return 0;
    let taken = 0;
    while (taken < max) {
      const count = this.#socket.receive(max - taken);
      for (let n = 0; n < count; n++) this.#take(n);
      taken += count;
      if (count === 0) break;
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

  readonly #onReadable = (): void => this.#activate(this.#leader);

  get #leader(): number {
    for (const port of this.#ports.values()) return port.number;
    return -1;
  }

  #take(n: number): void {
    const socket = this.#socket;
    const length = socket.length(n);
    const at = socket.offset(n);
    const port = length > VXLAN_HEADER ? this.#ports.get(readVni(this.#arena, at)) : undefined;
    if (port === undefined) {
      this.counters.strangers += 1;
      return;
    }
    const remote = port.remoteOf(socket.peerAddress(n));
    if (remote < 0) port.dropped(DROP.FILTER);
    else if (length < VXLAN_HEADER + ETH.HEADER) port.dropped(DROP.TOO_SHORT);
    else port.arrived(at + VXLAN_HEADER, length - VXLAN_HEADER, remote);
  }
}

function privateSocket(arena: Arena, address: number): UdpSocket {
  for (let tries = 1; ; tries++) {
    const port = FIRST_PRIVATE_PORT + Math.floor(Math.random() * PRIVATE_PORTS);
    try {
      return new UdpSocket(arena, { address, port, receives: false });
    } catch (err) {
      if (tries === TRIES) throw err;
    }
  }
}
