/** A download that only receives, when the machine is killed and started again: curl's keep-alive notices. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';

/** Fewer bytes than it promises. */
const BEGINNING = 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning\n';

let lab: ExternalLab;
let server: Server;

beforeEach(async () => {
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(BEGINNING));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  await lab[Symbol.asyncDispose]();
  server.close();
});

it('curl ends with 56 when the machine that knew its connection is gone', async () => {
  // A probe that finds nobody says nothing: it is the answer of the next machine that ends curl, whenever that is up.
  const probes = '--keepalive-time 2 --keepalive-cnt 100';
  const script = SCALING.replace(/"rom\/curl [^"]*"/, `"rom/curl -sS ${probes} http://10.0.2.100/"`);
  lab = await ExternalLab.start(script, (server.address() as AddressInfo).port);
  lab.startBroker();
  lab.supervise(...SERVERS);
  await lab.ready('ned', ...SERVERS);
  const curl = lab.component('curl');
  await curl.saw(/the beginning/);
  await lab.kill('machine');
  expect(await curl.exit).toBe(56);
  await curl.saw(/curl: \(56\) Recv failure: Connection reset by peer/);
});
