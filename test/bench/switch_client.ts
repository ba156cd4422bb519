/**
 * The driver process of the switch's benchmark: makes ports at a running switch and plays one scenario with them.
 *
 *   node dist/test/bench/switch_client.js '{"runDir": ..., "gate": ..., "secret": hex, "scenario": name, ...}'
 *
 * Prints one line of JSON. A frame that is lost, duplicated or wrong ends it with status 1.
 */

import { randomBytes } from 'node:crypto';
import { type Capability, rootCapability } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import type { DriverEnv } from '#common/l4virtio/driver_client';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { inlineDeeply } from '#common/shm/jit';
import { takeShortTurns } from '#common/shm/slice';
import { Factory } from '../../proto/gen/services.js';
import { BenchPort, type PortShape } from './switch_port.ts';
import { SCENARIOS } from './switch_scenarios.ts';

const ARENA_BYTES = 2 ** 31 - 4096;

interface Order {
  readonly runDir: string;
  readonly gate: string;
  readonly secret: string;
  readonly scenario: string;
  readonly switchPid: number;
  readonly parameters: Readonly<Record<string, number>>;
}

// As the pump of a client does.
inlineDeeply();
takeShortTurns();
const order = JSON.parse(process.argv[2] ?? '{}') as Order;
const ipc = new Ipc({ runDir: order.runDir, task: randomBytes(16).toString('hex') });
const arena = new Arena(ARENA_BYTES);
const memories = new SharedMemories(order.runDir, arena);
const doorbells = new Doorbells(order.runDir);
const env: DriverEnv = { ipc, arena, memories, doorbells };
const root = rootCapability({ gate: order.gate, secret: Buffer.from(order.secret, 'hex') });
const factory = ipc.client(Factory, root);
const ports: BenchPort[] = [];

async function open(shape: PortShape): Promise<BenchPort> {
  const { object } = await factory.create({ type: 0, arguments: [{ text: `name=b${ports.length}` }] });
  if (!object) throw new Error('the switch made no port');
  const port = await BenchPort.open(env, object as Capability, `b${ports.length}`, shape);
  ports.push(port);
  return port;
}

const scenario = SCENARIOS.get(order.scenario);
if (!scenario) throw new Error(`there is no scenario ${order.scenario}`);
const result = await scenario({ open, ports, switchPid: order.switchPid }, order.parameters);
const errors = ports.reduce((sum, port) => sum + port.errors, 0);
console.log(JSON.stringify({ ...result, errors }));
for (const port of ports) await port.link.close();
memories.close();
doorbells.close();
ipc.close();
process.exit(errors === 0 ? 0 : 1);
