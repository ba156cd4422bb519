import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DROP } from '#common/capture/drop_reasons';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { bind } from '#common/ipc/service';
import { DriverClient } from '#common/l4virtio/driver_client';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import {
  F_EVENT_IDX,
  type Features,
  featureNames,
  NET_F_CSUM,
  NET_F_GUEST_CSUM,
  NET_F_GUEST_TSO4,
  NET_F_HOST_TSO4,
  NET_F_MTU,
  NET_F_STATUS,
} from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { ethernet } from '#common/vnet/testing/mock_client';
import {
  netHeader,
  slowSegments,
  tcpFrame,
  tsoHeader,
  withPartialChecksum,
} from '#common/vnet/testing/tcp_frame';
import { Factory, Meta, SwitchStatistics } from '../../proto/gen/services.js';
import { factoryHandlers } from './factory.ts';
import { formatMac } from './mac_address.ts';
import { keyHi } from './mac_table.ts';
import { PORT_STATISTICS, STATISTICS } from './statistics.ts';
import { StatisticsReaders } from './statistics_reader.ts';
import { Switch, type SwitchOptions } from './switch.ts';
import { listLog } from './testing/mock_switch.ts';
import { VLAN_NATIVE } from './vlan.ts';

const ENTRIES = 64;
const RINGS = 2 * queueBytes(ENTRIES);
let dir: TestRunDir;
let server: TestTask;
let gate: Gate;
let lan: Switch;
let lines: string[];
let root: Capability;
const tasks: TestTask[] = [];

async function serve(
  accepts?: (memory: SharedMemoryRef) => boolean,
  ports = 4,
  more: Partial<SwitchOptions> = {},
): Promise<void> {
  const end = createGate();
  const list = listLog();
  lines = list.lines;
  gate = await server.ipc.serve(end);
  lan = new Switch(server, {
    ports,
    queueSize: 256,
    assignMacs: true,
    log: list.log,
    ...(accepts ? { accepts } : {}),
    ...more,
  });
  gate.setRoot([
    bind(Factory, factoryHandlers(gate, lan, new StatisticsReaders(lan, server.memories), list.log)),
  ]);
  lan.start();
  root = rootCapability(end);
}

function task(id: string): TestTask {
  const made = new TestTask(dir.path, id);
  tasks.push(made);
  return made;
}

async function create(client: TestTask, ...texts: string[]): Promise<Capability> {
  const { object } = await client.ipc
    .client(Factory, root)
    .create({ type: 0, arguments: texts.map((text) => ({ text })) });
  return object as Capability;
}

beforeEach(() => {
  dir = testRunDir();
  server = new TestTask(dir.path, 's');
});

afterEach(() => {
  lan.close();
  for (const made of tasks.splice(0)) made.close();
  server.close();
  expect(readdirSync(`${dir.path}/m`)).toEqual([]);
  expect(readdirSync(`${dir.path}/b`)).toEqual([]);
  dir[Symbol.dispose]();
});

describe('Switch with clients in shared memory', () => {
  it('carries frames between two clients', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta, 'name=a', 'mac=02:00:00:00:00:0a'));
    const b = await NetClient.open(tb, await create(tb));
    expect(formatMac(a.driver.mac as Uint8Array)).toBe('02:00:00:00:00:0a');
    a.send(ethernet(-1, 0, { length: 1514 }));
    await expect.poll(() => b.received).toEqual([ethernet(-1, 0, { length: 1514 })]);
    for (let n = 0; n < 100; n++) {
      b.send(ethernet(0, 1, { seed: n }));
      await expect.poll(() => a.received.length, { interval: 0 }).toBe(n + 1);
    }
    expect(a.received.at(-1)).toEqual(ethernet(0, 1, { seed: 99 }));
  });

  it('looks again after a NIC that was full, which says nothing when it has room', async () => {
    // Nobody's patience ends.
    await serve(undefined, 4, { clock: () => 0 });
    const guest = task('a');
    let room = false;
    const delivered: number[] = [];
    const port = lan.createNicPort();
    lan.identifyNic(port, 'e1000', Uint8Array.of(2, 0, 0, 0, 0, 9));
    lan.connectNic(port.number, () => ({
      handle: () => 0,
      deliver: (frame) => {
        delivered.push(frame.length);
        return frame.length;
      },
      hasRoom: () => room,
      publish: () => false,
      interrupt: () => {},
      enableNotifications: () => false,
      disableNotifications: () => {},
    }));
    // The NIC's address is known as that of a station behind it.
    lan.forwarder.macs.learn(9 << 24, keyHi(2, VLAN_NATIVE), port.number);
    const client = await NetClient.open(guest, await create(guest));
    for (const length of [60, 61, 62]) client.send(ethernet(9, 1, { length }));
    await expect.poll(() => lan.queues(1)?.tx.available()).toBe(3);
    expect(delivered).toEqual([]);
    room = true;
    await expect.poll(() => delivered).toEqual([60, 61, 62]);
  });

  it('gives a client that asks for no more what the original gives it', async () => {
    await serve();
    const ta = task('a');
    const a = await NetClient.open(ta, await create(ta));
    expect(a.driver.features).toEqual({ lo: 0x8020, hi: 1 });
    expect(a.driver.queueSize(0)).toBe(256);
    await a.driver.close();
  });

  it('offers offloads, EVENT_IDX, STATUS, and MTU when there is one', async () => {
    await serve(undefined, 4, { mtu: 9000 });
    const ta = task('a');
    const everything: Features = { lo: 0xffff_ffff, hi: 0 };
    for (const [texts, mtu] of [
      [[], 9000],
      [['mtu=1280'], 1280],
    ] as const) {
      const driver = await DriverClient.open(ta, await create(ta, ...texts), {
        name: 'virtnet',
        onInterrupt: () => {},
      });
      const memory = await driver.allocate(RINGS);
      for (const queue of [0, 1])
        await driver.configureQueue(queue, memory, queue * queueBytes(ENTRIES), ENTRIES);
      expect(featureNames(await driver.start(everything))).toBe(
        'CSUM GUEST_CSUM MTU MAC GUEST_TSO4 GUEST_TSO6 GUEST_ECN HOST_TSO4 HOST_TSO6 HOST_ECN MRG_RXBUF STATUS INDIRECT_DESC EVENT_IDX VERSION_1',
      );
      expect([...driver.deviceConfig(12).subarray(6)]).toEqual([1, 0, 0, 0, mtu & 0xff, mtu >>> 8]);
      await driver.close();
    }
  });

  it('refuses features that need others, and says which', async () => {
    await serve();
    const ta = task('a');
    await expect(NetClient.open(ta, await create(ta), { features: [NET_F_HOST_TSO4] })).rejects.toMatchObject(
      {
        errno: 5,
      },
    );
    expect(lines.at(-1)).toContain('HOST_TSO4 and HOST_TSO6 need CSUM: set MAC HOST_TSO4 MRG_RXBUF');
  });

  it('finishes checksums between clients, and drops what does not fit its frame', async () => {
    await serve();
    const [ta, tb, tc] = [task('a'), task('b'), task('c')];
    const a = await NetClient.open(ta, await create(ta, 'name=a'), {
      features: [NET_F_CSUM, NET_F_HOST_TSO4, F_EVENT_IDX],
    });
    const b = await NetClient.open(tb, await create(tb), { features: [F_EVENT_IDX] });
    const c = await NetClient.open(tc, await create(tc), { features: [NET_F_GUEST_CSUM, NET_F_GUEST_TSO4] });
    const frame = tcpFrame({ payload: 1000 });
    a.send(frame, undefined, netHeader({ flags: 1, csumStart: 34, csumOffset: 2000 }));
    await expect.poll(() => lan.forwarder.counters.droppedFor(0, DROP.OFFLOAD)).toBe(1);
    a.send(withPartialChecksum(frame), undefined, tsoHeader(frame, 400));
    await expect.poll(() => [b.received.length, c.received.length]).toEqual([3, 1]);
    expect(b.received).toEqual(slowSegments(frame, 400));
    expect(c.received).toEqual([withPartialChecksum(frame)]);
    expect(lan.forwarder.counters.txPackets[0]).toBe(0);
  });

  it('keeps to the MTU that a client has taken', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb, 'mtu=1000'), { features: [NET_F_MTU] });
    a.send(ethernet(-1, 0, { length: 1015 }));
    await expect.poll(() => lan.forwarder.counters.droppedFor(1, DROP.TOO_LONG)).toBe(1);
    a.send(ethernet(-1, 0, { length: 1014 }));
    await expect.poll(() => b.received.length).toBe(1);
  });

  it('takes a link down and up: tells who asked, carries nothing meanwhile', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const port = await create(ta, 'name=a', 'ds-max=4');
    const a = await NetClient.open(ta, port, { features: [NET_F_STATUS] });
    const b = await NetClient.open(tb, await create(tb));
    const status = () => a.driver.deviceConfig(8)[6];
    a.send(ethernet(-1, 0));
    await expect.poll(() => b.received.length).toBe(1);
    expect([status(), lan.forwarder.linkUp(0), lan.forwarder.macs.size]).toEqual([1, true, 1]);
    lan.setLink(0, false);
    lan.setLink(0, false);
    await expect.poll(() => a.configChanges).toBe(1);
    expect([status(), lan.forwarder.linkUp(0), lan.forwarder.macs.size]).toEqual([0, false, 0]);
    b.send(ethernet(-1, 1));
    a.send(ethernet(-1, 0));
    await expect.poll(() => lan.forwarder.counters.droppedFor(0, DROP.LINK_DOWN)).toBe(2);
    // A driver that starts anew finds it down as well.
    await a.driver.close();
    const again = await NetClient.open(ta, port, { features: [NET_F_STATUS] });
    expect(again.driver.deviceConfig(8)[6]).toBe(0);
    lan.setLink(0, true);
    await expect.poll(() => again.configChanges).toBe(1);
    b.send(ethernet(-1, 1));
    await expect.poll(() => again.received.length).toBe(1);
    lan.setLink(1, false);
    again.send(ethernet(-1, 0));
    await expect.poll(() => lan.forwarder.counters.droppedFor(1, DROP.LINK_DOWN)).toBe(1);
    expect([b.configChanges, b.received.length, again.received.length]).toEqual([0, 1, 1]);
    expect(() => lan.setLink(7, false)).toThrow('none of that number');
  });

  it('takes the link of a NIC down with its cable; it is up with both, cable and user', async () => {
    await serve();
    const port = lan.createNicPort();
    const up = () => lan.forwarder.linkUp(port.number);
    lan.serveNic(port);
    lan.setCarrier(port.number, false);
    expect([up(), lan.lacksCarrier(port.number)]).toEqual([false, true]);
    lan.setLink(port.number, true);
    expect(up()).toBe(false);
    lan.setLink(port.number, false);
    lan.setCarrier(port.number, true);
    expect([up(), lan.lacksCarrier(port.number)]).toEqual([false, false]);
    lan.setLink(port.number, true);
    expect(up()).toBe(true);
    // Neither outlives the port, and nothing comes of a port that is gone.
    lan.setLink(port.number, false);
    lan.setCarrier(port.number, false);
    lan.removePort(port.number);
    lan.setCarrier(port.number, false);
    expect([up(), lan.lacksCarrier(port.number)]).toEqual([true, false]);
  });

  it('removes a port when its last holder ends, and the number is free again', async () => {
    await serve(undefined, 2);
    const [ta, tb] = [task('a'), task('b')];
    const first = await create(ta, 'mac=02:00:00:00:00:0a');
    await create(tb);
    const a = await NetClient.open(ta, first);
    a.send(ethernet(-1, 0));
    await expect.poll(() => lan.forwarder.macs.size).toBe(1);
    await expect(create(tb)).rejects.toMatchObject({
      errno: 12,
      message: expect.stringContaining('No port available'),
    });
    await tb.ipc.client(Meta, root).taskGone({ task: ta.ipc.task });
    expect([lan.ports.count, lan.forwarder.macs.size]).toEqual([1, 0]);
    const again = await create(tb, 'mac=02:00:00:00:00:0a');
    expect(again.object).not.toBe(first.object);
  });

  it('keeps the counters of a NIC over the lives of its driver, and begins with none at a new port', async () => {
    await serve();
    const port = lan.createNicPort();
    const { counters } = lan.forwarder;
    for (let life = 1; life <= 2; life++) {
      lan.serveNic(port);
      counters.received(port.number, 60);
      lan.silenceNic(port.number);
      expect(counters.inPackets[port.number]).toBe(life);
    }
    lan.removePort(port.number);
    expect(lan.createNicPort().number).toBe(port.number);
    expect(counters.inPackets[port.number]).toBe(0);
  });

  it('leaves nothing of the port of a NIC whose driver finds no memory in its next life', async () => {
    await serve();
    const { counters } = lan.forwarder;
    const gone: number[] = [];
    lan.onRemoval((number) => gone.push(number));
    const port = lan.createNicPort();
    lan.serveNic(port);
    counters.received(port.number, 60);
    lan.setLink(port.number, false);
    lan.setCarrier(port.number, false);
    lan.silenceNic(port.number);
    vi.spyOn(server.memories, 'create').mockImplementationOnce(() => {
      throw new L4Error('ENOMEM', '/dev/shm is full');
    });
    expect(() => lan.serveNic(port)).toThrow('/dev/shm is full');
    expect([gone, lan.ports.count, lan.lacksCarrier(port.number)]).toEqual([[port.number], 0, false]);
    const next = lan.createNicPort();
    expect([next.number, lan.forwarder.linkUp(next.number), counters.inPackets[next.number]]).toEqual([
      port.number,
      true,
      0,
    ]);
  });

  it('stops a port whose driver breaks the ring; it can reset and go on, others never notice', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta, 'name=bad'));
    const b = await NetClient.open(tb, await create(tb));
    a.send(ethernet(-1, 0), 0x7000_0000);
    await expect.poll(() => a.resets).toBe(1);
    expect(lines.at(-1)).toMatch(/VSwitch: ERROR: Port 'bad': .*must lie inside one registered region/);
    b.send(ethernet(-1, 1));
    await expect.poll(() => lan.forwarder.counters.droppedFor(0, DROP.NOT_READY)).toBe(1);
    expect(b.resets).toBe(0);
    await a.driver.reset();
    expect(a.driver.status).toBe(3);
  });

  it('says why it refuses, to the caller and in its log', async () => {
    await serve();
    const ta = task('a');
    await create(ta, 'mac=02:00:00:00:00:0a');
    const cases: [string[], number, string][] = [
      [['mac=02:00:00:00:00:0a', 'name=b'], 12, "Rejecting port 'b'. MAC address already in use."],
      [['ds-max=81'], 22, 'must be 1..80'],
      [['vlan=access=1', 'vlan=trunk=2'], 22, 'VLAN port cannot be access and trunk simultaneously.'],
      [['hello=1'], 22, "Unknown option 'hello=1'"],
    ];
    for (const [texts, errno, message] of cases) {
      await expect(create(ta, ...texts)).rejects.toMatchObject({
        errno,
        message: expect.stringContaining(message),
      });
      expect(lines.at(-1)).toContain(`VSwitch: ERROR: `);
      expect(lines.at(-1)).toContain(message);
    }
    const factory = ta.ipc.client(Factory, root);
    await expect(factory.create({ type: 7 })).rejects.toThrow('op_create: Invalid object type');
    await expect(factory.create({ type: 0, arguments: [{ number: '1' }] })).rejects.toThrow(
      'Unexpected type for argument 2',
    );
    expect(lan.ports.count).toBe(1);
  });

  it('lets a client register ds-max dataspaces and no more', async () => {
    await serve();
    const ta = task('a');
    const driver = await DriverClient.open(ta, await create(ta, 'ds-max=3'), {
      name: 'virtnet',
      onInterrupt: () => {},
    });
    for (let n = 0; n < 3; n++) await driver.allocate(4096);
    await expect(driver.allocate(4096)).rejects.toMatchObject({ errno: 12 });
    await driver.close();
  });

  it('accepts only trusted dataspaces when it was told to', async () => {
    let trusted = '';
    await serve(({ name }) => name === trusted);
    const ta = task('a');
    const driver = await DriverClient.open(ta, await create(ta), { name: 'virtnet', onInterrupt: () => {} });
    await expect(driver.allocate(4096)).rejects.toMatchObject({ errno: 22 });
    const mapping = ta.memories.create(4096);
    trusted = mapping.ref.name;
    await driver.register(mapping);
    await driver.close();
  });
});

describe('statistics reader', () => {
  it('shows ports and counters at each sync', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta, 'name=lan', 'mac=02:00:00:00:00:0a'));
    await NetClient.open(tb, await create(tb));
    const { object } = await ta.ipc.client(Factory, root).create({ type: 1 });
    const reader = ta.ipc.client(SwitchStatistics, object as Capability);
    const { memory } = await reader.getBuffer();
    const page = ta.memories.open(memory as SharedMemoryRef);
    expect(page.ref.writable).toBe(false);
    a.send(ethernet(-1, 0, { length: 100 }));
    await expect.poll(() => lan.forwarder.counters.txPackets[1]).toBe(1);
    await reader.sync();
    const { view, u8 } = ta.arena;
    const u64 = (at: number) => Number(view.getBigUint64(page.offset + at, true));
    const first = STATISTICS.ARRAY;
    const second = first + PORT_STATISTICS.SIZE;
    expect([u64(STATISTICS.AGE), u64(STATISTICS.MAX_PORTS)]).toEqual([2, 4]);
    expect([u64(first + PORT_STATISTICS.RX_NUM), u64(first + PORT_STATISTICS.RX_BYTES)]).toEqual([1, 112]);
    expect([u64(second + PORT_STATISTICS.TX_NUM), u64(second + PORT_STATISTICS.TX_BYTES)]).toEqual([1, 112]);
    const name = page.offset + first + PORT_STATISTICS.NAME;
    expect(Buffer.from(u8.slice(name, name + 4)).toString()).toBe('lan\0');
    expect(u8[page.offset + first + PORT_STATISTICS.MAC + 5]).toBe(0x0a);
    expect(u8[page.offset + second + PORT_STATISTICS.IN_USE]).toBe(1);
    expect(u8[page.offset + second + PORT_STATISTICS.SIZE + PORT_STATISTICS.IN_USE]).toBe(0);
  });
});
