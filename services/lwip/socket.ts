/**
 * A TCP socket over lwIP with the face of `node:net`'s: a Duplex, so that Node's own HTTP client and TLS run on it.
 *
 * Back-pressure both ways: while the program does not read, the TCP window stays closed and at most
 * one window (64 KiB) waits here; a write is done when lwIP has copied all of it, as with a kernel socket.
 */
import { addAbortSignal, Duplex } from 'node:stream';
import { Connection, type ConnectionEvents, type KeepAliveTimes } from './connection.ts';
import { type ConnectOptions, Connector, type SocketHost } from './connector.ts';
import { codeOf, ERR, endpointText, NetError, type NetErrorCode } from './errors.ts';

export interface SocketOptions {
  /** Keep writing after the peer's FIN; default false. */
  readonly allowHalfOpen?: boolean;
  readonly signal?: AbortSignal;
  readonly readableHighWaterMark?: number;
  readonly writableHighWaterMark?: number;
}

interface Pending {
  readonly chunks: readonly Buffer[];
  index: number;
  offset: number;
  readonly done: (err?: Error | null) => void;
}

const HIGH_WATER_MARK = 128 * 1024;
/** Of a timer of Node; with more it would not wait at all. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class Socket extends Duplex {
  readonly #host: SocketHost;
  #connection: Connection | undefined;
  #connector: Connector | undefined;
  #wantsData = false;
  #pending: Pending | undefined;
  #final: ((err?: Error | null) => void) | undefined;
  #timeoutMs = 0;
  #idle: NodeJS.Timeout | undefined;
  #noDelay = false;
  #keepAlive: { on: boolean; times: KeepAliveTimes } | undefined;
  #referenced = true;
  #refHeld = false;
  #ends: { local: string; localPort: number; remote: string; remotePort: number } | undefined;
  bytesRead = 0;
  bytesWritten = 0;

  constructor(host: SocketHost, options: SocketOptions = {}) {
    super({
      allowHalfOpen: options.allowHalfOpen ?? false,
      readableHighWaterMark: options.readableHighWaterMark ?? HIGH_WATER_MARK,
      writableHighWaterMark: options.writableHighWaterMark ?? HIGH_WATER_MARK,
    });
    this.#host = host;
    // Not by super(): one that has been aborted destroys at once.
    if (options.signal) addAbortSignal(options.signal, this);
  }

  /** The socket of an accepted connection. Called inside lwIP's accept callback: runs no program code. */
  static accepted(host: SocketHost, pcb: number, options: SocketOptions): Socket {
    const socket = new Socket(host, options);
    socket.#connection = new Connection(host.stack, socket.#events(), pcb);
    socket.#ends = socket.#connection.endpoints;
    socket.#hold();
    return socket;
  }

  // ---- connecting ----

  /**
   * Connects; 'connect' or 'error' follows. Error codes: ENOTFOUND and EAI_AGAIN (name), ENETUNREACH, EHOSTUNREACH,
   * ECONNREFUSED, ETIMEDOUT, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS.
   */
  connect(options: ConnectOptions, onConnect?: () => void): this;
  connect(port: number, host?: string, onConnect?: () => void): this;
  connect(first: ConnectOptions | number, second?: string | (() => void), third?: () => void): this {
    const options =
      typeof first === 'number'
        ? { port: first, ...(typeof second === 'string' && { host: second }) }
        : first;
    const onConnect = typeof second === 'function' ? second : third;
    // Its signal had been aborted before.
    if (this.destroyed) return this;
    if (onConnect !== undefined) this.once('connect', onConnect);
    this.#connector = new Connector(this.#host, options, this.#events(), {
      looked: (...args) => this.emit('lookup', ...args),
      connected: (connection) => this.#onConnected(connection),
      failed: (err) => this.destroy(err),
    });
    this.#hold();
    if (options.timeout !== undefined) this.setTimeout(options.timeout);
    if (options.noDelay) this.setNoDelay(true);
    if (options.keepAlive) this.setKeepAlive(true, options.keepAliveInitialDelay ?? 0);
    this.#connector.start();
    return this;
  }

  // ---- events of the connection ----

  #events(): ConnectionEvents {
    return {
      connected: () => {},
      data: (chunk) => {
        this.bytesRead += chunk.length;
        this.#touch();
        return this.push(chunk);
      },
      ended: () => {
        this.push(null);
      },
      writable: () => {
        this.#touch();
        this.#writeOut();
      },
      failed: (err) => this.destroy(this.#streamError(err)),
    };
  }

  #onConnected(connection: Connection): void {
    this.#connector = undefined;
    this.#connection = connection;
    this.#ends = connection.endpoints;
    connection.setNoDelay(this.#noDelay);
    if (this.#keepAlive) connection.setKeepAlive(this.#keepAlive.on, this.#keepAlive.times);
    this.#touch();
    this.emit('connect');
    this.emit('ready');
    if (this.#wantsData) connection.resume();
    this.#writeOut();
    if (this.#final) this.#finish(this.#final);
  }

  #streamError(err: number): NetError {
    const { remote = '', remotePort = 0 } = this.#ends ?? {};
    const peer = endpointText(remote, remotePort);
    const [code, reason]: [NetErrorCode, string] =
      err === ERR.RST
        ? ['ECONNRESET', 'the peer reset it']
        : err === ERR.ABRT
          ? ['ETIMEDOUT', 'the peer stopped answering']
          : err === ERR.IF
            ? ['ENETDOWN', 'the network interface died']
            : [codeOf(err), `lwIP reports error ${err}`];
    return new NetError(code, `The connection to ${peer} broke as ${reason}`, {
      syscall: 'read',
      address: remote,
      port: remotePort,
    });
  }

  // ---- stream ----

  override _read(): void {
    this.#wantsData = true;
    this.#connection?.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (err?: Error | null) => void): void {
    this.#queue([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (err?: Error | null) => void): void {
    this.#queue(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  #queue(chunks: readonly Buffer[], done: (err?: Error | null) => void): void {
    for (const chunk of chunks) this.bytesWritten += chunk.length;
    this.#pending = { chunks, index: 0, offset: 0, done };
    this.#writeOut();
  }

  #writeOut(): void {
    const pending = this.#pending;
    const connection = this.#connection;
    if (pending === undefined || connection === undefined) return;
    this.#touch();
    while (pending.index < pending.chunks.length) {
      const chunk = pending.chunks[pending.index] as Buffer;
      const more = pending.index + 1 < pending.chunks.length;
      const taken = connection.write(chunk, pending.offset, more);
      if (taken < 0) {
        this.#pending = undefined;
        pending.done(this.#writeError(taken));
        return;
      }
      pending.offset += taken;
      if (pending.offset < chunk.length) {
        connection.output();
        return;
      }
      pending.index++;
      pending.offset = 0;
    }
    this.#pending = undefined;
    connection.output();
    pending.done();
  }

  #writeError(err: number): NetError {
    const { remote = '', remotePort = 0 } = this.#ends ?? {};
    const code = err === ERR.CONN ? 'EPIPE' : err === ERR.ABRT ? 'ECANCELED' : codeOf(err);
    return new NetError(
      code,
      `Cannot write to ${endpointText(remote, remotePort)} as the connection is closed`,
      { syscall: 'write', address: remote, port: remotePort },
    );
  }

  override _final(done: (err?: Error | null) => void): void {
    if (this.connecting) this.#final = done;
    else this.#finish(done);
  }

  #finish(done: (err?: Error | null) => void): void {
    this.#final = undefined;
    this.#connection?.shutdownWrite();
    done();
  }

  override _destroy(err: Error | null, done: (err?: Error | null) => void): void {
    clearTimeout(this.#idle);
    this.#connector?.cancel();
    this.#connector = undefined;
    this.#connection?.close();
    this.#connection = undefined;
    if (this.#pending) process.nextTick(this.#pending.done, err ?? this.#writeError(ERR.ABRT));
    this.#pending = undefined;
    this.#release();
    done(err);
  }

  /** Destroys the socket when everything written has been handed to lwIP. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Sends a RST and destroys. */
  resetAndDestroy(): this {
    this.#connection?.abort();
    return this.destroy();
  }

  // ---- as node:net ----

  get connecting(): boolean {
    return this.#connector !== undefined;
  }

  get pending(): boolean {
    return this.#connection === undefined;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.connecting) return 'opening';
    if (this.readable) return this.writable ? 'open' : 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  get timeout(): number | undefined {
    return this.#timeoutMs === 0 ? undefined : this.#timeoutMs;
  }

  get remoteAddress(): string | undefined {
    return this.#ends?.remote;
  }

  get remotePort(): number | undefined {
    return this.#ends?.remotePort;
  }

  get remoteFamily(): string | undefined {
    return this.#ends && familyOf(this.#ends.remote);
  }

  get localAddress(): string | undefined {
    return this.#ends?.local;
  }

  get localPort(): number | undefined {
    return this.#ends?.localPort;
  }

  address(): { address?: string; family?: string; port?: number } {
    if (this.#ends === undefined) return {};
    const { local, localPort } = this.#ends;
    return { address: local, family: familyOf(local), port: localPort };
  }

  /** Emits 'timeout' after `ms` without traffic; 0 = never. The program decides what to do then. */
  setTimeout(ms: number, onTimeout?: () => void): this {
    this.#timeoutMs = Math.min(ms, MAX_TIMEOUT_MS);
    clearTimeout(this.#idle);
    this.#idle = undefined;
    if (ms > 0) {
      if (onTimeout !== undefined) this.once('timeout', onTimeout);
      this.#idle = setTimeout(() => this.emit('timeout'), this.#timeoutMs).unref();
    } else if (onTimeout !== undefined) {
      this.removeListener('timeout', onTimeout);
    }
    return this;
  }

  #touch(): void {
    this.#idle?.refresh();
  }

  /** Switches Nagle's algorithm off (true) or on. */
  setNoDelay(on = true): this {
    this.#noDelay = on;
    this.#connection?.setNoDelay(on);
    return this;
  }

  /** As Node's; with the time between probes and how many may go without an answer. 0: as before, or lwIP's own. */
  setKeepAlive(on = false, initialDelayMs = 0, intervalMs = 0, count = 0): this {
    const times = { idleMs: initialDelayMs, intervalMs, count };
    this.#keepAlive = { on, times };
    this.#connection?.setKeepAlive(on, times);
    return this;
  }

  /** While referenced (the default) an open socket keeps the process alive. */
  ref(): this {
    this.#referenced = true;
    if (this.#connection !== undefined || this.connecting) this.#hold();
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this.#release();
    return this;
  }

  #hold(): void {
    if (this.#refHeld || !this.#referenced) return;
    this.#refHeld = true;
    this.#host.stack.ref();
  }

  #release(): void {
    if (!this.#refHeld) return;
    this.#refHeld = false;
    this.#host.stack.unref();
  }
}

function familyOf(address: string): string {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}
