/** One request of the HTTP server, answered from a site [RFC 9110]. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { STATUS_CODES } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { toL4Error } from '#common/ipc/errors';
import { isNotModified, isOtherVersion, type Range, requestedRange, validatorsOf } from './conditions.ts';
import { escapeHtml, listingPage } from './listing.ts';
import { mediaType } from './media_types.ts';
import type { Site, SiteFile } from './site.ts';
import { parseTarget } from './target.ts';

const INDEX = 'index.html';

/** What every other method is answered with. */
export const METHODS = 'GET, HEAD';
export const NO_METHOD = 'the method must be GET or HEAD';

/** What a log line says of an answer. */
export interface Answer {
  status: number;
  /** Bytes of the body that were handed on. */
  bytes: number;
  /** Why it is not what was asked for, or not all of it. */
  reason: string;
}

/** Answers; fills `answer` in on the way. Resolves when the response is complete or broken off. Never throws. */
export async function respond(
  site: Site,
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): Promise<void> {
  try {
    await answerRequest(site, new Exchange(request, response, answer));
  } catch (err) {
    if (response.headersSent) response.destroy();
    // Who was to read that may have gone, too.
    else {
      const exchange = new Exchange(request, response, answer);
      await exchange.problem(500, 'the files could not be read').catch(() => response.destroy());
    }
    // Paths and the like are for the log only.
    answer.reason = describe(err);
  }
}

/** A client that went away is no error of ours, but worth a word in the log. */
function describe(err: unknown): string {
  const { code } = err as NodeJS.ErrnoException;
  return code === 'ERR_STREAM_PREMATURE_CLOSE' ? 'the client went away' : toL4Error(err).message;
}

async function answerRequest(site: Site, exchange: Exchange): Promise<void> {
  const { request } = exchange;
  const host = hostProblem(request);
  if (host !== undefined) return exchange.problem(400, host, { Connection: 'close' });
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    // Its body is not read: the connection cannot be used again.
    return exchange.problem(405, NO_METHOD, {
      Allow: METHODS,
      Connection: 'close',
    });
  }
  const target = parseTarget(request.url ?? '');
  if ('status' in target) return exchange.problem(target.status, target.reason);
  const { names, directory } = target;
  const found = await site.find(names);
  if (found?.kind === 'file' && !directory) return exchange.file(found);
  if (found?.kind !== 'directory') return exchange.problem(404, 'there is no such file');
  const path = names.map((name) => `${encodeURIComponent(name)}/`).join('');
  if (!directory) return exchange.problem(301, 'directories end in a slash', { Location: `/${path}` });
  const index = await site.find([...names, INDEX]);
  if (index?.kind === 'file') return exchange.file(index);
  const shown = names.map((name) => `${name}/`).join('');
  return exchange.page(200, listingPage(`/${shown}`, await found.list()));
}

/** [RFC 9112 §3.2] */
function hostProblem({ httpVersionMinor, rawHeaders }: IncomingMessage): string | undefined {
  const hosts = rawHeaders.filter((name, n) => n % 2 === 0 && name.toLowerCase() === 'host').length;
  if (hosts > 1) return 'there must be one Host';
  return hosts === 0 && httpVersionMinor > 0 ? 'there must be a Host' : undefined;
}

class Exchange {
  readonly request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #answer: Answer;

  constructor(request: IncomingMessage, response: ServerResponse, answer: Answer) {
    this.request = request;
    this.#response = response;
    this.#answer = answer;
  }

  async file(file: SiteFile): Promise<void> {
    const { headers, method } = this.request;
    const { size } = file;
    const validators = validatorsOf(file);
    const common: OutgoingHttpHeaders = { 'Accept-Ranges': 'bytes' };
    if (validators.etag !== undefined) common.ETag = validators.etag;
    if (validators.modified !== undefined)
      common['Last-Modified'] = new Date(validators.modified).toUTCString();
    if (isOtherVersion(headers, validators))
      return this.problem(412, 'this is another version than the one that was asked for');
    if (isNotModified(headers, validators)) return this.#send(304, common);
    const range = method === 'GET' ? requestedRange(headers, size, validators) : undefined;
    if (range === 'unsatisfiable') {
      return this.problem(416, `the range must lie inside ${size} bytes`, {
        'Content-Range': `bytes */${size}`,
      });
    }
    const { start, end }: Range = range ?? { start: 0, end: size };
    if (range !== undefined) common['Content-Range'] = `bytes ${start}-${end - 1}/${size}`;
    const status = range === undefined ? 200 : 206;
    return this.#send(
      status,
      { ...common, 'Content-Type': mediaType(file.name), 'Content-Length': end - start },
      file.read(start, end),
    );
  }

  page(status: number, html: string, headers: OutgoingHttpHeaders = {}): Promise<void> {
    const body = Buffer.from(html);
    const all = { ...headers, 'Content-Type': 'text/html; charset=utf-8', 'Content-Length': body.length };
    return this.#send(status, all, [body]);
  }

  /** A page that says what is wrong. */
  problem(status: number, reason: string, headers: OutgoingHttpHeaders = {}): Promise<void> {
    const title = `${status} ${STATUS_CODES[status]}`;
    if (status >= 400) this.#answer.reason = reason;
    const text = `<!DOCTYPE html>\n<title>${title}</title>\n<h1>${title}</h1>\n<p>${escapeHtml(reason)}</p>\n`;
    return this.page(status, text, headers);
  }

  async #send(
    status: number,
    headers: OutgoingHttpHeaders,
    body?: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const response = this.#response;
    const answer = this.#answer;
    answer.status = status;
    // Node reads no further request behind one that asks for another protocol.
    if (this.request.headers.upgrade !== undefined) response.setHeader('Connection', 'close');
    response.writeHead(status, headers);
    if (body === undefined || this.request.method === 'HEAD') {
      response.end();
      return;
    }
    await pipeline(Readable.from(counted(body, answer)), response);
  }
}

async function* counted(
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  answer: Answer,
): AsyncGenerator<Uint8Array> {
  for await (const bytes of body) {
    yield bytes;
    answer.bytes += bytes.length;
  }
}
