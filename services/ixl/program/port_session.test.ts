/** The program's port against the device half of the transport, over real capabilities and shared memory. */
import { afterEach, describe, expect, it } from 'vitest';
import { createGate, rootCapability } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { bind } from '#common/ipc/service';
import { DeviceServer } from '#common/l4virtio/device_server';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { randomName } from '#common/shm/run_dir';
import type { TaskEnv } from '#common/task/env';
import { testRunDir } from '#common/testing/run_dir';
import { CONFIG, STATUS_RUNNING } from '#common/virtio/config_page';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { featureSet, NET_F_MAC } from '#common/virtio/features';
import { NicPort } from '../../../proto/gen/services.js';
import { type Clock, systemClock } from '../clock.ts';
import { main } from '../main.ts';
import { SharedDma } from '../testing/fake_dma.ts';
import { FakeLog, frame, startE1000On } from '../testing/fakes.ts';
import { PortSession } from './port_session.ts';

const HEADER = 12;
const [RX_BUFFERS, TX_BUFFERS] = [1200, 1024];
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

/** A run directory, the environment of a task, and a switch with one port. */
async function lab() {
  const runDir = testRunDir();
  cleanups.push(() => runDir[Symbol.dispose]());
  const arena = new Arena(2 ** 27);
  const memories = new SharedMemories(runDir.path, arena);
  const doorbells = new Doorbells(runDir.path);
  const newIpc = (): Ipc => new Ipc({ runDir: runDir.path, task: randomName() });
  const [task, switchIpc] = [newIpc(), newIpc()];
  const abort = new AbortController();
  const port = createGate();
  const failures: string[] = [];
  const shared = { arena, memories, doorbells };
  const device = new DeviceServer(shared, {
    deviceId: 1,
    features: featureSet(NET_F_MAC),
    queues: [256, 256],
    config: new Uint8Array(10),
    dsMax: 2,
    onConfigured: () => {},
    onReset: () => {},
    onKick: () => {},
  });
  const gate = await switchIpc.serve(port);
  const nicPort = bind(NicPort, {
    attach: () => ({}),
    link: () => ({}),
    failed: ({ reason }) => {
      failures.push(reason);
      return {};
    },
  });
  gate.setRoot([...device.bindings, nicPort]);
  cleanups.push(() => {
    task.close();
    switchIpc.close();
    device.close();
    doorbells.close();
    memories.close();
  });
  const caps = new Map([['port', rootCapability(port)]]);
  const env = { ...shared, ipc: task, caps, argv: ['rom/ixl'], signal: abort.signal, runDir: runDir.path };
  return {
    env: env as unknown as TaskEnv,
    server: device,
    switchIpc,
    abort,
    failures,
    port: rootCapability(port),
    ...shared,
  };
}

/** Asks until the answer is true, each time once: the question may take something. */
async function until(condition: () => boolean): Promise<void> {
  for (let n = 0; n < 2000; n++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`still false: ${condition}`);
}

const running = ({ device }: DeviceServer): boolean =>
  (device.page.read(CONFIG.STATUS) & 0x4f) === STATUS_RUNNING;

function queueOf({ device }: DeviceServer, index: number): DeviceQueue {
  const queue = device.queue(index);
  if (!queue) throw new Error(`queue ${index} does not run`);
  return queue;
}

async function session(clock?: Clock) {
  const world = await lab();
  const bench = await startE1000On(new SharedDma(world.arena, world.memories), {
    rxBuffers: RX_BUFFERS,
    txBuffers: TX_BUFFERS,
  });
  const log = new FakeLog();
  const port = new PortSession(world.env, world.port, bench.device, log, clock);
  const ended = port.run();
  await until(() => running(world.server));
  return { ...world, ...bench, portLog: log, ended };
}

/** The switch takes one frame of queue 1, with its header. */
function takeFrame(queue: DeviceQueue, arena: Arena): Uint8Array | undefined {
  const chain = queue.newChain();
  if (!queue.pop(chain)) return undefined;
  const at = chain.where[0] as number;
  const bytes = arena.u8.slice(at, at + (chain.len[0] as number));
  queue.push(chain.head, 0);
  queue.flush();
  return bytes;
}

describe('PortSession', () => {
  it('carries frames both ways, asleep or awake, and ends on the signal', async () => {
    const { server, nic, arena, abort, ended, env } = await session();
    const received = queueOf(server, 1);
    const offered = queueOf(server, 0);
    for (let n = 0; n < 3; n++) {
      nic.receive(frame(n, 100));
      let bytes: Uint8Array | undefined;
      await until(() => {
        bytes = takeFrame(received, arena);
        return bytes !== undefined;
      });
      expect(bytes?.subarray(HEADER)).toEqual(frame(n, 100));
      const chain = offered.newChain();
      await until(() => offered.pop(chain));
      arena.u8.set(frame(100 + n, 200), (chain.where[0] as number) + HEADER);
      offered.push(chain.head, HEADER + 200);
      if (offered.flush()) server.device.interrupt();
      await until(() => nic.sent.length === n + 1);
      expect(nic.sent[n]).toEqual(frame(100 + n, 200));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    abort.abort();
    await ended;
    expect(env.signal.aborted).toBe(true);
  });

  it('starts anew after the switch has asked for a reset, with all its buffers', async () => {
    const { server, nic, arena, abort, ended, portLog, device } = await session();
    nic.receive(frame(1, 100));
    const received = queueOf(server, 1);
    await until(() => received.available() === 1);
    server.device.fail('a test');
    await until(() => running(server));
    expect(portLog.lines[0]).toMatch(/^\[WARN \] Starting the port anew: .*asks for a reset/);
    nic.receive(frame(2, 100));
    let bytes: Uint8Array | undefined;
    await until(() => {
      bytes = takeFrame(queueOf(server, 1), arena);
      return bytes !== undefined;
    });
    expect(bytes?.subarray(HEADER)).toEqual(frame(2, 100));
    abort.abort();
    await ended;
    expect(device.packets.rxPool.available).toBe(RX_BUFFERS - 256);
    expect(device.txPool.available).toBe(TX_BUFFERS);
  });

  /** Lets the switch ask for a reset again and again, `afterMs` after the port has started; true while the port does so. */
  async function survives(resets: number, afterMs: number): Promise<boolean> {
    let now = 0;
    const { server, portLog, ended, abort } = await session({
      ...systemClock,
      now: () => now,
      sleep: () => new Promise((resolve) => setImmediate(resolve)),
    });
    let failed = false;
    ended.catch(() => {
      failed = true;
    });
    for (let n = 0; n < resets && !failed; n++) {
      await until(() => running(server));
      now += afterMs;
      server.device.fail('a test');
      await until(() => failed || portLog.lines.length > n);
    }
    abort.abort();
    await ended.catch(() => {});
    return !failed;
  }

  it('gives up when the switch asks for one reset after the other, not when they are far apart', async () => {
    expect(await survives(10, 0)).toBe(true);
    expect(await survives(11, 0)).toBe(false);
    expect(await survives(15, 60_000)).toBe(true);
  });

  it('starts anew when the switch breaks the ring protocol', async () => {
    const { server, arena, abort, ended, portLog } = await session();
    const queue = queueOf(server, 0);
    const chain = queue.newChain();
    await until(() => queue.pop(chain));
    queue.push(chain.head, 60_000);
    queue.flush();
    server.device.interrupt();
    await until(() => portLog.lines.length > 0);
    expect(portLog.lines[0]).toMatch(/used length of chain \d+ may be at most 1530/);
    await until(() => running(server) && queueOf(server, 0) !== queue);
    abort.abort();
    await ended;
    expect(arena.buffer.byteLength).toBeGreaterThan(0);
  });

  it('rejects when the device is gone', async () => {
    const { nic, irq, ended } = await session();
    nic.gone = true;
    const failure = expect(ended).rejects.toMatchObject({ code: 'IXL_DEVICE_GONE' });
    irq.unmask();
    irq.fire();
    await failure;
  });
});

describe('PortSession when a peer is gone', () => {
  it('rejects when the switch has died', async () => {
    const { switchIpc, ended } = await session();
    switchIpc.close();
    await expect(ended).rejects.toMatchObject({ code: 'IXL_PORT_GONE' });
  });

  it('ends in peace when the switch gives the port up', async () => {
    const { server, ended } = await session();
    server.close();
    await ended;
  });

  it('ends in peace when the switch dies because the lab ends', async () => {
    const { switchIpc, abort, ended } = await session();
    switchIpc.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    abort.abort();
    await ended;
  });

  it('rejects when the machine ends, without any interrupt', async () => {
    const { nic, ended, endMachine } = await session();
    nic.gone = true;
    endMachine();
    await expect(ended).rejects.toMatchObject({ code: 'IXL_DEVICE_GONE' });
  });
});

describe('main()', () => {
  it('tells the switch why there is no NIC, and ends with 1', async () => {
    const { env, failures } = await lab();
    expect(await main(env)).toBe(1);
    expect(failures).toEqual([
      'Cannot start ixl as it needs the capability "vbus": the virtual bus with the NIC, from io',
    ]);
  });

  it('ends with 1 for a bad option', async () => {
    const { env } = await lab();
    expect(await main({ ...env, argv: ['rom/ixl', '--nonsense'] })).toBe(1);
  });
});
