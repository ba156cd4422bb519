/**
 * A client process that means harm: `node dist/test/fuzz/hostile_process.js '{"deed": ..., ...}'`, see `Order`. It ends with 0
 * when it has done its deed, or by its own hand, SIGKILL, when its deed is to die.
 */
import { rmSync, truncateSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Capability, rootCapability } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { DriverClient, type DriverEnv } from '#common/l4virtio/driver_client';
import { Arena } from '#common/shm/arena';
import { type Mapping, SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { Random } from '#common/testing/random';
import { featureSet, NET_F_MRG_RXBUF } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { Factory, L4virtio, Meta } from '../../proto/gen/services.js';
import { CONTROL_DEEDS } from './control_deeds.ts';
import type { Order } from './switch_process.ts';

const ENTRIES = 64;
const RINGS = 2 * queueBytes(ENTRIES);
const BYTES = RINGS + 64 * 2048;
/** A frame to its own sender: the switch reads it, and has nobody to give it to. Flooded ones would take the buffers of the good pair. */
const TO_ITSELF = Uint8Array.of(2, 0, 0, 0, 0, 66, 2, 0, 0, 0, 0, 66, 0x88, 0xb5);

const order = JSON.parse(process.argv[2] ?? '{}') as Order;
const ipc = new Ipc({ runDir: order.runDir, task: order.task });
const arena = new Arena(2 ** 26);
const shared = new SharedMemories(order.runDir, arena);
const doorbells = new Doorbells(order.runDir);
const root = rootCapability({ gate: order.gate, secret: Buffer.from(order.secret, 'hex') });
const random = new Random(7);
const own: Mapping[] = [];
let points = 0;

/** A moment at which a process may die. */
function point(): void {
  if (order.deed === 'die' && points++ === order.point) process.kill(process.pid, 'SIGKILL');
}

/** Every capability call, and every mapping, has a point before and one behind it. */
const env: DriverEnv = {
  arena,
  doorbells,
  memories: {
    create: (bytes, writable) => {
      point();
      const made = shared.create(bytes, writable);
      own.push(made);
      point();
      return made;
    },
    open: (ref) => shared.open(ref),
  },
  ipc: {
    epitaph: (cap) => ipc.epitaph(cap),
    client: (service, cap) => {
      const calls = ipc.client(service, cap) as Record<string, (...args: unknown[]) => Promise<unknown>>;
      const wrapped = Object.entries(calls).map(([name, call]) => [
        name,
        async (...args: unknown[]) => {
          point();
          const reply = await call(...args);
          point();
          return reply;
        },
      ]);
      return Object.fromEntries(wrapped);
    },
  },
};

async function createPort(): Promise<Capability> {
  const { object } = await ipc.client(Factory, root).create({ type: 0, arguments: [{ text: 'ds-max=4' }] });
  point();
  return object as Capability;
}

/** A device that runs, with receive buffers, and something in its transmit queue for the switch to read. */
async function run(port: Capability): Promise<DriverClient> {
  const driver = await DriverClient.open(env, port, { name: 'virtnet', onInterrupt: () => {} });
  const memory = await driver.allocate(BYTES);
  for (const queue of [0, 1])
    await driver.configureQueue(queue, memory, queue * queueBytes(ENTRIES), ENTRIES);
  await driver.start(featureSet(NET_F_MRG_RXBUF));
  for (let n = 0; n < 32; n++) driver.queue(0).add(memory.address + RINGS + n * 2048, 2048, true);
  point();
  if (driver.queue(0).flush()) driver.notify();
  for (let n = 0; n < 32; n++) {
    const at = RINGS + (32 + n) * 2048;
    arena.u8.set(TO_ITSELF, memory.where + at + NET_HDR_SIZE);
    driver.queue(1).add(memory.address + at, 80, false);
  }
  point();
  if (driver.queue(1).flush()) driver.notify();
  point();
  return driver;
}

/** Ours are those that we have made, and the config page. */
async function ownFiles(port: Capability): Promise<string[]> {
  const { memory } = await ipc.client(L4virtio, port).deviceConfig();
  return [...own.map(({ ref }) => ref.name), memory?.name ?? ''].map((name) => join(order.runDir, 'm', name));
}

/** Bytes of a ZMTP 3 client that has shaken hands: what it says next is up to us. */
function greeting(): Buffer {
  const hello = Buffer.alloc(64);
  hello.set([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]);
  hello.write('NULL', 12);
  const type = Buffer.from('\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER', 'latin1');
  return Buffer.concat([hello, Buffer.from([4, type.length]), type]);
}

function noise(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, () => random.below(256)));
}

/** Sends bytes to the gate and hangs up. */
function rawly(bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(join(order.runDir, 'g', order.gate));
    socket.on('error', () => resolve());
    socket.on('close', () => resolve());
    socket.resume();
    socket.end(bytes);
    setTimeout(() => socket.destroy(), 20);
  });
}

const DEEDS: Readonly<Record<string, () => Promise<void>>> = {
  die: async () => {
    await run(await createPort());
  },
  truncate: async () => {
    const port = await createPort();
    for (let n = 0; n < 10; n++) {
      const driver = await run(port);
      for (const file of (await ownFiles(port)).slice(0, -1)) truncateSync(file, n % 2 === 0 ? 0 : 4096);
      driver.notify();
      await driver.close();
      own.length = 0;
    }
    const driver = await run(port);
    for (const file of await ownFiles(port)) truncateSync(file, 0);
    driver.notify();
  },
  remove: async () => {
    const port = await createPort();
    const driver = await run(port);
    for (const file of await ownFiles(port)) rmSync(file);
    driver.notify();
  },
  kicks: async () => {
    const driver = await run(await createPort());
    const end = performance.now() + 1500;
    while (performance.now() < end) driver.notify();
  },
  register: async () => {
    const device = ipc.client(L4virtio, await createPort());
    for (let n = 0; n < 300; n++) {
      const memory = shared.create(4096 * (1 + (n % 20)));
      const base = n % 5 === 0 ? random.u32() * 2 ** 20 : 2 ** 21 + n * 2 ** 20;
      const size = n % 7 === 0 ? random.u32() : memory.size;
      await device.registerDs({ memory: memory.ref, base, offset: 0, size }).catch(() => {});
      await device.setStatus({ status: n % 3 === 0 ? 0 : random.below(256) }).catch(() => {});
      memory.close();
    }
  },
  connect: async () => {
    for (let n = 0; n < 20; n++) {
      const clients = Array.from({ length: 50 }, () => new Ipc({ runDir: order.runDir, task: order.task }));
      await Promise.all(clients.map((one) => one.client(Meta, root).interfaces()));
      // Half of them hang up in the middle of a call.
      for (const [i, one] of clients.entries()) {
        if (i % 2 === 0)
          one
            .client(Meta, root)
            .interfaces()
            .catch(() => {});
        one.close();
      }
    }
  },
  hold: async () => {
    const path = join(order.runDir, 'g', order.gate);
    const sockets = Array.from({ length: 1000 }, () => connect(path).on('error', () => {}));
    for (const [n, socket] of sockets.entries()) socket.write(n % 2 === 0 ? greeting() : noise(n % 64));
    await sleep(500);
  },
  garbage: async () => {
    for (let n = 0; n < 100; n++) {
      const body = noise(n);
      const frames = Buffer.concat([
        Buffer.from([1, 0, 1, body.length]),
        body,
        Buffer.from([0, body.length]),
        body,
      ]);
      await rawly(
        n % 3 === 0 ? noise(200) : Buffer.concat([greeting(), frames, noise(n % 2 === 0 ? 0 : 50)]),
      );
    }
  },
};

const others = { runDir: order.runDir, tunnelPort: order.tunnelPort, ipc, arena, shared, doorbells, random };
await (DEEDS[order.deed] ?? CONTROL_DEEDS[order.deed])?.(others);
process.exit(0);
