// A web server for tests in the image: /bytes/SIZE as l4lab's own, at RATE bytes a second, so that there is time
// to break something; from SIGUSR2 on as fast as it can. Prints a line when a download has passed a quarter of its size.
//
//     node slow_web.mjs PORT RATE
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileBlocks } from '/opt/l4lab/dist/services/web/site.js';

const [port, rate] = process.argv.slice(2).map(Number);

const hurry = new AbortController();
process.on('SIGUSR2', () => hurry.abort());

async function* slowly(size) {
  const start = performance.now();
  let sent = 0;
  for (const block of fileBlocks(size)) {
    yield block;
    const quarter = sent < size / 4;
    sent += block.length;
    if (quarter && sent >= size / 4) console.log(`quarter of ${size}`);
    const early = start + (sent / rate) * 1000 - performance.now();
    if (early > 5 && !hurry.signal.aborted) await sleep(early, undefined, hurry).catch(() => {});
  }
}

createServer((request, response) => {
  const size = Number(/^\/bytes\/(\d+)$/.exec(request.url)?.[1] ?? 0);
  response.setHeader('Content-Length', size);
  Readable.from(slowly(size))
    .on('error', () => {})
    .pipe(response);
}).listen(port, '0.0.0.0', () => writeFileSync(process.env.L4LAB_HEALTH_FILE, 'ready\n'));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
