/**
 * A TCP socket over lwIP with the face of `node:net`'s: a Duplex, so that Node's own HTTP client and TLS run on it.
 *
 * Back-pressure both ways: while the program does not read, the TCP window stays closed and at most
 * one window (64 KiB) waits here; a write is done when lwIP has copied all of it, as with a kernel socket.
 */
import type { LookupFunction } from 'node:net';
import { Duplex } from 'node:stream';
import { formatIpv4 } from '#common/wire/ipv4';
import { type IpAddress, parseIp } from './address.ts';
import { Connection, type ConnectionEvents } from './connection.ts';
import { codeOf, ERR, endpointText, NetError, type NetErrorCode } from './errors.ts';
import type { Netif } from './netif.ts';
import { routeTo } from './routes.ts';
import type { Stack } from './stack.ts';

/** What sockets need to know of the network they belong to. */
export interface SocketHost {
  readonly stack: Stack;
  readonly netifs: readonly Netif[];
  /** Name look-up as `net.connect` wants it; IPv4 addresses first. */
  readonly lookup: LookupFunction;
}

export interface SocketOptions {
  /** Keep writing after the peer's FIN; default false. */
  readonly allowHalfOpen?: boolean;
  readonly signal?: AbortSignal;
  readonly readableHighWaterMark?: number;
  readonly writableHighWaterMark?: number;
}

export interface ConnectOptions {
  readonly host?: string;
  readonly port: number;
  readonly localAddress?: string;
  readonly localPort?: number;
  /** 4, 6 or 0 for either. */
  readonly family?: number;
  readonly lookup?: LookupFunction;
  /** As `setTimeout`. */
  readonly timeout?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

interface Pending {
  readonly chunks: readonly Buffer[];
  index: number;
  offset: number;
  readonly done: (err?: Error | null) => void;
}

const HIGH_WATER_MARK = 128 * 1024;
/** Linux gives up after three unanswered ARP requests, one second apart; so do we. */
const ARP_WAIT_MS = 3000;

export class Socket extends Duplex {
  readonly #host: SocketHost;
  #connection: Connection | undefined;
  #connecting = false;
  #wantsData = false;
  #pending: Pending | undefined;
  #final: ((err?: Error | null) => void) | undefined;
  #timeoutMs = 0;
  #idle: NodeJS.Timeout | undefined;
  #arpCheck: NodeJS.Timeout | undefined;
  #noDelay = false;
  #keepAlive: { on: boolean; delayMs: number } | undefined;
  #referenced = true;
  #refHeld = false;
  #to: { address: string; port: number } | undefined;
  #ends: { local: string; localPort: number; remote: string; remotePort: number } | undefined;
  bytesRead = 0;
  bytesWritten = 0;

  constructor(host: SocketHost, options: SocketOptions = {}) {
    super({
      allowHalfOpen: options.allowHalfOpen ?? false,
      readableHighWaterMark: options.readableHighWaterMark ?? HIGH_WATER_MARK,
      writableHighWaterMark: options.writableHighWaterMark ?? HIGH_WATER_MARK,
      ...(options.signal && { signal: options.signal }),
    });
    this.#host = host;
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
    if (onConnect !== undefined) this.once('connect', onConnect);
    checkPort(options.port);
    this.#connecting = true;
    this.#hold();
    if (options.timeout !== undefined) this.setTimeout(options.timeout);
    if (options.noDelay) this.setNoDelay(true);
    if (options.keepAlive) this.setKeepAlive(true, options.keepAliveInitialDelay ?? 0);
    this.#resolve(options);
    return this;
  }

  #resolve(options: ConnectOptions): void {
    const host = options.host ?? 'localhost';
    const literal = parseIp(host, (name) => this.#zoneOf(name));
    if (literal !== undefined) {
      process.nextTick(() => this.#tryNext([{ text: host, ip: literal }], options));
      return;
    }
    const lookup = options.lookup ?? this.#host.lookup;
    lookup(host, { all: true, family: options.family ?? 0 }, (err, found, family) => {
      if (this.destroyed) return;
      const list = Array.isArray(found) ? found : [{ address: found, family: family ?? 4 }];
      if (err) {
        this.emit('lookup', err, undefined, undefined, host);
        this.destroy(err);
        return;
      }
      for (const { address, family } of list) this.emit('lookup', null, address, family, host);
      const addresses = list.flatMap(({ address }) => {
        const ip = parseIp(address);
        return ip === undefined ? [] : [{ text: address, ip }];
      });
      this.#tryNext(addresses, options);
    });
  }

  #zoneOf(name: string): number {
    return this.#host.netifs.find((netif) => netif.name === name)?.index ?? 0;
  }

  /** Tries the addresses one behind the other; the last one's error is the socket's. */
  #tryNext(
    addresses: readonly { text: string; ip: IpAddress }[],
    options: ConnectOptions,
    last?: NetError,
  ): void {
    if (this.destroyed) return;
    const [first, ...rest] = addresses;
    if (first === undefined) {
      this.destroy(last ?? this.#error('ENOTFOUND', `the name ${options.host} has no address`));
      return;
    }
    this.#to = { address: first.text, port: options.port };
    const failed = (err: NetError): void => this.#tryNext(rest, options, err);
    const route = routeTo(this.#host.netifs, first.ip);
    if ('reason' in route) {
      failed(this.#error(route.code, route.reason));
      return;
    }
    const local = options.localAddress === undefined ? undefined : parseIp(options.localAddress);
    const connection = new Connection(this.#host.stack, this.#events(failed));
    this.#connection = connection;
    const err = connection.connect(first.ip, options.port, options.localPort ?? 0, local);
    if (err !== ERR.OK) {
      connection.abort();
      failed(this.#error(codeOf(err), reasonOf(err, options)));
      return;
    }
    const { netif, nextHop } = route;
    if (nextHop === undefined) return;
    this.#arpCheck = setTimeout(() => {
      if (netif.knowsNeighbour(nextHop)) return;
      connection.abort();
      failed(this.#error('EHOSTUNREACH', `nobody on ${netif.name} answers ARP requests for ${formatIpv4(nextHop)}`));
    }, ARP_WAIT_MS).unref();
  }

  #error(code: NetErrorCode, reason: string): NetError {
    const { address = '', port = 0 } = this.#to ?? {};
    return new NetError(code, `Cannot connect to ${endpointText(address, port)} as ${reason}`, {
      syscall: 'connect',
      address,
      port,
    });
  }

  // ---- events of the connection ----

  #events(connectFailed?: (err: NetError) => void): ConnectionEvents {
    return {
      connected: () => this.#onConnected(),
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
      failed: (err) => {
        clearTimeout(this.#arpCheck);
        if (this.#connecting && connectFailed !== undefined) connectFailed(this.#connectError(err));
        else this.destroy(this.#streamError(err));
      },
    };
  }

  #onConnected(): void {
    clearTimeout(this.#arpCheck);
    this.#connecting = false;
    const connection = this.#connection;
    if (connection === undefined || this.destroyed) return;
    this.#ends = connection.endpoints;
    connection.setNoDelay(this.#noDelay);
    if (this.#keepAlive) connection.setKeepAlive(this.#keepAlive.on, this.#keepAlive.delayMs);
    this.#touch();
    this.emit('connect');
    this.emit('ready');
    if (this.#wantsData) connection.resume();
    this.#writeOut();
    if (this.#final) this.#finish(this.#final);
  }

  #connectError(err: number): NetError {
    if (err === ERR.RST) return this.#error('ECONNREFUSED', 'the host refused it: nothing listens on that port');
    if (err === ERR.ABRT) return this.#error('ETIMEDOUT', 'the host did not answer: it is down or a filter drops it');
    return this.#error(codeOf(err), `lwIP reports error ${err}`);
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
    if (!this.#connecting) this.#connection?.resume();
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
    if (!this.#connecting) this.#writeOut();
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
    return new NetError(
      err === ERR.CONN ? 'EPIPE' : codeOf(err),
      `Cannot write to ${endpointText(remote, remotePort)} as the connection is closed`,
      { syscall: 'write', address: remote, port: remotePort },
    );
  }

  override _final(done: (err?: Error | null) => void): void {
    if (this.#connecting) this.#final = done;
    else this.#finish(done);
  }

  #finish(done: (err?: Error | null) => void): void {
    this.#final = undefined;
    this.#connection?.shutdownWrite();
    done();
  }

  override _destroy(err: Error | null, done: (err?: Error | null) => void): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#arpCheck);
    this.#connecting = false;
    this.#connection?.close();
    this.#connection = undefined;
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
    return this.#connecting;
  }

  get pending(): boolean {
    return this.#connection === undefined || this.#connecting;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.#connecting) return 'opening';
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
    this.#timeoutMs = ms;
    clearTimeout(this.#idle);
    this.#idle = undefined;
    if (ms > 0) {
      if (onTimeout !== undefined) this.once('timeout', onTimeout);
      this.#idle = setTimeout(() => this.emit('timeout'), ms).unref();
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
    if (!this.#connecting) this.#connection?.setNoDelay(on);
    return this;
  }

  setKeepAlive(on = false, initialDelayMs = 0): this {
    this.#keepAlive = { on, delayMs: initialDelayMs };
    if (!this.#connecting) this.#connection?.setKeepAlive(on, initialDelayMs);
    return this;
  }

  /** While referenced (the default) an open socket keeps the process alive. */
  ref(): this {
    this.#referenced = true;
    if (this.#connection !== undefined || this.#connecting) this.#hold();
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

function reasonOf(err: number, options: ConnectOptions): string {
  if (err === ERR.USE) return `local port ${options.localPort} is in use`;
  if (err === ERR.MEM) return 'lwIP has no memory left';
  if (err === ERR.RTE) return 'lwIP has no route there';
  return `lwIP reports error ${err}`;
}

/** Throws RangeError unless `port` is 1..65535. */
function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return;
  throw new RangeError(`Cannot connect as port must be 1..65535: current value is ${port}`);
}
