/**
 * A TCP server over lwIP, after `net.Server`: events listening, connection, close, error.
 *
 * This build of lwIP has no backlog (TCP_LISTEN_BACKLOG 0): a connection is accepted as soon as its handshake is done.
 * `maxConnections` is what bounds them; a connection above it is reset.
 */
import { EventEmitter } from 'node:events';
import { isPort, parseIp, writeAnyIp, writeIp } from './address.ts';
import type { SocketHost } from './connector.ts';
import { codeOf, ERR, endpointText, NetError } from './errors.ts';
import { IPADDR_TYPE, SOF_REUSEADDR, TCP_PCB } from './layout.ts';
import { Socket, type SocketOptions } from './socket.ts';
import type { Callee, Dirty } from './stack.ts';

export interface ListenOptions {
  /** 0 or absent: any free one. */
  readonly port?: number;
  /** Own address to listen on; absent: all, IPv4 and IPv6. */
  readonly host?: string;
}

const MAX_BACKLOG = 255;

interface ServerEvents {
  listening: [];
  connection: [Socket];
  close: [];
  error: [Error];
}

export class Server extends EventEmitter<ServerEvents> implements Callee, Dirty {
  /** Connections above this are reset. Unset: no bound. */
  maxConnections: number | undefined;
  readonly #host: SocketHost;
  readonly #options: SocketOptions;
  #pcb = 0;
  #id = 0;
  #port = 0;
  #address = '::';
  #accepted: Socket[] = [];
  readonly #open = new Set<Socket>();
  #closing = false;
  #refHeld = false;

  constructor(host: SocketHost, options: SocketOptions = {}, onConnection?: (socket: Socket) => void) {
    super();
    this.#host = host;
    this.#options = options;
    if (onConnection !== undefined) this.on('connection', onConnection);
  }

  get listening(): boolean {
    return this.#pcb !== 0;
  }

  /** Starts to listen; 'listening' or 'error' (EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS) follows. */
  listen(options: ListenOptions | number = {}, onListening?: () => void): this {
    const { port = 0, host } = typeof options === 'number' ? { port: options } : options;
    if (onListening !== undefined) this.once('listening', onListening);
    try {
      this.#listen(port, host);
      process.nextTick(() => this.emit('listening'));
    } catch (err) {
      process.nextTick(() => this.emit('error', err as Error));
    }
    return this;
  }

  #listen(port: number, host: string | undefined): void {
    const { ffi, memory, scratch, callbacks } = this.#host.stack;
    if (this.#pcb !== 0) throw this.#error('EINVAL', port, 'it listens already');
    if (!isPort(port, 0)) throw this.#error('EINVAL', port, 'port must be 0..65535');
    const ip = host === undefined ? undefined : parseIp(host);
    if (host !== undefined && ip === undefined) {
      throw this.#error('EADDRNOTAVAIL', port, `"${host}" is no IP address`);
    }
    const pcb = ffi.tcp_new_ip_type(IPADDR_TYPE.ANY);
    if (pcb === 0) throw this.#error('ENOBUFS', port, 'lwIP has no memory left');
    if (ip === undefined) writeAnyIp(memory, scratch.ip);
    else writeIp(memory, scratch.ip, ip);
    // As `net.Server`: a port whose last connections are in TIME-WAIT is free.
    const options = new Uint8Array(ffi.view(pcb + TCP_PCB.SO_OPTIONS, 1));
    options[0] = (options[0] as number) | SOF_REUSEADDR;
    const err = ffi.tcp_bind(pcb, memory.address + scratch.ip, port);
    if (err !== ERR.OK) throw this.#refused(pcb, port, err);
    ffi.memcpy(memory.address + scratch.stage, pcb, TCP_PCB.SIZE);
    this.#port = memory.view.getUint16(scratch.stage + TCP_PCB.LOCAL_PORT, true);
    this.#address = host ?? '::';
    const errAt = scratch.pbuf;
    this.#pcb = ffi.tcp_listen_with_backlog_and_err(pcb, MAX_BACKLOG, memory.address + errAt);
    if (this.#pcb === 0) throw this.#refused(pcb, port, memory.view.getInt8(errAt));
    this.#id = this.#host.stack.register(this);
    ffi.tcp_arg(this.#pcb, this.#id);
    ffi.tcp_accept(this.#pcb, callbacks.accept);
    this.ref();
  }

  #refused(pcb: number, port: number, err: number): NetError {
    this.#host.stack.ffi.tcp_abort(pcb);
    const reason =
      err === ERR.USE
        ? 'the port is in use'
        : err === ERR.MEM
          ? 'lwIP has no memory left'
          : `lwIP reports error ${err}`;
    return this.#error(codeOf(err), port, reason);
  }

  #error(code: ConstructorParameters<typeof NetError>[0], port: number, reason: string): NetError {
    return new NetError(code, `Cannot listen on ${endpointText(this.#address, port)} as ${reason}`, {
      syscall: 'listen',
      port,
    });
  }

  /** lwIP's callback: a handshake is done. */
  onAccept(pcb: number, err: number): number {
    if (err !== ERR.OK || pcb === 0) return ERR.VAL;
    if (this.maxConnections !== undefined && this.#open.size >= this.maxConnections) {
      this.#host.stack.ffi.tcp_abort(pcb);
      return ERR.ABRT;
    }
    const socket = Socket.accepted(this.#host, pcb, this.#options);
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#emitClosed();
    });
    this.#accepted.push(socket);
    if (this.#accepted.length === 1) this.#host.stack.markDirty(this);
    return ERR.OK;
  }

  acknowledge(): void {}

  deliver(): void {
    const accepted = this.#accepted;
    this.#accepted = [];
    for (const socket of accepted) this.emit('connection', socket);
  }

  /** Own address and port while listening. */
  address(): { address: string; family: string; port: number } | undefined {
    if (this.#pcb === 0) return undefined;
    const family = this.#address.includes(':') ? 'IPv6' : 'IPv4';
    return { address: this.#address, family, port: this.#port };
  }

  /** Stops listening; 'close' follows when the last connection is gone. */
  close(onClose?: () => void): this {
    if (onClose !== undefined) this.once('close', onClose);
    if (this.#pcb !== 0) {
      this.#host.stack.ffi.tcp_close(this.#pcb);
      this.#host.stack.unregister(this.#id);
      this.#pcb = 0;
    }
    this.#closing = true;
    this.unref();
    process.nextTick(() => this.#emitClosed());
    return this;
  }

  #emitClosed(): void {
    if (!this.#closing || this.#open.size > 0) return;
    this.#closing = false;
    this.emit('close');
  }

  /** While referenced (the default) a listening server keeps the process alive. */
  ref(): this {
    if (!this.#refHeld && this.#pcb !== 0) this.#host.stack.ref();
    this.#refHeld = this.#refHeld || this.#pcb !== 0;
    return this;
  }

  unref(): this {
    if (this.#refHeld) this.#host.stack.unref();
    this.#refHeld = false;
    return this;
  }
}
