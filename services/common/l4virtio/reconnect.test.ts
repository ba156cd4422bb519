// A device whose server dies and is started again: the driver's half, over real capabilities and shared memory.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Capability, createGate, mint, type ServerEnd } from '#common/ipc/capability';
import { gatePath, Ipc } from '#common/ipc/ipc';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { DEVICE_ID_NET } from '#common/virtio/config_page';
import { featureSet, NET_F_MAC } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { DeviceServer, type DeviceServerOptions } from './device_server.ts';
import { DriverClient } from './driver_client.ts';

const SIZE = 16;
const OBJECT = 7;
const EPITAPH = "task 'switch' was ended by SIGKILL";

function party(runDir: string, task: string) {
  const arena = new Arena(2 ** 26);
  return {
    ipc: new Ipc({ runDir, task: task.repeat(32) }),
    arena,
    memories: new SharedMemories(runDir, arena),
    doorbells: new Doorbells(runDir),
  };
}

/** One life of the server. */
class Life {
  readonly host: ReturnType<typeof party>;
  readonly device: DeviceServer;
  kicks = 0;

  private constructor(host: ReturnType<typeof party>, options: Partial<DeviceServerOptions>) {
    this.host = host;
    this.device = new DeviceServer(host, {
      deviceId: DEVICE_ID_NET,
      features: featureSet(NET_F_MAC),
      queues: [SIZE, SIZE],
      config: Uint8Array.of(2, 0, 0, 0, 0, 1, 0, 0, 0, 0),
      dsMax: 2,
      name: 'port1',
      onConfigured: () => {},
      onReset: () => {},
      onKick: () => {
        this.kicks += 1;
      },
      ...options,
    });
  }

  static async begin(options: Partial<DeviceServerOptions> = {}, object = OBJECT): Promise<Life> {
    const life = new Life(party(dir.path, 'a'), options);
    lives.push(life);
    await life.host.ipc.serve(end, (gate) => gate.export(life.device.bindings, { id: object }));
    return life;
  }

  /** The files of the dead stay, as after kill -9, until the test's end. */
  die(): void {
    this.host.ipc.close();
  }

  close(): void {
    this.die();
    this.device.close();
    this.host.doorbells.close();
    this.host.memories.close();
  }
}

let dir: TestRunDir;
let end: ServerEnd;
let cap: Capability;
let guest: ReturnType<typeof party>;
let driver: DriverClient;
let lives: Life[];
const told = { onDown: vi.fn(), onBack: vi.fn(), onGone: vi.fn() };

beforeEach(() => {
  dir = testRunDir();
  end = createGate();
  cap = mint(end, OBJECT);
  guest = party(dir.path, 'b');
  lives = [];
  for (const spy of Object.values(told)) spy.mockReset();
});

afterEach(async () => {
  await driver.close();
  for (const life of lives) life.close();
  guest.ipc.close();
  expect([...readdirSync(join(dir.path, 'm')), ...readdirSync(join(dir.path, 'b'))]).toEqual([]);
  dir[Symbol.dispose]();
});

/** A driver with running queues. */
async function bringUp(options: { waitMs?: number; patient?: boolean } = {}) {
  driver = await DriverClient.open(guest, cap, {
    name: 'virtnet',
    onInterrupt: () => {},
    onGone: told.onGone,
    reconnect: { onDown: told.onDown, onBack: told.onBack, ...options },
  });
  const memory = await driver.allocate(2 * queueBytes(SIZE) + 4096);
  await driver.configureQueue(0, memory, 0, SIZE);
  await driver.configureQueue(1, memory, queueBytes(SIZE), SIZE);
  await driver.start(featureSet(NET_F_MAC));
  return { memory, buffer: 2 * queueBytes(SIZE) };
}

const bury = () => writeFileSync(`${gatePath(dir.path, end.gate)}.dead`, `${EPITAPH}\n`);
const isTold = (spy: keyof typeof told) => expect.poll(() => told[spy]).toHaveBeenCalled();
const reason = () => told.onGone.mock.calls[0]?.[0];

describe('DriverClient with reconnect', () => {
  it('sets the device up again, as often as it is needed, with new queues over the same memory', async () => {
    let life = await Life.begin();
    const { memory, buffer } = await bringUp();
    for (let n = 1; n <= 3; n++) {
      const old = driver.queue(1);
      old.add(memory.address + buffer, 64, false);
      old.flush();
      life.die();
      await expect.poll(() => told.onDown).toHaveBeenCalledTimes(n);
      life = await Life.begin();
      await expect.poll(() => told.onBack).toHaveBeenCalledTimes(n);
      expect(told.onBack.mock.lastCall?.[0]).toBeGreaterThan(0);
      const queue = driver.queue(1);
      expect([queue === old, queue.outstanding, queue.free]).toEqual([false, 0, SIZE]);
      guest.arena.u8[memory.where + buffer] = n;
      queue.add(memory.address + buffer, 64, false);
      expect(queue.flush()).toBe(true);
      driver.notify();
      await expect.poll(() => life.kicks).toBe(1);
      const device = life.device.device.queue(1);
      const chain = device?.newChain();
      expect(chain && device?.pop(chain)).toBe(true);
      expect(life.host.arena.u8[chain?.where[0] as number]).toBe(n);
    }
    expect(told.onGone).not.toHaveBeenCalled();
  });

  it('begins anew when the server dies once more meanwhile', async () => {
    const first = await Life.begin();
    await bringUp();
    first.die();
    await isTold('onDown');
    // Dies as soon as the driver registers its memory.
    const second = await Life.begin({
      accepts: () => {
        second.die();
        return true;
      },
    });
    await expect.poll(() => second.device.device.regions.count).toBe(1);
    await Life.begin();
    await isTold('onBack');
    expect(told.onDown).toHaveBeenCalledTimes(1);
  });

  it('is gone at once when ned says that the server has ended', async () => {
    const life = await Life.begin();
    await bringUp();
    bury();
    life.die();
    await isTold('onGone');
    expect(reason()).toMatchObject({
      code: 'IPC_SERVER_DIED',
      message: expect.stringMatching(
        /^Cannot use "virtnet" any more: .* went away during the call: task 'switch' was/,
      ),
    });
  });

  it('waits all the same when it is patient', async () => {
    const life = await Life.begin();
    await bringUp({ patient: true });
    bury();
    life.die();
    await isTold('onDown');
    // Longer than it takes to look for an epitaph.
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(told.onGone).not.toHaveBeenCalled();
    await Life.begin();
    await isTold('onBack');
  });

  it('is gone when the server has not come back in time', async () => {
    const life = await Life.begin();
    await bringUp({ waitMs: 100 });
    life.die();
    await isTold('onGone');
    expect(reason()).toMatchObject({
      errno: 2004,
      code: 'IPC_SERVER_DIED',
      message:
        'Cannot use "virtnet" any more as its server has ended and was not back within 0.1 s; start it again sooner, or with a restart policy',
    });
  });

  it.each<[string, RegExp, Partial<DeviceServerOptions>, number]>([
    [
      'without the device',
      /server was started again and has no such device any more; create it anew$/,
      {},
      8,
    ],
    [
      'with another MAC address',
      /has another MAC address than before$/,
      { config: new Uint8Array(10) },
      OBJECT,
    ],
    ['with smaller queues', /queue 0 had 16 entries: it has 8$/, { queues: [8, 8] }, OBJECT],
  ])('is gone when the server comes back %s', async (_what, message, options, object) => {
    const life = await Life.begin();
    await bringUp();
    life.die();
    await isTold('onDown');
    await Life.begin(options, object);
    await isTold('onGone');
    expect(reason()).toMatchObject({ message: expect.stringMatching(message) });
    expect(told.onBack).not.toHaveBeenCalled();
    await expect(driver.reset()).rejects.toThrow(message);
  });

  it('opens no doorbell of the device any more once it is closed', async () => {
    let closing = false;
    let wasClosed = () => {};
    const closed = new Promise<void>((resolve) => {
      wasClosed = resolve;
    });
    const made = guest.ipc.client.bind(guest.ipc) as Ipc['client'];
    vi.spyOn(guest.ipc, 'client').mockImplementation((service, to) => {
      const client = made(service, to);
      const { deviceNotificationIrq: ask } = client;
      if (!ask) return client;
      const closeFirst: typeof ask = async (request, options) => {
        const reply = await ask(request, options);
        if (!closing) return reply;
        await driver.close();
        setImmediate(wasClosed);
        return reply;
      };
      return { ...client, deviceNotificationIrq: closeFirst };
    });
    const life = await Life.begin();
    await bringUp();
    const open = vi.spyOn(guest.doorbells, 'open');
    closing = true;
    life.die();
    await isTold('onDown');
    const second = await Life.begin();
    await closed;
    expect(second.device.device.status).toBe(3);
    expect(open).not.toHaveBeenCalled();
  });

  it('says nothing more once it is closed, and leaves nothing', async () => {
    const life = await Life.begin();
    await bringUp();
    life.die();
    await isTold('onDown');
    await driver.close();
    await Life.begin();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([told.onBack.mock.calls, told.onGone.mock.calls]).toEqual([[], []]);
  });
});
