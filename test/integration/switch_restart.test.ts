/** A switch that is killed during downloads and started again: its clients keep ports, addresses and TCP connections. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hashOfFile, WebServer } from './download_lab.ts';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';
import type { Run } from './harness.ts';

const MIB = 2 ** 20;
const SIZE = 96 * MIB;

/** Stands before the web server and counts the connections that it gets. */
class Counter {
  connections = 0;
  readonly #server: Server;

  constructor(port: number) {
    this.#server = createServer((socket) => {
      this.connections += 1;
      const far = connect(port, '127.0.0.1');
      socket.on('error', () => far.destroy());
      far.on('error', () => socket.destroy());
      socket.pipe(far).pipe(socket);
    });
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }
}

let web: WebServer;
let hash: string;
beforeAll(async () => {
  web = await WebServer.start();
  hash = await hashOfFile(SIZE);
});
afterAll(() => web.close());

/** Resolves when a run has printed so many bytes on stdout; rejects when it ends before. */
async function printed(run: Run, bytes: number): Promise<void> {
  const stdout = run.child.stdout as NodeJS.ReadableStream;
  while (run.stdout.length < bytes) {
    if (run.child.exitCode !== null)
      throw new Error(`ended after ${run.stdout.length} bytes:\n${run.stderr}`);
    await Promise.race([once(stdout, 'data'), run.exit]);
  }
}

function sha256(run: Run): string {
  return createHash('sha256').update(run.stdout).digest('hex');
}

const DOWNLOAD = SCALING.replace(
  'http://ftp.de.debian.org/debian/',
  `http://ftp.de.debian.org/bytes/${SIZE}`,
);

describe('kill -9 of the switch with components that are started again', () => {
  let lab: ExternalLab;
  let counter: Counter;
  afterEach(async () => {
    counter.close();
    await lab[Symbol.asyncDispose]();
  });

  it('three times in a download: the same curl, one connection, the right bytes', async () => {
    counter = new Counter(web.port);
    lab = await ExternalLab.start(DOWNLOAD, await counter.listen());
    lab.startBroker();
    lab.supervise(...SERVERS);
    await lab.ready('ned', ...SERVERS);
    const curl = lab.component('curl');
    for (let kill = 1; kill <= 3; kill++) {
      await printed(curl, curl.stdout.length + 8 * MIB);
      await lab.kill('l4vio_switch');
      await printed(curl, curl.stdout.length + MIB);
    }
    expect(await curl.exit, curl.stderr).toBe(0);
    expect([curl.stdout.length, sha256(curl)]).toEqual([SIZE, hash]);
    expect(counter.connections).toBe(1);
    expect(curl.stderr.match(/virtnet is back after \d+ ms/g)).toHaveLength(3);
    expect((await lab.end()).files).toEqual([]);
  }, 120_000);
});
