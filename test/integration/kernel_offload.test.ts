/** Offloads of the ports against those who know best: two Linux TCP stacks, each behind a tap with virtio-net headers. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import * as f from '../../services/common/virtio/features.ts';
import type { BridgeOptions, BridgeReport } from './kernel_bridge.ts';
import type { PeerReport } from './kernel_peer.ts';

const MIB = 6;
const TUN_F_CSUM = 1;
const TUN_F_ALL = TUN_F_CSUM | 2 | 4 | 8; // TSO4, TSO6, ECN
const HOST = [f.NET_F_CSUM, f.NET_F_HOST_TSO4, f.NET_F_HOST_TSO6, f.NET_F_HOST_ECN];
const GUEST = [f.NET_F_GUEST_CSUM, f.NET_F_GUEST_TSO4, f.NET_F_GUEST_TSO6, f.NET_F_GUEST_ECN];

const children: ChildProcess[] = [];

/** A program of this folder in a new network, and the lines it writes. */
class Inside {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string, ...args: string[]) {
    const path = fileURLToPath(new URL(program, import.meta.url));
    const node = [process.execPath, '--conditions=source', '--import', 'tsx', path, ...args];
    this.child = spawn('unshare', ['-n', ...node], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(this.child);
    this.#lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream })[
      Symbol.asyncIterator
    ]();
  }

  say(line: string | number): void {
    this.child.stdin?.write(`${line}\n`);
  }

  async line(): Promise<string> {
    return (await this.#lines.next()).value ?? '';
  }
}

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

async function transfer(options: BridgeOptions, ipv6: boolean) {
  const [a, b] = ipv6 ? ['fd00::1', 'fd00::2'] : ['10.9.0.1', '10.9.0.2'];
  const [prefix, family] = ipv6 ? ['/64', '6'] : ['/24', '4'];
  const bridge = new Inside('./kernel_bridge.ts', JSON.stringify(options));
  const peers = [
    new Inside('./kernel_peer.ts', 'tapA', a + prefix, b, family, 'serve', String(MIB), '1'),
    new Inside('./kernel_peer.ts', 'tapB', b + prefix, a, family, 'connect', String(MIB), '2'),
  ] as const;
  for (const peer of peers) {
    bridge.say(Number(peer.child.pid));
    expect(await bridge.line()).toBe('moved');
  }
  peers[0].say('go');
  expect(await peers[0].line()).toBe('ready');
  peers[1].say('go');
  const reports = await Promise.all(peers.map(async (peer) => JSON.parse(await peer.line()) as PeerReport));
  bridge.child.stdin?.end();
  return { reports, bridge: JSON.parse(await bridge.line()) as BridgeReport };
}

const refusal = tapRefusal();
if (refusal !== undefined) console.warn(`Skipped offloads against the Linux kernel: ${refusal}`);

const CASES: readonly [string, readonly number[], number][] = [
  ['segments for one that takes none', HOST, TUN_F_ALL],
  ['segments for one that completes checksums', [...HOST, f.NET_F_GUEST_CSUM], TUN_F_ALL],
  ['segments as they are', [...HOST, ...GUEST], TUN_F_ALL],
  ['segments as they are, in several buffers', [...HOST, ...GUEST, f.NET_F_MRG_RXBUF], TUN_F_ALL],
  ['checksums', [f.NET_F_CSUM], TUN_F_CSUM],
];

const noIpv6 = refusal ?? refused('addr', 'add', 'fd00::1/64', 'dev', 'lo');
if (noIpv6 !== undefined && refusal === undefined) console.warn(`Skipped offloads over IPv6: ${noIpv6}`);
const VERSIONS = noIpv6 === undefined ? [false, true] : [false];

it
  .skipIf(refusal !== undefined)
  .each(CASES.flatMap((one) => VERSIONS.map((ipv6) => [...one, ipv6] as const)))(
  'Linux talks to Linux through two ports, %s (features %j, tun %i, IPv6 %s)',
  async (_name, features, offloads, ipv6) => {
    const { reports, bridge } = await transfer({ features, offloads }, ipv6);
    const [a, b] = reports as [PeerReport, PeerReport];
    expect([a.received, b.received]).toEqual([b.sent, a.sent]);
    expect([a.badChecksums, b.badChecksums, bridge.refused]).toEqual([0, 0, []]);
    const takes = (bit: number) => features.includes(bit);
    expect(bridge.gsoIn > 0).toBe(takes(f.NET_F_HOST_TSO4));
    expect(bridge.csumIn).toBeGreaterThan(0);
    expect(bridge.gsoOut > 0).toBe(takes(f.NET_F_GUEST_TSO4));
    expect(bridge.csumOut > 0).toBe(takes(f.NET_F_GUEST_CSUM));
  },
  300_000,
);

function tapRefusal(): string | undefined {
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun';
  return refused('tuntap', 'add', 'dev', 'x', 'mode', 'tap');
}

/** Why `ip` does not do that in a network of its own. */
function refused(...words: string[]): string | undefined {
  const { status, stderr, error } = spawnSync('unshare', ['-n', 'ip', ...words], { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}
