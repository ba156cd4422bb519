// More connections that only begin than a server can have: clients that mean it are served all the same.
import net from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MAX_HALF_OPEN } from './active_pcbs.ts';
import { TCP_PCB, TCP_STATE } from './layout.ts';
import { Server } from './server.ts';
import type { Socket } from './socket.ts';
import { event, type TestHost, testHost } from './testing/host.ts';
import { segmentFrame, TCP_FLAG } from './testing/segment.ts';

const { SYN, FIN } = TCP_FLAG;
const STRANGER = Uint8Array.of(2, 0, 0, 0, 0, 0x77);
const PORT = 8080;
const ROUNDS = 8;
/** SYNs between two clients that mean it. */
const BURST = 1024;
/** lwIP gives a handshake up after 20 s, of 250 ms each. */
const TICKS = 100;

let host: TestHost;
let server: Server;
let toServer: number;

beforeAll(async () => {
  host = testHost();
  server = new Server(host, {}, (socket: Socket) => socket.on('error', () => {}).pipe(socket)).listen(PORT);
  await event(server, 'listening');
  toServer = host.slirp.forward(PORT);
});

beforeEach(() => {
  const { u8 } = host.stack.memory;
  // Nobody is there who would refuse what lwIP answers to strangers.
  host.slirp.lose = (direction, at) => direction === 'tx' && u8[at + 5] === STRANGER[5];
});

afterEach(() => {
  for (let n = 0; n < TICKS; n++) host.stack.ffi.tcp_tmr();
  host.slirp.lose = undefined;
});

afterAll(() => {
  server.close();
  host[Symbol.dispose]();
});

/** States of all connections that lwIP has. */
function states(): number[] {
  const { ffi } = host.stack;
  const found: number[] = [];
  const head = new DataView(ffi.view(ffi.symbol('tcp_active_pcbs'), 8));
  for (let pcb = Number(head.getBigUint64(0, true)); pcb !== 0; ) {
    const view = new DataView(ffi.view(pcb, TCP_PCB.SIZE));
    found.push(view.getUint32(TCP_PCB.STATE, true));
    pcb = Number(view.getBigUint64(TCP_PCB.NEXT, true));
  }
  return found;
}

/** Segments of connections that nobody goes on with, each from another port or address. */
async function flood(from: number, flags: number): Promise<void> {
  const { netif, slirp } = host;
  for (let n = from; n < from + BURST; n++) {
    const [fromIp, fromPort] = [0x0a000240 + (n >> 12), 1024 + (n & 0xfff)];
    const ends = { fromMac: STRANGER, toMac: netif.mac, fromIp, fromPort, toIp: netif.ip, toPort: PORT };
    slirp.inject(segmentFrame({ ...ends, flags }));
    if (n % 64 === 63) await new Promise(setImmediate);
  }
}

async function echo(text: string): Promise<string> {
  const client = net.connect(toServer, '127.0.0.1');
  client.end(text);
  let got = '';
  for await (const chunk of client) got += chunk;
  return got;
}

describe('a SYN flood', () => {
  it.each([
    ['SYN', SYN, MAX_HALF_OPEN + 128],
    // lwIP takes it for a SYN, too.
    ['SYN and FIN', SYN | FIN, MAX_HALF_OPEN + 4096],
  ])(
    'of %s leaves a bounded number behind, clients are served, connections stay',
    async (_what, flags, most) => {
      const old = net.connect(toServer, '127.0.0.1');
      old.write('before');
      expect(String(await event(old, 'data'))).toBe('before');
      for (let round = 0; round < ROUNDS; round++) {
        await flood(round * BURST, flags);
        expect(await echo(`round ${round}`)).toBe(`round ${round}`);
      }
      const halfOpen = states().filter((state) => state === TCP_STATE.SYN_RCVD).length;
      expect(halfOpen).toBeGreaterThanOrEqual(MAX_HALF_OPEN - 1);
      expect(halfOpen).toBeLessThanOrEqual(most);
      old.write('behind');
      expect(String(await event(old, 'data'))).toBe('behind');
      old.destroy();
    },
  );
});
