/** VXLAN ports of a whole switch, and a far end made of plain sockets. */
import { readdirSync } from 'node:fs';
import type { networkInterfaces } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
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

const PORT = 20_000 + Math.floor(Math.random() * 20_000);
let dir: TestRunDir;
let task: TestTask;
let lan: Switch;
let lines: string[];
const sockets: UdpSocket[] = [];

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
      port: PORT,
    });
    sockets.push(this.#socket);
    writeSockaddr(task.arena, this.#to, parseIp('127.30.0.1') as Uint8Array, PORT);
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

describe('Tunnels', () => {
  it('forgets where stations are when the link of the port goes down', async () => {
    const port = tunnel(
      'vni=42',
      'local=127.30.0.1',
      `port=${PORT}`,
      ...[2, 3].map((n) => `remote=127.30.0.${n}:${PORT}`),
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
    expect(three.received()).toEqual([answer]);
    await station.driver.close();
  });

  it('says, once in a while, that datagrams belong to no port', async () => {
    tunnel('vni=42', 'local=127.30.0.1', `port=${PORT}`, `remote=127.30.0.2:${PORT}`);
    const far = new Far('127.30.0.2');
    for (let n = 0; n < 50; n++) far.send(43, ethernet(-1, 20));
    const warnings = () => lines.filter((line) => line.includes('Dropped'));
    await expect.poll(warnings).not.toEqual([]);
    expect(warnings()[0]).toBe(
      `SWI[port]: Dropped 1 datagrams to 127.30.0.1:${PORT} so far; the last, from 127.30.0.2, had VXLAN id 43, which no port has`,
    );
    expect(warnings().length).toBeLessThan(5);
  });

  it('leaves neither port, socket nor memory when one cannot be opened', () => {
    const descriptors = readdirSync('/proc/self/fd').length;
    const first = tunnel('vni=1', 'remote=127.0.0.2', 'local=127.30.0.1', `port=${PORT}`);
    const open = readdirSync('/proc/self/fd').length;
    for (let n = 0; n < 3; n++) {
      expect(() => tunnel('vni=1', 'remote=127.0.0.2', 'local=127.30.0.1', `port=${PORT}`)).toThrow(
        expect.objectContaining({ code: 'VSWITCH_VXLAN', errno: 17 }),
      );
      expect(() => tunnel('vni=2', 'remote=127.0.0.2', `port=${PORT}`)).toThrow(
        new RegExp(`at 0\\.0\\.0\\.0:${PORT} \\(bind: EADDRINUSE\\): another program, another VXLAN port`),
      );
      expect(() => tunnel('vni=2', 'group=239.1.1.1', 'dev=lo0', `port=${PORT}`)).toThrow(
        'interface "lo0" must be up',
      );
    }
    expect(lan.ports.all()).toEqual([first]);
    expect(readdirSync('/proc/self/fd').length).toBe(open);
    lan.removePort(first.number);
    expect(readdirSync('/proc/self/fd').length).toBe(descriptors);
  });

  it('ports with groups share a socket that is in all of them, and leave them with the last port', () => {
    const groups = () => readdirSync('/proc/self/fd').length;
    const descriptors = groups();
    const on = ['dev=lo', 'allow=127.0.0.0/8', `port=${PORT}`];
    const ports = [1, 2, 3].map((vni) => tunnel(`vni=${vni}`, `group=239.1.1.${vni === 3 ? 1 : vni}`, ...on));
    expect(groups()).toBe(descriptors + 5);
    for (const { number } of ports) lan.removePort(number);
    expect(groups()).toBe(descriptors);
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
