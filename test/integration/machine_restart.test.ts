/** What applications hear about their connections when the machine is killed and started again. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ExternalLab, SCALING, SERVERS } from './external_lab.ts';
import { ROOT } from './harness.ts';

/**
 * Connects with keep-alive, receives and never sends; prints what it hears. A probe that is lost because the machine is
 * still away is followed by the next one after 75 s: the test may take that long, and more on a busy machine.
 */
const RECEIVER = `import { openNetwork } from ${JSON.stringify(join(ROOT, 'dist/services/lwip/index.js'))};
export async function main(env) {
  const network = await openNetwork(env);
  const { code } = await new Promise((resolve) => {
    const socket = network.connect({ host: "10.0.2.100", port: 80, keepAlive: true, keepAliveInitialDelay: 5000 });
    socket.on("data", (data) => console.log("received", String(data)));
    socket.on("error", resolve);
  });
  console.log("ended with", code);
  await network.close();
  return 0;
}`;

let lab: ExternalLab;
let greeter: Server;

beforeEach(async () => {
  greeter = createServer((socket) => {
    socket.on('error', () => {});
    socket.write('hello');
  });
  await new Promise<void>((resolve) => greeter.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  await lab[Symbol.asyncDispose]();
  greeter.close();
});

it('a receiver with keep-alive is told by the next machine that its connection is gone', async () => {
  const script = SCALING.replace(/"rom\/curl [^"]*"/, '"rom/receiver.mjs"');
  lab = await ExternalLab.start(script, (greeter.address() as AddressInfo).port);
  lab.bed.file('receiver.mjs', RECEIVER);
  lab.startBroker();
  lab.supervise(...SERVERS);
  await lab.ready('ned', ...SERVERS);
  const receiver = lab.component('receiver.mjs');
  await receiver.saw(/received hello/);
  await lab.kill('machine');
  await receiver.saw(/ended with ECONNRESET/);
  expect(await receiver.exit).toBe(0);
}, 300_000);
