/**
 * UDP over IPv4 or IPv6 in batches, between the kernel and buffers in the arena: nothing is allocated per datagram.
 *
 *   const socket = new UdpSocket(arena, { family: 4, address, port });
 *   socket.listen(() => pump.kick())                       // called once, then `listen` again
 *   const count = socket.receive(32)                       // offset(n), length(n), peer(n)
 *   const at = socket.slot(); ...write...; socket.send(at, bytes, peer); socket.flush()
 *
 * A peer is the offset of a socket address (sockaddr.ts). Datagrams are never fragmented: what does not fit the path is
 * refused and counted by reason.
 */
import type { Arena } from '#common/shm/arena';
import { type Family, type IpAddress, isUnspecified } from './address.ts';
import * as libc from './libc.ts';
import { Messages, messagesBytes } from './messages.ts';
import { familyNumber, sockaddrBytes, sockaddrPort, writeSockaddr } from './sockaddr.ts';

const { OPTION } = libc;

/** Bytes of a buffer: a jumbo frame with its outer headers. */
export const SLOT_BYTES = 9472;
export const RECEIVE_SLOTS = 32;
const SEND_SLOTS = 64;
/** Messages that wait for `flush`: one buffer may go to many. */
const SEND_MESSAGES = 256;
const KERNEL_BUFFER = 4 * 2 ** 20;

export interface UdpOptions {
  readonly family: Family;
  /** Local address; undefined: any. */
  readonly address?: IpAddress | undefined;
  /** 0: the kernel chooses. */
  readonly port: number;
  /** False: it only sends. */
  readonly receives?: boolean;
  /** Name of the only interface that it sends to and receives from. */
  readonly device?: string | undefined;
  /** Hops that datagrams to a group may take; they are not sent back to this host. Needs `device`. */
  readonly groupHops?: number;
  /** A tunnel, whose frames have checksums of their own: sends without UDP checksum (IPv4), takes datagrams without one (IPv6). */
  readonly noChecksum?: boolean;
}

/** What became of datagrams that were not sent. */
export interface SendLosses {
  /** Larger than the path takes. */
  tooLong: number;
  /** The kernel's buffer was full. */
  full: number;
  /** No way there, or the firewall forbids it. */
  refused: number;
}

/** What a user of a socket sees of it: tests have others. */
export type Datagrams = Pick<
  UdpSocket,
  | 'losses'
  | 'receive'
  | 'offset'
  | 'length'
  | 'peer'
  | 'slot'
  | 'send'
  | 'flush'
  | 'listen'
  | 'unlisten'
  | 'join'
  | 'leave'
  | 'close'
>;

export class UdpSocket {
  readonly port: number;
  readonly losses: SendLosses = { tooLong: 0, full: 0, refused: 0 };
  readonly #arena: Arena;
  readonly #options: UdpOptions;
  readonly #fd: number;
  readonly #in: Messages | undefined;
  readonly #out: Messages;
  /** Everything that is ours in the arena: buffers, then messages. */
  readonly #at: number;
  readonly #bytes: number;
  #slots = 0;
  #waiting = 0;
  #watch: ReturnType<typeof libc.watchReadable> | undefined;
  #watching = false;
  #onReadable: () => void = () => {};

  /** Throws SocketError: EADDRINUSE, EADDRNOTAVAIL, EACCES, ENODEV, ... */
  constructor(arena: Arena, options: UdpOptions) {
    this.#arena = arena;
    this.#options = options;
    const { family, receives = true } = options;
    const slots = SEND_SLOTS + (receives ? RECEIVE_SLOTS : 0);
    const messages = slots * SLOT_BYTES;
    this.#bytes = messages + messagesBytes(SEND_MESSAGES) + (receives ? messagesBytes(RECEIVE_SLOTS) : 0);
    this.#at = arena.mapPrivate(this.#bytes);
    this.#out = new Messages(arena, this.#at + messages, SEND_MESSAGES, family);
    if (receives) {
      const at = this.#at + messages + messagesBytes(SEND_MESSAGES);
      this.#in = new Messages(arena, at, RECEIVE_SLOTS, family);
      for (let n = 0; n < RECEIVE_SLOTS; n++) this.#in.setBuffer(n, this.offset(n), SLOT_BYTES);
    }
    let fd: number | undefined;
    try {
      fd = libc.udpSocket(familyNumber(family));
      this.#fd = fd;
      this.#prepare();
      this.port = this.#bind();
    } catch (err) {
      if (fd !== undefined) libc.close(fd);
      arena.unmap(this.#at, this.#bytes);
      throw err;
    }
  }

  /** Takes at most `max` datagrams that have arrived. Valid until the next call. */
  receive(max: number): number {
    const count = this.#in ? libc.recvmmsg(this.#fd, this.#in.address(0), Math.min(max, RECEIVE_SLOTS)) : 0;
    return Math.max(count, 0);
  }

  /** Where datagram `n` of the last `receive` is. */
  offset(n: number): number {
    return this.#at + (SEND_SLOTS + n) * SLOT_BYTES;
  }

  /** Its bytes; -1: it was longer than SLOT_BYTES, of which the first are there. */
  length(n: number): number {
    return this.#in?.length(n) ?? -1;
  }

  /** Offset of the socket address that it came from. */
  peer(n: number): number {
    return this.#in?.peer(n) ?? 0;
  }

  /** Offset of SLOT_BYTES bytes for a datagram. Sends what waits when there is no room. */
  slot(): number {
    if (this.#slots === SEND_SLOTS) this.flush();
    return this.#at + this.#slots++ * SLOT_BYTES;
  }

  /** Queues a datagram in the slot that was taken last for the socket address at `peer`; may be repeated for others. */
  send(slot: number, bytes: number, peer: number): void {
    if (this.#waiting === SEND_MESSAGES) this.#sendAll();
    const n = this.#waiting++;
    this.#out.setBuffer(n, slot, bytes);
    this.#out.setPeer(n, peer);
  }

  /** Sends everything queued. Losses are counted. */
  flush(): void {
    this.#sendAll();
    this.#slots = 0;
  }

  /** Receives what is sent to a multicast group on `device`. Throws SocketError: ENOBUFS (too many groups), ... */
  join(group: IpAddress): void {
    const option = this.#options.family === 4 ? OPTION.IP_ADD_MEMBERSHIP : OPTION.IPV6_ADD_MEMBERSHIP;
    libc.setOption(this.#fd, 'join group', option, this.#membership(group));
  }

  /** Ends `join`. */
  leave(group: IpAddress): void {
    const option = this.#options.family === 4 ? OPTION.IP_DROP_MEMBERSHIP : OPTION.IPV6_DROP_MEMBERSHIP;
    libc.setOption(this.#fd, 'leave group', option, this.#membership(group));
  }

  /** Calls `onReadable` once, from the event loop, when something has arrived (at once if it has already). */
  listen(onReadable: () => void): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#onReadable = onReadable;
    if (this.#watch) libc.rewatch(this.#watch, this.#fired);
    else this.#watch = libc.watchReadable(this.#fd, this.#fired);
  }

  /** Ends `listen`. */
  unlisten(): void {
    if (!this.#watching) return;
    this.#watching = false;
    this.#watch?.stop();
  }

  close(): void {
    this.unlisten();
    this.#watch?.close();
    libc.close(this.#fd);
    this.#arena.unmap(this.#at, this.#bytes);
  }

  readonly #fired = (): void => {
    if (!this.#watching) return;
    this.unlisten();
    this.#onReadable();
  };

  #sendAll(): void {
    let sent = 0;
    while (sent < this.#waiting) {
      const count = libc.sendmmsg(this.#fd, this.#out.address(sent), this.#waiting - sent);
      if (count > 0) {
        sent += count;
        continue;
      }
      const code = libc.lastError();
      if (code === 'EMSGSIZE') this.losses.tooLong += 1;
      else if (code === 'EAGAIN' || code === 'ENOBUFS') this.losses.full += 1;
      else this.losses.refused += 1;
      sent += 1;
    }
    this.#waiting = 0;
  }

  #prepare(): void {
    const fd = this.#fd;
    const { family, receives = true, device, groupHops, noChecksum = false } = this.#options;
    // The kernel cuts the sizes at its limits: less buffer, no error. What is never read gets as little as can be.
    libc.tryOption(fd, OPTION.SO_SNDBUF, KERNEL_BUFFER);
    libc.tryOption(fd, OPTION.SO_RCVBUF, receives ? KERNEL_BUFFER : 0);
    if (family === 4) libc.tryOption(fd, OPTION.IP_MTU_DISCOVER, libc.PMTUDISC_DO);
    else {
      libc.tryOption(fd, OPTION.IPV6_V6ONLY, 1);
      libc.tryOption(fd, OPTION.IPV6_MTU_DISCOVER, libc.PMTUDISC_DO);
    }
    if (noChecksum) libc.tryOption(fd, family === 4 ? OPTION.SO_NO_CHECK : OPTION.UDP_NO_CHECK6_RX, 1);
    if (device === undefined) return;
    // First, for the right error: binding to a device that is not there says ENODEV as well, but needs rights on old kernels.
    libc.interfaceIndex(device);
    libc.setOption(fd, `bind to ${device}`, OPTION.SO_BINDTODEVICE, Buffer.from(`${device}\0`));
    if (groupHops !== undefined) this.#prepareGroup(device, groupHops);
  }

  #prepareGroup(device: string, hops: number): void {
    const fd = this.#fd;
    const index = libc.interfaceIndex(device);
    if (this.#options.family === 4) {
      libc.setOption(fd, 'group interface', OPTION.IP_MULTICAST_IF, mreqn(new Uint8Array(4), index));
      libc.tryOption(fd, OPTION.IP_MULTICAST_TTL, hops);
      libc.tryOption(fd, OPTION.IP_MULTICAST_LOOP, 0);
      libc.tryOption(fd, OPTION.IP_MULTICAST_ALL, 0);
    } else {
      libc.setOption(fd, 'group interface', OPTION.IPV6_MULTICAST_IF, libc.int32(index));
      libc.tryOption(fd, OPTION.IPV6_MULTICAST_HOPS, hops);
      libc.tryOption(fd, OPTION.IPV6_MULTICAST_LOOP, 0);
      libc.tryOption(fd, OPTION.IPV6_MULTICAST_ALL, 0);
    }
  }

  #membership(group: IpAddress): Uint8Array {
    const index = libc.interfaceIndex(this.#options.device ?? '');
    return this.#options.family === 4 ? mreqn(group, index) : Buffer.concat([group, libc.int32(index)]);
  }

  #bind(): number {
    const { family, address, port } = this.#options;
    const any = new Uint8Array(family === 4 ? 4 : 16);
    const arena = this.#arena;
    // A link-local address is one of the device that the socket is bound to: it needs no scope.
    writeSockaddr(arena, this.#at, address && !isUnspecified(address) ? address : any, port);
    const [native, bytes] = [arena.address + this.#at, sockaddrBytes(family)];
    libc.bind(this.#fd, native, bytes);
    const length = this.#at + 64;
    arena.view.setUint32(length, bytes, true);
    libc.getsockname(this.#fd, native, arena.address + length);
    return sockaddrPort(arena, this.#at);
  }
}

/** struct ip_mreqn: group, local address (the interface says it), interface. */
function mreqn(group: IpAddress, index: number): Uint8Array {
  return Buffer.concat([group, new Uint8Array(4), libc.int32(index)]);
}
