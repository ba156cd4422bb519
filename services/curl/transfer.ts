/**
 * One URL: request, redirects, body, with curl's limits and curl's reasons for failure.
 * HTTP itself is Node's client; the connection is whatever the agent makes (a socket of lwIP).
 */
import http from 'node:http';
import { isIP, type Socket } from 'node:net';
import { CurlError, EXIT } from './exit_codes.ts';
import { connectFailure, responseFailure } from './failures.ts';
import type { Config } from './options.ts';
import { requestHeaders } from './request_headers.ts';
import type { Sink } from './sink.ts';
import { locationText, parseUrl, redirectTarget } from './url.ts';

/** Where -v goes: `*` information, `>` sent and `<` received header lines. */
export type Trace = (mark: '*' | '>' | '<', line: string) => void;

/** Milliseconds since the start of the transfer; what -w calls time_*. */
export interface Timings {
  namelookup: number;
  connect: number;
  pretransfer: number;
  starttransfer: number;
  redirect: number;
  total: number;
}

/** What is known at the end, also of a failed transfer. */
export interface TransferInfo {
  readonly url: string;
  effectiveUrl: string;
  method: string;
  status: number;
  httpVersion: string;
  reason: string;
  headers: readonly string[];
  contentType: string;
  /** Body bytes expected (-1 unknown) and received; request and response header bytes. */
  expected: number;
  downloaded: number;
  requestBytes: number;
  headerBytes: number;
  redirects: number;
  redirectUrl: string;
  connections: number;
  remoteIp: string;
  remotePort: number;
  localIp: string;
  localPort: number;
  readonly times: Timings;
}

export function newInfo(url: string): TransferInfo {
  return {
    url,
    effectiveUrl: url,
    method: 'GET',
    status: 0,
    httpVersion: '0',
    reason: '',
    headers: [],
    contentType: '',
    expected: -1,
    downloaded: 0,
    requestBytes: 0,
    headerBytes: 0,
    redirects: 0,
    redirectUrl: '',
    connections: 0,
    remoteIp: '',
    remotePort: 0,
    localIp: '',
    localPort: 0,
    times: { namelookup: 0, connect: 0, pretransfer: 0, starttransfer: 0, redirect: 0, total: 0 },
  };
}

/** lwIP's sockets take all of it, Node's the first two. */
interface ProbedSocket {
  setKeepAlive(on: boolean, idleMs: number, intervalMs: number, count: number): unknown;
}

const MAX_HEADER_BYTES = 300 * 1024;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

export class Transfer {
  readonly info: TransferInfo;
  readonly #config: Config;
  readonly #agent: http.Agent;
  readonly #sink: Sink;
  readonly #trace: Trace;
  readonly #start = performance.now();
  /** Of the command line. */
  #first: URL | undefined;
  /** Why a connection broke, or the parser gave up, behind the head of the response. */
  #broken: Error | undefined;

  constructor(url: string, config: Config, agent: http.Agent, sink: Sink, trace: Trace) {
    this.info = newInfo(url);
    this.#config = config;
    this.#agent = agent;
    this.#sink = sink;
    this.#trace = trace;
  }

  /** Performs it. Throws CurlError; `info` is filled in either way. */
  async run(signal: AbortSignal): Promise<void> {
    const limit = new AbortController();
    const stop = () => limit.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    const timer =
      this.#config.maxTimeMs > 0
        ? setTimeout(() => limit.abort(this.#timeout()), this.#config.maxTimeMs)
        : undefined;
    try {
      let url = parseUrl(this.info.url);
      this.#first = url;
      for (;;) {
        const next = await this.#request(url, limit.signal);
        if (!next) return;
        url = next;
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      this.info.times.total = this.#elapsed();
    }
  }

  /** One request; returns where a redirect leads that is to be followed. */
  async #request(url: URL, signal: AbortSignal): Promise<URL | undefined> {
    const { info } = this;
    this.#broken = undefined;
    info.effectiveUrl = url.href;
    info.method = this.#config.head ? 'HEAD' : 'GET';
    info.downloaded = 0;
    const response = await this.#send(url, signal);
    const next = this.#receiveHead(response, url);
    if (this.#config.failOnError && info.status >= 400) {
      response.destroy();
      throw new CurlError(EXIT.HTTP_RETURNED_ERROR, `The requested URL returned error: ${info.status}`);
    }
    if (this.#config.include || this.#config.head)
      await this.#sink.write(Buffer.from(headText(info), 'latin1'));
    await this.#receiveBody(response, signal, next === undefined);
    this.#trace('*', `Connection #${info.connections - 1} to host ${hostOf(url)} left intact`);
    if (!next) return undefined;
    if (this.#config.maxRedirects >= 0 && info.redirects >= this.#config.maxRedirects) {
      throw new CurlError(
        EXIT.TOO_MANY_REDIRECTS,
        `Maximum (${this.#config.maxRedirects}) redirects followed`,
      );
    }
    info.redirects += 1;
    info.times.redirect = this.#elapsed();
    this.#trace('*', `Issue another request to this URL: '${next}'`);
    return redirectTarget(next);
  }

  #send(url: URL, signal: AbortSignal): Promise<http.IncomingMessage> {
    const { info } = this;
    const host = hostOf(url);
    const port = Number(url.port || 80);
    const begun = performance.now();
    const headers = requestHeaders(url, this.#first ?? url, this.#config);
    const request = http.request({
      agent: this.#agent,
      host,
      port,
      path: url.pathname + url.search,
      method: info.method,
      setHost: false,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    // Node's own; one of -H comes behind it.
    request.removeHeader('Connection');
    for (const [name, values] of headers) request.setHeader(name, values);
    return new Promise((resolve, reject) => {
      let phase: 'resolving' | 'connecting' | 'connected' = isIP(host) === 0 ? 'resolving' : 'connecting';
      const timer = setTimeout(() => {
        const what = phase === 'resolving' ? 'Resolving' : 'Connection';
        fail(
          new CurlError(
            EXIT.OPERATION_TIMEDOUT,
            `${what} timed out after ${this.#config.connectTimeoutMs} milliseconds`,
          ),
        );
      }, this.#config.connectTimeoutMs);
      const fail = (err: unknown) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        request.on('error', () => {});
        request.destroy();
        const took = Math.round(performance.now() - begun);
        reject(phase === 'connected' ? responseFailure(err) : connectFailure(err, host, port, took));
      };
      const onAbort = () => fail(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) return onAbort();
      request.once('error', fail);
      request.once('socket', (socket: Socket) => {
        const sent = () => {
          phase = 'connected';
          clearTimeout(timer);
          this.#onConnected(socket, host, request);
        };
        // A socket that failed at once does not connect either: its error is on the way.
        if (!socket.connecting && !socket.destroyed) return sent();
        info.connections += 1;
        socket.once('lookup', (err, address) => {
          if (err) return;
          phase = 'connecting';
          info.times.namelookup = this.#elapsed();
          this.#trace('*', `Host ${host}:${port} was resolved.`);
          this.#trace('*', `  Trying ${address}:${port}...`);
        });
        socket.once('connect', sent);
      });
      request.once('response', (response) => {
        signal.removeEventListener('abort', onAbort);
        request.off('error', fail);
        // From here on the response tells what happens, but not why.
        request.on('error', (err) => {
          this.#broken ??= err;
        });
        resolve(response);
      });
      request.once('upgrade', ({ statusCode }, socket) => {
        socket.destroy();
        fail(
          new CurlError(EXIT.WEIRD_SERVER_REPLY, `Weird server reply (unexpected ${statusCode} response)`),
        );
      });
      request.end();
    });
  }

  #onConnected(socket: Socket, host: string, request: http.ClientRequest): void {
    const { info } = this;
    const { keepAlive, keepAliveMs, keepAliveCount } = this.#config;
    // Each time: an agent has settings of its own for a connection that it keeps.
    (socket as ProbedSocket).setKeepAlive(keepAlive, keepAliveMs, keepAliveMs, keepAliveCount);
    info.times.connect ||= this.#elapsed();
    info.times.pretransfer = this.#elapsed();
    info.remoteIp = socket.remoteAddress ?? '';
    info.remotePort = socket.remotePort ?? 0;
    info.localIp = socket.localAddress ?? '';
    info.localPort = socket.localPort ?? 0;
    this.#trace(
      '*',
      `Established connection to ${host} (${info.remoteIp} port ${info.remotePort}) from ${info.localIp} port ${info.localPort}`,
    );
    const lines = [
      `${request.method} ${request.path} HTTP/1.1`,
      ...request.getRawHeaderNames().flatMap((name) => {
        const values = request.getHeader(name);
        return (Array.isArray(values) ? values : [values]).map((value) => `${name}: ${value}`);
      }),
      '',
    ];
    info.requestBytes += lines.join('\r\n').length + 2;
    for (const line of lines) this.#trace('>', line);
  }

  /** Notes status and headers; returns the URL of a redirect that is to be followed. */
  #receiveHead(response: http.IncomingMessage, url: URL): string | undefined {
    const { info } = this;
    info.times.starttransfer = this.#elapsed();
    info.status = response.statusCode ?? 0;
    info.reason = response.statusMessage ?? '';
    info.httpVersion = response.httpVersion;
    const raw = response.rawHeaders;
    info.headers = raw.flatMap((name, n) => (n % 2 === 0 ? [`${name}: ${raw[n + 1]}`] : []));
    info.contentType = response.headers['content-type'] ?? '';
    info.expected = Number(response.headers['content-length'] ?? -1);
    const head = headText(info);
    info.headerBytes += head.length;
    for (const line of head.trimEnd().split('\r\n').concat('')) this.#trace('<', line);
    info.redirectUrl = '';
    if (response.headers.location === undefined || !REDIRECTS.has(info.status)) return undefined;
    const location = locationText(response.headers.location);
    info.redirectUrl = URL.canParse(location, url.href) ? new URL(location, url).href : location;
    return this.#config.followRedirects ? info.redirectUrl : undefined;
  }

  async #receiveBody(response: http.IncomingMessage, signal: AbortSignal, wanted: boolean): Promise<void> {
    const { info } = this;
    const onAbort = () => response.destroy(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        info.downloaded += chunk.length;
        if (wanted) await this.#sink.write(chunk);
      }
    } catch (err) {
      if (err instanceof CurlError) throw err;
      if (signal.aborted) throw signal.reason;
      throw responseFailure(this.#broken ?? err, info);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    if (!response.complete) throw responseFailure(undefined, info);
  }

  #timeout(): CurlError {
    const { downloaded, expected, status } = this.info;
    const of = expected > 0 ? `${downloaded} out of ${expected}` : `${downloaded}`;
    const what = status === 0 && this.info.times.connect === 0 ? 'Connection' : 'Operation';
    const progress = what === 'Operation' ? ` with ${of} bytes received` : '';
    return new CurlError(
      EXIT.OPERATION_TIMEDOUT,
      `${what} timed out after ${Math.round(this.#elapsed())} milliseconds${progress}`,
    );
  }

  #elapsed(): number {
    return performance.now() - this.#start;
  }
}

/** Status line and headers as they are printed by -i and -I. */
function headText(info: TransferInfo): string {
  return [`HTTP/${info.httpVersion} ${info.status} ${info.reason}`, ...info.headers, '', ''].join('\r\n');
}

/** Without the brackets of an IPv6 literal. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1');
}
