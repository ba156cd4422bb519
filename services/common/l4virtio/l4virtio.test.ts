// Both ends of the transport over real capabilities, shared memory and doorbells, in one process with two arenas.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Capability, createGate } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { bind, type Handlers } from '#common/ipc/service';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { CONFIG, DEVICE_ID_NET } from '#common/virtio/config_page';
import { RingError } from '#common/virtio/errors';
import {
  F_INDIRECT_DESC,
  F_VERSION_1,
  featureSet,
  NET_F_CSUM,
  NET_F_MAC,
  NET_F_MRG_RXBUF,
} from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { Icu, L4virtio } from '../../../proto/gen/services.js';
import { DeviceServer, type DeviceServerOptions } from './device_server.ts';
import { DEVICE_CLOSED, DriverClient, type DriverOptions } from './driver_client.ts';

const OFFERED = featureSet(NET_F_MAC, NET_F_MRG_RXBUF, F_INDIRECT_DESC);
const SIZE = 256;

/** One process's share of the run directory. */
function party(runDir: string, task: string) {
  const arena = new Arena(2 ** 26);
  return {
    ipc: new Ipc({ runDir, task: task.repeat(32) }),
    arena,
    memories: new SharedMemories(runDir, arena),
    doorbells: new Doorbells(runDir),
  };
}

let dir: TestRunDir;
let host: ReturnType<typeof party>;
let guest: ReturnType<typeof party>;
let server: DeviceServer;
let client: DriverClient | undefined;
const told = { onConfigured: vi.fn(), onReset: vi.fn(), onKick: vi.fn(), onError: vi.fn() };
const heard = { onInterrupt: vi.fn(), onNeedsReset: vi.fn(), onConfigChange: vi.fn() };
const onGone = vi.fn();

beforeEach(() => {
  dir = testRunDir();
  host = party(dir.path, 'a');
  guest = party(dir.path, 'b');
  client = undefined;
  for (const spy of [...Object.values(told), ...Object.values(heard), onGone]) spy.mockReset();
});

afterEach(async () => {
  await client?.close();
  server.close();
  expect(files()).toEqual([]);
  for (const { ipc } of [guest, host]) ipc.close();
  dir[Symbol.dispose]();
});

function files(): string[] {
  return [...readdirSync(join(dir.path, 'm')), ...readdirSync(join(dir.path, 'b'))];
}

async function serve(options: Partial<DeviceServerOptions> = {}): Promise<Capability> {
  server = new DeviceServer(host, {
    deviceId: DEVICE_ID_NET,
    features: OFFERED,
    queues: [SIZE, SIZE],
    config: Uint8Array.of(2, 0, 0, 0, 0, 1, 0, 0, 0, 0),
    dsMax: 2,
    name: 'port1',
    ...told,
    ...options,
  });
  const gate = await host.ipc.serve(createGate());
  return gate.export(server.bindings);
}

function open(cap: Capability, options: Partial<DriverOptions> = {}): Promise<DriverClient> {
  return DriverClient.open(guest, cap, { name: 'virtnet', ...heard, ...options });
}

/** The whole sequence; buffers lie behind the rings. */
async function bringUp(cap: Capability, options: Partial<DriverOptions> = {}) {
  client = await open(cap, options);
  const rings = queueBytes(SIZE);
  const memory = await client.allocate(2 * rings + 2 * SIZE * 2048);
  await client.configureQueue(0, memory, 0, client.queueSize(0));
  await client.configureQueue(1, memory, rings, client.queueSize(1));
  await client.start(featureSet(NET_F_MAC, NET_F_CSUM));
  return { driver: client, memory, buffers: 2 * rings };
}

describe('DriverClient and DeviceServer', () => {
  it('carry frames both ways after the stock sequence', async () => {
    const { driver, memory, buffers } = await bringUp(await serve());
    expect(told.onConfigured).toHaveBeenCalledTimes(1);
    expect(driver.features).toEqual(featureSet(NET_F_MAC, F_VERSION_1));
    expect([...(driver.mac as Uint8Array)]).toEqual([2, 0, 0, 0, 0, 1]);
    expect(memory.address).toBe(2 * 2 ** 20);
    const frame = Uint8Array.from({ length: 1526 }, (_, i) => i);
    guest.arena.u8.set(frame, memory.where + buffers);
    driver.queue(1).add(memory.address + buffers, frame.length, false);
    driver.queue(0).add(memory.address + buffers + 2048, 2048, true);
    expect(driver.queue(1).flush()).toBe(true);
    driver.queue(0).flush();
    driver.notify();
    await expect.poll(() => told.onKick).toHaveBeenCalled();

    const [rx, tx] = [server.device.queue(0), server.device.queue(1)];
    if (!rx || !tx) throw new Error('no queues');
    const [from, to] = [tx.newChain(), rx.newChain()];
    expect([tx.pop(from), rx.pop(to)]).toEqual([true, true]);
    const start = from.where[0] as number;
    host.arena.u8.copyWithin(to.where[0] as number, start, start + (from.len[0] as number));
    tx.push(from.head, 0);
    rx.push(to.head, frame.length);
    expect([tx.flush(), rx.flush()]).toEqual([true, true]);
    server.device.interrupt();
    await expect.poll(() => heard.onInterrupt).toHaveBeenCalled();

    expect([driver.queue(1).pop(), driver.queue(1).usedLength]).toEqual([0, 0]);
    expect([driver.queue(0).pop(), driver.queue(0).usedLength]).toEqual([0, frame.length]);
    const at = memory.where + buffers + 2048;
    expect(guest.arena.u8.slice(at, at + frame.length)).toEqual(frame);
  });

  it('tell the driver when the device fails, and work again after reset()', async () => {
    const { driver, memory } = await bringUp(await serve());
    const queue = driver.queue(1);
    queue.add(0x10, 64, false); // not registered
    queue.flush();
    const device = server.device.queue(1);
    let reason = '';
    try {
      device?.pop(device.newChain());
    } catch (err) {
      expect(err).toBeInstanceOf(RingError);
      reason = (err as Error).message;
    }
    server.device.fail(reason);
    expect(told.onError).toHaveBeenCalledWith(
      'Cannot pop chain 0 from queue 1 of port1 as a buffer must lie inside one registered region: current value is 0x10 + 64',
    );
    await expect.poll(() => heard.onNeedsReset).toHaveBeenCalled();
    expect(heard.onNeedsReset.mock.calls[0]?.[0]).toMatchObject({
      message: expect.stringMatching(/^Cannot use "virtnet" as .* reset/),
    });
    expect(heard.onInterrupt).not.toHaveBeenCalled();
    expect(told.onReset).toHaveBeenCalledTimes(1);

    await driver.reset();
    expect(() => driver.queue(0)).toThrow(/not started/);
    await driver.configureQueue(0, memory, 0, 8);
    await driver.configureQueue(1, memory, queueBytes(SIZE), 8);
    await driver.start(featureSet());
    expect(server.device.queue(1)?.size).toBe(8);
  });

  it('give memories that are registered at the same time addresses of their own', async () => {
    client = await open(await serve({ dsMax: 3 }));
    const made = await Promise.all([client.allocate(4096), client.allocate(8192), client.allocate(4096)]);
    expect(made.map(({ address }) => address - 2 ** 21)).toEqual([0, 4096, 12288]);
  });

  it('register memory of others, up to ds-max', async () => {
    const cap = await serve();
    client = await open(cap);
    const foreign = guest.memories.create(8192);
    const first = await client.register(foreign);
    const second = await client.allocate(4096);
    expect([first.where, second.address - first.address]).toEqual([foreign.offset, 8192]);
    await expect(client.allocate(4096)).rejects.toMatchObject({
      errno: 12,
      message: expect.stringMatching(
        /^Cannot use "virtnet" as a virtio device as registering 4096 bytes of memory failed: Cannot .* ds-max=2/,
      ),
    });
    await client.close();
    expect(files()).toContain(foreign.ref.name);
    foreign.close();
  });

  it('let a second driver take over after the first is gone without a word', async () => {
    const cap = await serve();
    const first = await bringUp(cap);
    const woken = vi.fn();
    const second = await bringUp(cap, { onInterrupt: woken });
    expect(server.device.regions.count).toBe(1);
    expect(second.memory.address).toBe(first.memory.address);
    second.driver.queue(1).add(second.memory.address, 64, false);
    second.driver.queue(1).flush();
    expect(server.device.queue(1)?.available()).toBe(1);
    server.device.interrupt();
    await expect.poll(() => woken).toHaveBeenCalled();
    expect(heard.onInterrupt).not.toHaveBeenCalled();
    await first.driver.close();
  });

  it('tell of changes of the device config', async () => {
    const { driver } = await bringUp(await serve());
    server.device.changeConfig(Uint8Array.of(2, 0, 0, 0, 0, 9, 1, 0, 0, 0));
    await expect.poll(() => heard.onConfigChange).toHaveBeenCalled();
    expect([...driver.deviceConfig(7)]).toEqual([2, 0, 0, 0, 0, 9, 1]);
  });
});

describe('DriverClient.open()', () => {
  it.each<[string, number, (s: DeviceServer) => void]>([
    ['its magic must be 0x74726976: current value is 0x1', 19, (s) => s.device.page.write(CONFIG.MAGIC, 1)],
    ['its version must be 0x2: current value is 0x1', 19, (s) => s.device.page.write(CONFIG.VERSION, 1)],
  ])('rejects as %s', async (message, errno, spoil) => {
    const cap = await serve();
    spoil(server);
    await expect(open(cap)).rejects.toMatchObject({
      errno,
      message: `Cannot use "virtnet" as a virtio device as ${message}`,
    });
  });

  it('rejects a device of another kind, or with too few queues', async () => {
    const block = await serve({ deviceId: 2 });
    await expect(open(block)).rejects.toMatchObject({
      errno: 19,
      message: expect.stringContaining('device id must be 0x1'),
    });
    server.close();
    await expect(open(await serve({ queues: [8] }))).rejects.toThrow('at least 2 queues: current value is 1');
  });

  it('rejects an object that is no virtio device', async () => {
    await serve();
    const gate = await host.ipc.serve(createGate());
    await expect(open(gate.export([]))).rejects.toThrow(
      /^Cannot use "virtnet" as a virtio device as asking for its config page failed: /,
    );
  });

  it.each<[string, Partial<Handlers<typeof L4virtio>>, (s: DeviceServer) => void]>([
    [
      'the page must be writable',
      { deviceConfig: () => ({ memory: { name: 'a'.repeat(32), size: 4096 }, offset: 0 }) },
      () => {},
    ],
    [
      'page-aligned inside 4096 bytes: current offset is 4096',
      { deviceConfig: () => ({ memory: { size: 4096, writable: true }, offset: 4096 }) },
      () => {},
    ],
    ['the device failed (status 0x80)', {}, (s) => s.device.setStatus(0x80)],
    [
      'the device failed (status 0x83)',
      {},
      (s) => {
        if (s.device.status === 3) s.device.setStatus(0x80);
      },
    ],
    [
      'inside the config page: current offset is 4088',
      {},
      (s) => s.device.page.write(CONFIG.QUEUES_OFFSET, 4088),
    ],
    ['inside the config page', {}, (s) => s.device.page.write(CONFIG.NUM_QUEUES, 0xffff_ffff)],
  ])('rejects a device that lies: %s', async (message, lies, spoil) => {
    const honest = await serve();
    const gate = await host.ipc.serve(createGate());
    const proxy = guest.ipc.client(L4virtio, honest);
    const cap = gate.export([
      bind(L4virtio, {
        setStatus: async (request) => {
          await proxy.setStatus(request);
          spoil(server);
          return {};
        },
        configQueue: () => ({}),
        registerDs: () => ({}),
        deviceConfig: () => proxy.deviceConfig(),
        deviceNotificationIrq: (request) => proxy.deviceNotificationIrq(request),
        watch: () => ({}),
        ...lies,
      }),
    ]);
    await expect(open(cap)).rejects.toThrow(message);
  });
});

describe('DriverClient, when the device is gone', () => {
  it('says so at once when the server has died', async () => {
    await bringUp(await serve(), { onGone });
    host.ipc.close();
    await expect.poll(() => onGone).toHaveBeenCalled();
    expect(onGone.mock.calls[0]?.[0]).toMatchObject({
      code: 'IPC_SERVER_DIED',
      message: expect.stringMatching(/^Cannot use "virtnet" any more: .*went away/),
    });
  });

  it('says so when the server gives it up', async () => {
    await bringUp(await serve(), { onGone });
    server.close();
    await expect.poll(() => onGone).toHaveBeenCalled();
    expect(onGone.mock.calls[0]?.[0]).toMatchObject({ code: DEVICE_CLOSED });
    await expect(client?.reset()).rejects.toMatchObject({ code: DEVICE_CLOSED });
  });

  it('tells onNeedsReset when nobody asked for onGone', async () => {
    await bringUp(await serve());
    server.close();
    await expect.poll(() => heard.onNeedsReset).toHaveBeenCalled();
  });

  it('says nothing when the driver itself has closed it', async () => {
    const { driver } = await bringUp(await serve(), { onGone });
    await driver.close();
    server.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(onGone).not.toHaveBeenCalled();
  });
});

describe('DriverClient.start()', () => {
  it('rejects, and says what the device does not do', async () => {
    client = await open(await serve());
    await expect(client.start(featureSet())).rejects.toMatchObject({
      errno: 5,
      message:
        'Cannot use "virtnet" as a virtio device as starting the queues failed: the device failed (status 0x40); its log says why',
    });
    expect(told.onError).toHaveBeenCalledWith('Cannot start queues of port1 as queue 0 is not configured');
    await client.reset();
    server.device.page.writeFeatures(CONFIG.DEV_FEATURES_MAP, featureSet());
    await client.reset();
    expect(() => client?.queueSize(2)).toThrow(/queue must be 0..1/);
  });

  it('rejects when a queue is refused', async () => {
    client = await open(await serve());
    const memory = await client.allocate(2 * queueBytes(512));
    await expect(client.configureQueue(0, memory, 0, 512)).rejects.toMatchObject({
      errno: 22,
      message: expect.stringMatching(
        /as configuring queue 0 failed: Cannot configure queue 0 of port1 as num must be/,
      ),
    });
    await expect(client.configureQueue(0, memory, 8, 8)).rejects.toThrow(RangeError);
    expect(client.queueSize(0, 64)).toBe(64);
    host.arena.u16[(server.device.page.at + 0x110) / 2] = 300; // num_max
    expect(() => client?.queueSize(0)).toThrow(
      'queue 0 must offer a power of two of entries: current value is 300',
    );
  });
});

describe('DeviceServer', () => {
  it('lets 16 calls wait for its end, and refuses the oldest for one more', async () => {
    const device = guest.ipc.client(L4virtio, await serve());
    const ends: unknown[] = [];
    const watch = (n: number) =>
      device.watch({}, { deadlineMs: 60_000 }).then(
        () => ends.push([n, 'ended']),
        ({ errno, message }) => ends.push([n, errno, message]),
      );
    const watches = Array.from({ length: 18 }, (_, n) => watch(n));
    const why =
      'Cannot watch port1 any longer as at most 16 calls may wait for its end: a later one took the place';
    await expect.poll(() => ends).toHaveLength(2);
    expect(ends).toEqual([0, 1].map((n) => [n, 12, why]));
    server.close();
    await Promise.all(watches);
    expect(ends.slice(2).sort()).toEqual(
      watches
        .slice(2)
        .map((_, n) => [n + 2, 'ended'])
        .sort(),
    );
  });

  it('leaves no page behind when there is no room for its doorbell', async () => {
    await serve();
    const before = files();
    const full = () => {
      throw new Error('full');
    };
    const env = { ...host, doorbells: { create: full, open: full } };
    const options = { deviceId: 1, features: OFFERED, queues: [], config: new Uint8Array(0), dsMax: 1 };
    expect(() => new DeviceServer(env, { ...options, ...told })).toThrow('full');
    expect(files()).toEqual(before);
  });

  it('answers with the error numbers of L4virtio', async () => {
    const cap = await serve({ accepts: ({ size }) => size !== 8192 });
    const [device, icu] = [guest.ipc.client(L4virtio, cap), guest.ipc.client(Icu, cap)];
    const foreign = guest.memories.create(8192);
    const irq = guest.doorbells.create();
    const cases: [Promise<unknown>, number][] = [
      [device.configQueue({ index: 0 }), 5],
      [device.registerDs({ base: 0, offset: 0, size: 4096 }), 22],
      [device.registerDs({ memory: foreign.ref, base: 0, offset: 0, size: 4096 }), 22],
      [device.registerDs({ memory: { name: '../x', size: 4096 }, base: 0, offset: 0, size: 4096 }), 22],
      [device.registerDs({ memory: { ...foreign.ref, size: 4096 }, base: 0, offset: 4096, size: 1 }), 34],
      [device.deviceNotificationIrq({ index: 1 }), 38],
      [icu.bind({ irq: 1, object: { name: irq.name } }), 34],
      [icu.bind({ irq: 0 }), 22],
      [icu.bind({ irq: 0, object: { name: 'f'.repeat(32) } }), 22],
      [icu.unbind({ irq: 0 }), 38],
      [icu.mask({ irq: 0 }), 38],
      [icu.unmask({ irq: 0 }), 38],
      [icu.setMode({ irq: 0 }), 38],
      [icu.msiInfo({ irq: 0 }), 38],
    ];
    const numbers = await Promise.all(
      cases.map(([call]) =>
        call.then(
          () => 0,
          (err: { errno: number }) => err.errno,
        ),
      ),
    );
    expect(numbers).toEqual(cases.map(([, errno]) => errno));
    expect(await icu.info()).toMatchObject({ features: 0, nrIrqs: 1, nrMsis: 0 });
    foreign.close();
    irq.close();
  });
});
