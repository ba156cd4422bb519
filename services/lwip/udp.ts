/**
 * A UDP socket over lwIP, after `node:dgram`: events message, listening, error, close.
 *
 * Received datagrams wait in a bounded queue until the end of the batch; what comes beyond it is dropped and counted, as
 * in a kernel.
 */
import { EventEmitter } from 'node:events';
import { type IpAddress, isPort, parseIp, readIp, writeAnyIp, writeIp } from './address.ts';
import type { SocketHost } from './connector.ts';
import { codeOf, ERR, endpointText, NetError, type NetErrorCode } from './errors.ts';
import { IP_ADDR, IPADDR_TYPE, PBUF, PBUF_LAYER, PBUF_TYPE, UDP_PCB } from './layout.ts';
import { routeTo } from './routes.ts';
import type { Callee, Dirty } from './stack.ts';

export interface RemoteInfo {
  readonly address: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly port: number;
  /** Bytes. */
  readonly size: number;
}

interface UdpEvents {
  message: [Buffer, RemoteInfo];
  listening: [];
  close: [];
  error: [Error];
}

/** Largest payload of a datagram. */
const MAX_PAYLOAD = 65507;
const MAX_QUEUED = 1024;

export class UdpSocket extends EventEmitter<UdpEvents> implements Callee, Dirty {
  /** Datagrams dropped as the program did not keep up. */
  dropped = 0;
  readonly #host: SocketHost;
  readonly #id: number;
  #pcb: number;
  #queue: { data: Buffer; from: RemoteInfo }[] = [];

  constructor(host: SocketHost) {
    super();
    this.#host = host;
    const { ffi, callbacks } = host.stack;
    this.#pcb = ffi.udp_new_ip_type(IPADDR_TYPE.ANY);
    if (this.#pcb === 0) throw new NetError('ENOBUFS', 'Cannot open a UDP socket as lwIP has no memory left');
    this.#id = host.stack.register(this);
    ffi.udp_recv(this.#pcb, callbacks.udpRecv, this.#id);
  }

  /** Binds to a port (0: any free one) and own address. Throws NetError EADDRINUSE, EADDRNOTAVAIL, EINVAL. */
  bind(port = 0, address?: string): this {
    const ip = address === undefined ? undefined : parseIp(address);
    if (address !== undefined && ip === undefined) {
      throw this.#error('bind', 'EADDRNOTAVAIL', address, port, `"${address}" is no IP address`);
    }
    if (!isPort(port, 0)) throw this.#error('bind', 'EINVAL', address ?? '::', port, 'port must be 0..65535');
    const { ffi, memory, scratch } = this.#host.stack;
    if (ip === undefined) writeAnyIp(memory, scratch.ip);
    else writeIp(memory, scratch.ip, ip);
    const err = ffi.udp_bind(this.#pcb, memory.address + scratch.ip, port);
    if (err !== ERR.OK) {
      const reason = err === ERR.USE ? 'the port is in use' : `lwIP reports error ${err}`;
      throw this.#error('bind', codeOf(err), address ?? '::', port, reason);
    }
    process.nextTick(() => this.emit('listening'));
    return this;
  }

  /** Sends one datagram. Throws NetError: ENETUNREACH, EMSGSIZE, ENOBUFS, EINVAL. */
  send(data: Uint8Array, port: number, address: string): void {
    const ip = parseIp(address, (name) => this.#host.netifs.find((n) => n.name === name)?.index ?? 0);
    const refused = (code: NetErrorCode, reason: string): NetError =>
      this.#error('send', code, address, port, reason);
    if (ip === undefined) throw refused('EINVAL', 'it is no IP address (look names up first)');
    if (!isPort(port, 1)) throw refused('EINVAL', 'port must be 1..65535');
    if (this.#pcb === 0) throw refused('ENOTCONN', 'the socket is closed');
    if (data.length > MAX_PAYLOAD) {
      throw refused(
        'EMSGSIZE',
        `a datagram has at most ${MAX_PAYLOAD} bytes: current value is ${data.length}`,
      );
    }
    const broadcast = ip.family === 4 && ip.bytes.every((byte) => byte === 255);
    const route = routeTo(this.#host.netifs, ip);
    if ('reason' in route && !broadcast) throw refused(route.code, route.reason);
    const err = this.#send(data, ip, port);
    if (err !== ERR.OK) throw refused(codeOf(err), `lwIP reports error ${err}`);
  }

  #send(data: Uint8Array, to: IpAddress, port: number): number {
    const { ffi, memory, scratch, timers } = this.#host.stack;
    const p = ffi.pbuf_alloc(PBUF_LAYER.TRANSPORT, data.length, PBUF_TYPE.RAM);
    if (p === 0) return ERR.MEM;
    if (data.length > 0) ffi.pbuf_take(p, data, data.length);
    writeIp(memory, scratch.ip, to);
    const err = ffi.udp_sendto(this.#pcb, p, memory.address + scratch.ip, port);
    ffi.pbuf_free(p);
    timers.touch();
    this.#host.stack.flush();
    return err;
  }

  #error(syscall: string, code: NetErrorCode, address: string, port: number, reason: string): NetError {
    const what = syscall === 'send' ? 'send to' : 'bind to';
    return new NetError(code, `Cannot ${what} ${endpointText(address, port)} as ${reason}`, {
      syscall,
      address,
      port,
    });
  }

  /** lwIP's callback; the stack frees the pbuf behind it. `source` may point into the pbuf. */
  onDatagram(pbuf: number, source: number, port: number): void {
    if (this.#queue.length >= MAX_QUEUED) {
      this.dropped++;
      return;
    }
    const { stack } = this.#host;
    const { ffi, memory, scratch } = stack;
    const base = memory.address;
    ffi.memcpy(base + scratch.ip, source, IP_ADDR.SIZE);
    ffi.memcpy(base + scratch.pbuf, pbuf, PBUF.SIZE);
    const total = memory.u16[(scratch.pbuf + PBUF.TOT_LEN) >>> 1] as number;
    const size = ffi.pbuf_copy_partial(pbuf, base + scratch.stage, total, 0);
    const data = Buffer.from(stack.bytes.subarray(scratch.stage, scratch.stage + size));
    const address = readIp(memory, scratch.ip);
    const family = address.includes(':') ? 'IPv6' : 'IPv4';
    this.#queue.push({ data, from: { address, family, port, size } });
    if (this.#queue.length === 1) stack.markDirty(this);
  }

  acknowledge(): void {}

  deliver(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const { data, from } of queue) {
      if (this.#pcb === 0) return;
      this.emit('message', data, from);
    }
  }

  /** Own port, 0 while unbound. */
  get port(): number {
    if (this.#pcb === 0) return 0;
    const { ffi, memory, scratch } = this.#host.stack;
    ffi.memcpy(memory.address + scratch.stage, this.#pcb, UDP_PCB.SIZE);
    return memory.view.getUint16(scratch.stage + UDP_PCB.LOCAL_PORT, true);
  }

  /** Nothing comes any more; emits 'close'. Idempotent. */
  close(): void {
    if (this.#pcb === 0) return;
    this.#host.stack.unregister(this.#id);
    this.#host.stack.ffi.udp_remove(this.#pcb);
    this.#pcb = 0;
    this.#queue = [];
    process.nextTick(() => this.emit('close'));
  }
}
