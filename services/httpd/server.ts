/**
 * The HTTP/1.1 server: Node's own, on any connections. Whoever listens hands each one to `accept`.
 *
 * Bounds for clients that mean harm: size and number of headers, time for a request, time without traffic, requests
 * of one connection at a time (Node answers them in turn).
 */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Duplex } from 'node:stream';
import { type Answer, METHODS, NO_METHOD, respond } from './respond.ts';
import type { Site } from './site.ts';

/** In milliseconds. */
export interface Limits {
  /** For the request line and all headers, from the first byte or the connection on. */
  readonly headersMs: number;
  /** Without a byte in either direction while a response is under way, or before the first request. */
  readonly idleMs: number;
  /** Between two requests of a connection. */
  readonly keepAliveMs: number;
  /** How often the time for headers is looked at. */
  readonly checkMs: number;
}

export const LIMITS: Limits = { headersMs: 10_000, idleMs: 30_000, keepAliveMs: 5_000, checkMs: 1_000 };

const MAX_HEADER_BYTES = 8192;
const MAX_HEADERS = 100;
/** Requests of one connection: nobody keeps one for ever. */
const MAX_REQUESTS = 1000;

export interface HttpServerOptions {
  readonly site: Site;
  /** One line for each request. */
  readonly log: (line: string) => void;
  readonly limits?: Limits;
}

export class HttpServer {
  readonly #server: Server;
  readonly #options: HttpServerOptions;

  constructor(options: HttpServerOptions) {
    const { headersMs, idleMs, keepAliveMs, checkMs } = options.limits ?? LIMITS;
    this.#options = options;
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: headersMs,
        // Bodies are not read: a request is its headers.
        requestTimeout: headersMs,
        keepAliveTimeout: keepAliveMs,
        connectionsCheckingInterval: checkMs,
        // We look ourselves: what is wrong with a request belongs into the log.
        requireHostHeader: false,
      },
      (request, response) => void this.#answer(request, response),
    );
    // A client may end its side after the request; Node would cut the response off (its property has no documentation).
    Object.assign(this.#server, { httpAllowHalfOpen: true });
    this.#server.maxHeadersCount = MAX_HEADERS;
    this.#server.maxRequestsPerSocket = MAX_REQUESTS;
    this.#server.timeout = idleMs;
    // An expectation that nobody knows may be passed over [RFC 9110 §10.1.1].
    this.#server.on('checkExpectation', (request, response) => void this.#answer(request, response));
    this.#server.on('clientError', (err, socket) => this.#refuse(err, socket));
    // Node would end the connection without a word.
    this.#server.on('connect', ({ url, httpVersion }, socket) =>
      this.#end(socket, `CONNECT ${url} HTTP/${httpVersion}`, 405, NO_METHOD, `Allow: ${METHODS}\r\n`),
    );
    // Node starts to look at the clock of its connections when its server listens; ours does so elsewhere.
    this.#server.emit('listening');
  }

  /** Serves a connection until it ends. */
  accept(socket: Duplex): void {
    this.#server.emit('connection', socket);
  }

  /** Ends all connections at once. */
  close(): void {
    this.#server.closeAllConnections();
    this.#server.close(() => {});
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket, method, url, httpVersion } = request;
    const client = socket.remoteAddress ?? 'unknown';
    const answer: Answer = { status: 0, bytes: 0, reason: '' };
    await respond(this.#options.site, request, response, answer);
    this.#log(client, `${method} ${url} HTTP/${httpVersion}`, answer);
  }

  /** Something that is no HTTP request, or none in time. */
  #refuse(err: NodeJS.ErrnoException, socket: Duplex): void {
    const [status, reason] = refusal(err);
    // A connection that was reset or never used needs no answer.
    if (status === 0 || !socket.writable) socket.destroy();
    else this.#end(socket, '-', status, reason);
  }

  /** Answers without a body and ends the connection. `headers` are whole lines. */
  #end(socket: Duplex, request: string, status: number, reason: string, headers = ''): void {
    const client = String((socket as Partial<{ remoteAddress: string }>).remoteAddress ?? 'unknown');
    this.#log(client, request, { status, bytes: 0, reason });
    socket.on('error', () => {});
    socket.end(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers}Connection: close\r\nContent-Length: 0\r\n\r\n`,
      () => socket.destroy(),
    );
  }

  #log(client: string, request: string, { status, bytes, reason }: Answer): void {
    const why = reason === '' ? '' : ` (${reason})`;
    this.#options.log(`${client} "${printable(request)}" ${status} ${bytes}${why}`);
  }
}

function refusal(err: NodeJS.ErrnoException): [status: number, reason: string] {
  switch (err.code) {
    case 'ECONNRESET':
      return [0, ''];
    case 'HPE_HEADER_OVERFLOW':
      return [431, `request line and headers must have at most ${MAX_HEADER_BYTES} bytes`];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return [408, 'the request did not come in time'];
    default:
      return [400, err.message];
  }
}

/** What a client sent goes into a log line without quotes, control characters and bytes above ASCII. */
function printable(text: string): string {
  return text.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : '?';
  });
}
