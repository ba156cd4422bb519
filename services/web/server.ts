/** The local web server of the labs, tests and benchmarks. Listens on loopback unless told otherwise. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { directoryPage, fileBlocks } from './site.ts';

const MAX_FILE_BYTES = 2 ** 40;

export interface Web {
  readonly host: string;
  readonly port: number;
  /** Requests answered so far. */
  readonly requests: () => number;
  close(): Promise<void>;
}

/** Starts it; port 0 takes a free one. */
export async function startWeb(options: { host?: string; port?: number } = {}): Promise<Web> {
  const host = options.host ?? '127.0.0.1';
  let requests = 0;
  const server: Server = createServer((request, response) => {
    requests += 1;
    void answer(request, response);
  });
  server.listen(options.port ?? 0, host);
  await once(server, 'listening');
  return {
    host,
    port: (server.address() as AddressInfo).port,
    requests: () => requests,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = pathOf(request);
  const size = /^\/bytes\/(\d{1,13})$/.exec(path ?? '')?.[1];
  if (path === undefined) {
    response.writeHead(400).end();
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { Allow: 'GET, HEAD' }).end();
  } else if (size !== undefined && Number(size) <= MAX_FILE_BYTES) {
    response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': size });
    if (request.method === 'HEAD') response.end();
    // The reader may go away at any time; that is its right.
    else await pipeline(Readable.from(fileBlocks(Number(size))), response).catch(() => {});
  } else if (path.endsWith('/')) {
    const page = directoryPage(path);
    response.writeHead(200, {
      'Content-Type': 'text/html;charset=UTF-8',
      'Content-Length': Buffer.byteLength(page),
    });
    response.end(request.method === 'HEAD' ? undefined : page);
  } else {
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('404 Not Found\n');
  }
}

/** Percent-encoded where HTML wants it; undefined when the target has no path. `//` is a path here, not a host. */
function pathOf({ url = '/' }: IncomingMessage): string | undefined {
  const absolute = url.startsWith('/') ? `http://web${url}` : url;
  return URL.canParse(absolute) ? new URL(absolute).pathname : undefined;
}
