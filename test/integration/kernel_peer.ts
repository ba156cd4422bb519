/**
 * A Linux TCP stack in a network of its own, for `kernel_offload.test.ts`: over the interface that is moved in it sends
 * and receives at once.
 *
 * argv: interface, own address with prefix length, far address, family 4 or 6, `serve` or `connect`, MiB, seed. Waits for
 * a line on stdin, says "ready" on stdout when it listens, and at the end a line of JSON, a PeerReport.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';

export interface PeerReport {
  /** Hashes of what was sent and of what came. */
  readonly sent: string;
  readonly received: string;
  /** TCP segments that came with a wrong checksum. */
  readonly badChecksums: number;
}

const [device, own, far, family, role, mebibytes, seed] = process.argv.slice(2) as string[];
const PORT = 5001;
const CHUNK = 2 ** 20;

function chunk(n: number): Buffer {
  const bytes = Buffer.alloc(CHUNK);
  for (let i = 0; i < CHUNK; i += 4)
    bytes.writeUInt32LE((Math.imul(i + n, 2654435761) ^ Number(seed)) >>> 0, i);
  return bytes;
}

function badChecksums(): number {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  return Number(values?.[names?.indexOf('InCsumErrors') ?? -1]);
}

async function exchange(socket: Socket): Promise<void> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')];
  socket.on('data', (bytes) => received.update(bytes));
  const ended = once(socket, 'end');
  for (let n = 0; n < Number(mebibytes); n++) {
    const bytes = chunk(n);
    sent.update(bytes);
    if (!socket.write(bytes)) await once(socket, 'drain');
  }
  socket.end();
  await ended;
  const report: PeerReport = {
    sent: sent.digest('hex'),
    received: received.digest('hex'),
    badChecksums: badChecksums(),
  };
  console.log(JSON.stringify(report));
}

process.stdin.once('data', async () => {
  process.stdin.destroy();
  const ip = (...args: string[]) => execFileSync('ip', args);
  ip('addr', 'add', String(own), 'dev', String(device), ...(family === '6' ? ['nodad'] : []));
  ip('link', 'set', String(device), 'up');
  if (role === 'connect') {
    const socket = connect({ port: PORT, host: String(far), allowHalfOpen: true });
    await once(socket, 'connect');
    await exchange(socket);
  } else {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      server.close();
      void exchange(socket);
    });
    server.listen(PORT, String(own).split('/')[0], () => console.log('ready'));
  }
});
