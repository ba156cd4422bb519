/** Misdeeds of a process of the same user: with captures and control calls, and with datagrams for a tunnel. */
import { createSocket } from 'node:dgram';
import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { findPublished } from '#common/control/publication';
import type { Ipc } from '#common/ipc/ipc';
import type { Arena } from '#common/shm/arena';
import type { SharedMemories } from '#common/shm/dataspace';
import type { Doorbells } from '#common/shm/doorbell';
import { Lifeline } from '#common/shm/lifeline';
import { randomName } from '#common/shm/run_dir';
import type { Random } from '#common/testing/random';
import { SwitchControl } from '../../proto/gen/services.js';
import { evilDatagram } from './evil_datagrams.ts';
import { TUNNEL } from './switch_process.ts';

const FLOOD_MS = 1500;
const FLOOD_AT_A_TIME = 200;

export interface ControlDeedEnv {
  readonly runDir: string;
  readonly ipc: Ipc;
  readonly arena: Arena;
  readonly shared: SharedMemories;
  readonly doorbells: Doorbells;
  readonly random: Random;
  readonly tunnelPort: number;
}

function control({ runDir, ipc }: ControlDeedEnv) {
  const [found] = findPublished(runDir, 'switch');
  if (!found) throw new Error('no switch is published');
  return ipc.client(SwitchControl, found.capability);
}

/** Readers that lie, vanish, take the FIFO or the ring away, or never read; the last of them die with the process. */
async function capture(env: ControlDeedEnv): Promise<void> {
  const { runDir, arena, shared, doorbells, random } = env;
  const lan = control(env);
  for (let n = 0; n < 150; n++) {
    const lifeline = randomName();
    const life = new Lifeline(runDir, lifeline);
    const bell = doorbells.create();
    const ask = {
      ports: ['[0]', '[1]'],
      lifeline,
      doorbell: bell.name,
      snapLength: random.pick([0, 14, 1, 60]),
    };
    if (n % 7 === 0) rmSync(join(runDir, 'b', lifeline));
    if (n % 11 === 0) bell.close();
    const reply = await lan
      .capture(n % 5 === 0 ? { ...ask, doorbell: lifeline } : ask)
      .catch(() => undefined);
    if (reply?.ring && n % 3 === 0) {
      const ring = shared.open(reply.ring);
      for (let lies = 0; lies < 5000; lies++)
        arena.u32[(ring.offset >>> 2) + random.below(64)] = random.u32();
      ring.close();
    }
    if (reply?.ring && n % 4 === 0) truncateSync(join(runDir, 'm', reply.ring.name ?? ''), 0);
    if (n % 2 === 0 && n < 100) life.close();
  }
}

/** Calls with anything in them; ports that come of it go again. */
async function calls(env: ControlDeedEnv): Promise<void> {
  const { random } = env;
  const lan = control(env);
  const words = [
    'name=x',
    'type=vxlan',
    'vni=1',
    'remote=127.0.0.9',
    'vlan=access=7',
    'type=mirror',
    'mirror=[0]',
  ];
  for (let n = 0; n < 300; n++) {
    const text = () =>
      Buffer.from(Array.from({ length: random.below(300) }, () => random.below(256))).toString('latin1');
    const args = Array.from({ length: random.below(6) }, () =>
      random.oneIn(3) ? text() : random.pick(words as [string]),
    );
    const program = random.oneIn(4) ? { argv: [text()], environment: { [text()]: text() } } : undefined;
    const made = await lan.addPort({ arguments: args, ...(program && { program }) }).catch(() => undefined);
    await lan.setLink({ port: text(), up: random.oneIn(2) }).catch(() => {});
    await lan
      .runOnPort({ port: made ? String(made.number) : text(), program: { argv: [text()] } })
      .catch(() => {});
    await lan.stats({});
    if (made) await lan.removePort({ port: String(made.number) });
  }
}

/** Datagrams of anybody but the tunnel's remote, as many as go out, and some of that one with other ids. */
async function flood({ random, tunnelPort }: ControlDeedEnv): Promise<void> {
  const [stranger, remote] = [createSocket('udp4'), createSocket('udp4')];
  await new Promise<void>((done) => stranger.bind(0, TUNNEL.stranger, done));
  await new Promise<void>((done) => remote.bind(0, TUNNEL.remote, done));
  const end = performance.now() + FLOOD_MS;
  while (performance.now() < end) {
    for (let n = 0; n < FLOOD_AT_A_TIME; n++) {
      const datagram = evilDatagram(random);
      const from = n % 4 === 0 && datagram.length > 8 ? remote : stranger;
      if (from === remote) datagram.writeUIntBE(TUNNEL.vni + 1 + random.below(1000), 4, 3);
      from.send(datagram, tunnelPort, TUNNEL.local, () => {});
    }
    await new Promise((done) => setImmediate(done));
  }
  stranger.close();
  remote.close();
}

export const CONTROL_DEEDS: Readonly<Record<string, (env: ControlDeedEnv) => Promise<void>>> = {
  capture,
  calls,
  flood,
};
