/** VXLAN ports of a whole switch, and a far end made of plain sockets. */
import { readFileSync } from 'node:fs';
import type { networkInterfaces } from 'node:os';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { NetClient, TestTask } from '#common/testing/net_client';
import { openFiles } from '#common/testing/open_files';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { type HeldPort, holdUdpPort } from '#common/testing/udp_port';
import { parseIp } from '#common/udp/address';
import { writeSockaddr } from '#common/udp/sockaddr';
import { UdpSocket } from '#common/udp/socket';
import { ethernet } from '#common/vnet/testing/mock_client';
import { Factory } from '../../../proto/gen/services.js';
import { factoryHandlers } from '../factory.ts';
import { type PortSpec, parseTunnelArguments } from '../factory_args.ts';
import { Log, uniformLevels } from '../log.ts';
import { StatisticsReaders } from '../statistics_reader.ts';
import { Switch } from '../switch.ts';
import { sendersOf } from './host.ts';

let dir: TestRunDir;
let task: TestTask;
let lan: Switch;
let lines: string[];
const sockets: UdpSocket[] = [];
let held: HeldPort;
/** The UDP port of all ends. */
let udpPort: number;

beforeAll(async () => {
  held = await holdUdpPort();
  udpPort = held.port;
});
afterAll(() => held.free());

beforeEach(() => {
  dir = testRunDir();
  task = new TestTask(dir.path, 's');
  lines = [];
  const say = (line: string) => lines.push(line);
  const log = new Log({ out: say, err: say }, uniformLevels(3));
  lan = new Switch(task, { ports: 4, queueSize: 64, assignMacs: true, log });
  lan.start();
});
afterEach(() => {
  lan.close();
  for (const socket of sockets.splice(0)) socket.close();
  task.close();
  dir[Symbol.dispose]();
});

type TunnelSpec = PortSpec & Required<Pick<PortSpec, 'vxlan'>>;
const tunnel = (...words: string[]) => lan.createTunnel(parseTunnelArguments(words) as TunnelSpec);

/** The far end at an address of 127.0.0.0/8. */
class Far {
  readonly #socket: UdpSocket;
  readonly #to = task.arena.mapPrivate(64);

  constructor(address: string) {
    this.#socket = new UdpSocket(task.arena, {
      family: 4,
      address: parseIp(address) as Uint8Array,
      port: udpPort,
    });
    sockets.push(this.#socket);
    writeSockaddr(task.arena, this.#to, parseIp('127.30.0.1') as Uint8Array, udpPort);
  }

  send(vni: number, frame: Uint8Array): void {
    const slot = this.#socket.slot();
    task.arena.u8.set([8, 0, 0, 0, 0, 0, vni, 0, ...frame], slot);
    this.#socket.send(slot, frame.length + 8, this.#to);
    this.#socket.flush();
  }

  /** Frames that have come by now. */
  received(): Uint8Array[] {
    const count = this.#socket.receive(32);
    return Array.from({ length: count }, (_, n) => {
      const at = this.#socket.offset(n);
      return task.arena.u8.slice(at + 8, at + this.#socket.length(n));
    });
  }
}

async function client(): Promise<NetClient> {
  const end = createGate();
  const gate = await task.ipc.serve(end);
  gate.setRoot([
    bind(
      Factory,
      factoryHandlers(gate, lan, new StatisticsReaders(lan, task.memories), new Log({ out() {}, err() {} })),
    ),
  ]);
  const { object } = await task.ipc.client(Factory, rootCapability(end)).create({ type: 0, arguments: [] });
  return await NetClient.open(task, object as Capability);
}

/** Inodes of the UDP sockets of this process; other descriptors come and go by themselves. */
function udpSockets(): string[] {
  const lines = readFileSync('/proc/self/net/udp', 'latin1').trim().split('\n').slice(1);
  const all = new Set(lines.map((line) => line.trim().split(/\s+/)[9]));
  const own = openFiles('socket:').map((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1]);
  return own.filter((inode) => inode !== undefined && all.has(inode)).sort() as string[];
}

describe('Tunnels', () => {
  it('forgets where stations are when the link of the port goes down', async () => {
    const port = tunnel(
      'vni=42',
      'local=127.30.0.1',
      `port=${udpPort}`,
      ...[2, 3].map((n) => `remote=127.30.0.${n}:${udpPort}`),
    );
    const [two, three] = [new Far('127.30.0.2'), new Far('127.30.0.3')];
    const station = await client();
    const [hello, answer] = [ethernet(-1, 20), ethernet(20, 1)];
    two.send(42, hello);
    await expect.poll(() => station.received).toEqual([hello]);
    station.send(answer);
    await expect.poll(() => two.received()).toEqual([answer]);
    expect(three.received()).toEqual([]);
    lan.setLink(port.number, false);
    lan.setLink(port.number, true);
    station.send(answer);
    await expect.poll(() => two.received()).toEqual([answer]);
    await expect.poll(() => three.received()).toEqual([answer]);
    await station.driver.close();
  });

  it('says, once in a while, that datagrams belong to no port', async () => {
    tunnel('vni=42', 'local=127.30.0.1', `port=${udpPort}`, `remote=127.30.0.2:${udpPort}`);
    const far = new Far('127.30.0.2');
    for (let n = 0; n < 50; n++) far.send(43, ethernet(-1, 20));
    const warnings = () => lines.filter((line) => line.includes('Dropped'));
    await expect.poll(warnings).not.toEqual([]);
    expect(warnings()[0]).toBe(
      `SWI[port]: Dropped 1 datagrams to 127.30.0.1:${udpPort} so far; the last, from 127.30.0.2, had VXLAN id 43, which no port has`,
    );
    expect(warnings().length).toBeLessThan(5);
  });

  it('leaves neither port, socket nor memory when one cannot be opened', () => {
    const before = udpSockets();
    const first = tunnel('vni=1', 'remote=127.0.0.2', 'local=127.30.0.1', `port=${udpPort}`);
    const open = udpSockets();
    for (let n = 0; n < 3; n++) {
      expect(() => tunnel('vni=1', 'remote=127.0.0.2', 'local=127.30.0.1', `port=${udpPort}`)).toThrow(
        expect.objectContaining({ code: 'VSWITCH_VXLAN', errno: 17 }),
      );
      expect(() => tunnel('vni=2', 'remote=127.0.0.2', `port=${udpPort}`)).toThrow(
        new RegExp(`at 0\\.0\\.0\\.0:${udpPort} \\(bind: EADDRINUSE\\): another program, another VXLAN port`),
      );
      expect(() => tunnel('vni=2', 'group=239.1.1.1', 'dev=lo0', `port=${udpPort}`)).toThrow(
        'interface "lo0" must be up',
      );
    }
    expect(lan.ports.all()).toEqual([first]);
    expect(udpSockets()).toEqual(open);
    lan.removePort(first.number);
    expect(udpSockets()).toEqual(before);
  });

  it('ports with groups share a socket that is in all of them, and leave them with the last port', async () => {
    // They listen at all addresses: the port is theirs alone.
    const { port, free } = await holdUdpPort();
    free();
    const before = udpSockets();
    const on = ['dev=lo', 'allow=127.0.0.0/8', `port=${port}`];
    const ports = [1, 2, 3].map((vni) => tunnel(`vni=${vni}`, `group=239.1.1.${vni === 3 ? 1 : vni}`, ...on));
    expect(udpSockets()).toHaveLength(before.length + 5);
    for (const { number } of ports) lan.removePort(number);
    expect(udpSockets()).toEqual(before);
    // Groups of a host are limited; what fails then leaves nothing.
    expect(lan.ports.all()).toEqual([]);
  });
});

describe('sendersOf()', () => {
  const group = { address: parseIp('239.1.1.1') as Uint8Array, ttl: 1, allow: [] };
  const facts = { netmask: '', mac: '', internal: false };

  it('takes the networks of the interface, and its addresses as our own', () => {
    const eth0 = [
      { ...facts, family: 'IPv4', address: '192.0.2.5', cidr: '192.0.2.5/24' },
      { ...facts, family: 'IPv6', address: 'fe80::5', cidr: 'fe80::5/64', scopeid: 2 },
    ] as NonNullable<ReturnType<typeof networkInterfaces>[string]>;
    expect(sendersOf({ family: 4, group, device: 'eth0' }, { eth0 })).toEqual({
      networks: [{ address: parseIp('192.0.2.5'), bits: 24 }],
      own: [{ address: parseIp('192.0.2.5'), bits: 32 }],
    });
    expect(sendersOf({ family: 6, group, device: 'eth0' }, { eth0 })?.networks).toEqual([
      { address: parseIp('fe80::5'), bits: 64 },
    ]);
    expect(() => sendersOf({ family: 4, group, device: 'eth1' }, { eth0 })).toThrow(/"eth1" must be up/);
  });
});
