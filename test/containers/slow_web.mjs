// A web server for tests in the image: /bytes/SIZE as l4lab's own, the first quarter as fast as it can, then at RATE
// bytes a second, so that there is time to break something; the last quarter is kept back. Prints a line when a
// download has passed the first. From SIGUSR2 on, and until SIGUSR1, everything goes as fast as it can.
//
//     node slow_web.mjs PORT RATE
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileBlocks } from '/opt/l4lab/dist/services/web/site.js';

const [port, rate] = process.argv.slice(2).map(Number);
const FOR_EVER = 2 ** 31 - 1;

let hurry = new AbortController();
process.on('SIGUSR1', () => {
  if (hurry.signal.aborted) hurry = new AbortController();
});
process.on('SIGUSR2', () => hurry.abort());

async function* slowly(size) {
  let start;
  let sent = 0;
  for (const block of fileBlocks(size)) {
    yield block;
    sent += block.length;
    if (sent < size / 4) continue;
    if (start === undefined) console.log(`quarter of ${size}`);
    start ??= performance.now();
    const kept = sent >= (size / 4) * 3;
    const early = kept ? FOR_EVER : start + ((sent - size / 4) / rate) * 1000 - performance.now();
    if (early > 5) await sleep(early, undefined, hurry).catch(() => {});
  }
}

/** As every component does, for the health check. */
function serving() {
  writeFileSync(process.env.L4LAB_HEALTH_FILE, 'ready\n');
}

createServer((request, response) => {
  const size = Number(/^\/bytes\/(\d+)$/.exec(request.url)?.[1] ?? 0);
  response.setHeader('Content-Length', size);
  Readable.from(slowly(size))
    .on('error', () => {})
    .pipe(response);
}).listen(port, '0.0.0.0', () => {
  serving();
  setInterval(serving, 2000);
});
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
