import { MessageChannel, Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { BlockingHost } from './bridge.ts';

/** The other thread: wakes the caller without a reply, as the notify of the reply before may do, then answers. */
const ANSWERER = `
const { port, replies } = require('node:worker_threads').workerData;
port.on('message', ({ args }) => {
  for (let n = 0; n < 20; n++) {
    Atomics.notify(replies, 0);
    const until = performance.now() + 0.05;
    while (performance.now() < until);
  }
  port.postMessage(args);
  Atomics.add(replies, 0, 1);
  Atomics.notify(replies, 0);
});
`;

it('BlockingHost.call() waits for its own reply, whoever else wakes it', async () => {
  const { port1, port2 } = new MessageChannel();
  const replies = new Int32Array(new SharedArrayBuffer(4));
  const answerer = new Worker(ANSWERER, {
    eval: true,
    workerData: { port: port2, replies },
    transferList: [port2],
  });
  const host = new BlockingHost(port1, replies);
  for (let n = 0; n < 50; n++) expect(host.call('echo', [n])).toEqual([n]);
  await answerer.terminate();
  port1.close();
});
