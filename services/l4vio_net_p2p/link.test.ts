import { readdirSync, truncateSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { bind } from '#common/ipc/service';
import { NetClient, TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { featureNames, NET_F_CSUM, NET_F_GUEST_CSUM } from '#common/virtio/features';
import { ethernet } from '#common/vnet/testing/mock_client';
import { netHeader, offsets, tcpFrame, withPartialChecksum } from '#common/vnet/testing/tcp_frame';
import { Factory, L4virtio, Meta } from '../../proto/gen/services.js';
import { factoryHandlers } from './factory.ts';
import { Link, type LinkOptions } from './link.ts';

let dir: TestRunDir;
let server: TestTask;
let link: Link;
let root: Capability;
let lines: string[];
const tasks: TestTask[] = [];

async function serve(options: Partial<LinkOptions> = {}): Promise<void> {
  const end = createGate();
  const log = (line: string) => void lines.push(line);
  const gate = await server.ipc.serve(end);
  link = new Link(server, { queueSize: 64, log, ...options });
  gate.setRoot([bind(Factory, factoryHandlers(gate, link, log))]);
  link.start();
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

/** The frames are distinct and know their place. */
const frames = (count: number, from: number): Uint8Array[] =>
  Array.from({ length: count }, (_, seed) => ethernet(1 - from, from, { seed, length: 60 + seed }));

beforeEach(() => {
  dir = testRunDir();
  server = new TestTask(dir.path, 's');
  lines = [];
});

afterEach(() => {
  link.close();
  for (const made of tasks.splice(0)) made.close();
  server.close();
  expect([readdirSync(`${dir.path}/m`), readdirSync(`${dir.path}/b`)]).toEqual([[], []]);
  dir[Symbol.dispose]();
});

describe('Link', () => {
  it.each([
    ['with notifications', {}],
    ['polled', { pollUs: 500 }],
  ])('carries every frame of each end to the other, in order, %s', async (_name, options) => {
    await serve(options);
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta, 'ds-max=4'));
    const b = await NetClient.open(tb, await create(tb, 'ds-max=4'));
    for (const frame of frames(40, 0)) a.send(frame);
    for (const frame of frames(30, 1)) b.send(frame);
    await expect.poll(() => b.received).toEqual(frames(40, 0));
    await expect.poll(() => a.received).toEqual(frames(30, 1));
  });

  it('does not look at addresses or tags', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb));
    const odd = [ethernet(7, 0, { vlan: 5 }), ethernet(0, 0), ethernet(-1, 3), Uint8Array.of(1)];
    for (const frame of odd) a.send(frame);
    await expect.poll(() => b.received).toEqual(odd);
  });

  it('keeps frames until there is somebody across, and a buffer for them', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    for (const frame of frames(10, 0)) a.send(frame);
    const b = await NetClient.open(tb, await create(tb), { buffers: 0 });
    // The pump has gone to sleep over the frames: what b sends goes through and shows it.
    b.send(ethernet(0, 1));
    await expect.poll(() => a.received.length).toBe(1);
    expect(b.received).toEqual([]);
    b.give(3);
    await expect.poll(() => b.received).toEqual(frames(10, 0).slice(0, 3));
    b.give(7);
    await expect.poll(() => b.received).toEqual(frames(10, 0));
    for (const frame of frames(10, 0)) a.send(frame);
    b.give(10);
    await expect.poll(() => b.received.length).toBe(20);
  });

  it('drops what is longer than all buffers, says so, and goes on', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb), { buffers: 0 });
    b.give(1, 100);
    a.send(ethernet(1, 0, { length: 500 }));
    a.send(ethernet(1, 0, { length: 80 }));
    await expect.poll(() => b.received).toEqual([ethernet(1, 0, { length: 80 })]);
    expect(lines).toEqual(['Dropped a frame of port 0 as it is longer than the receive buffers of port 1']);
  });

  it('computes the checksum for a client that did not ask for partial ones, and passes it on to one that did', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const partial = [NET_F_CSUM, NET_F_GUEST_CSUM];
    const a = await NetClient.open(ta, await create(ta), { features: partial });
    const b = await NetClient.open(tb, await create(tb));
    const whole = tcpFrame({ payload: 100 });
    const cut = withPartialChecksum(whole);
    const header = netHeader({ flags: 1, csumStart: offsets(whole).tcp, csumOffset: 16 });
    a.send(cut, undefined, header);
    await expect.poll(() => b.received).toEqual([whole]);
    await tb.ipc.client(Meta, root).taskGone({ task: tb.ipc.task });
    const tc = task('c');
    const c = await NetClient.open(tc, await create(tc), { features: partial });
    a.send(cut, undefined, header);
    await expect.poll(() => c.received).toEqual([cut]);
    a.send(cut, undefined, netHeader({ flags: 1, csumStart: 60_000, csumOffset: 60_000 }));
    await expect.poll(() => lines.at(-1)).toMatch(/^Port 0: Invalid request: /);
    a.send(whole);
    await expect.poll(() => c.received.at(-1)).toEqual(whole);
  });

  it('offers what the original does, and MAC only to who was given one', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const features = Array.from({ length: 32 }, (_, bit) => bit);
    const a = await NetClient.open(ta, await create(ta, 'mac=02:00:00:00:00:0a'), { features });
    const b = await NetClient.open(tb, await create(tb), { features });
    expect([a.driver.features, b.driver.features].map(featureNames)).toEqual([
      'CSUM GUEST_CSUM MAC MRG_RXBUF INDIRECT_DESC EVENT_IDX VERSION_1',
      'CSUM GUEST_CSUM MRG_RXBUF INDIRECT_DESC EVENT_IDX VERSION_1',
    ]);
    expect(a.driver.mac).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 10));
    expect(a.driver.queueSize(0)).toBe(64);
  });

  it('has two ports; one is free again when its client is gone, and the other client never notices', async () => {
    await serve();
    const [ta, tb, tc] = [task('a'), task('b'), task('c')];
    await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb));
    await expect(create(tc)).rejects.toMatchObject({
      errno: 12,
      code: 'P2P_NO_PORT',
      message: 'No port available: both are in use, a point-to-point link has two',
    });
    b.send(ethernet(-1, 1));
    await tb.ipc.client(Meta, root).taskGone({ task: ta.ipc.task });
    expect(lines.at(-1)).toBe('Client on port 0 has gone. Unregistering.');
    b.send(ethernet(0, 1));
    const c = await NetClient.open(tc, await create(tc));
    await expect.poll(() => c.received.at(-1)).toEqual(ethernet(0, 1));
    c.send(ethernet(1, 0));
    await expect.poll(() => b.received).toEqual([ethernet(1, 0)]);
    expect(b.resets).toBe(0);
  });

  it('stops an end that breaks the ring; the other one goes on when it is back', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb));
    a.send(ethernet(1, 0), 0x7000_0000);
    await expect.poll(() => a.resets).toBe(1);
    expect(lines.at(-1)).toMatch(/^Port 0: .*must lie inside one registered region/);
    b.send(ethernet(0, 1));
    await a.driver.close();
    await tb.ipc.client(Meta, root).taskGone({ task: ta.ipc.task });
    const tc = task('c');
    const c = await NetClient.open(tc, await create(tc));
    await expect.poll(() => c.received).toEqual([ethernet(0, 1)]);
    expect(b.resets).toBe(0);
  });

  it('stops an end with an impossible receive ring without losing its own frames', async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const a = await NetClient.open(ta, await create(ta));
    const b = await NetClient.open(tb, await create(tb), { buffers: 0 });
    b.driver.queue(0).add(0x7000_0000, 2048, true);
    b.driver.queue(0).flush();
    a.send(ethernet(1, 0));
    await expect.poll(() => b.resets).toBe(1);
    expect(lines.at(-1)).toMatch(/^Port 1: .*must lie inside one registered region/);
    expect(a.resets).toBe(0);
  });
});

it.runIf(process.arch === 'x64')(
  'a client that truncates what it shares is told apart at the next kick, and asked to reset',
  async () => {
    await serve();
    const [ta, tb] = [task('a'), task('b')];
    const port = await create(ta);
    await NetClient.open(ta, port);
    const b = await NetClient.open(tb, await create(tb));
    const { memory } = await ta.ipc.client(L4virtio, port).deviceConfig();
    truncateSync(`${dir.path}/m/${memory?.name}`, 0);
    await expect
      .poll(() => {
        b.send(ethernet(0, 1));
        return lines.at(-1);
      })
      .toMatch(
        /^Port 0: Cannot use memory of the driver of port 0 as the file of its config page was truncated/,
      );
    expect(b.resets).toBe(0);
  },
);

describe('create()', () => {
  it('refuses with the words of the original, to the caller and in the log', async () => {
    await serve();
    const ta = task('a');
    const cases: [string, string][] = [
      ['ds-max=no', "Bad parameter 'ds-max='. Invalid number specified."],
      ['ds-max=0', "Invalid range for parameter 'ds-max'. Number must be between 1 and 80 inclusive"],
      ['ds-max=81', "Invalid range for parameter 'ds-max'. Number must be between 1 and 80 inclusive"],
      ['mac=1:2:3', "Invalid value for parameter 'mac'. Must be of the form 'xx:xx:xx:xx:xx:xx'"],
      ['mac-addr=x', "Invalid value for parameter 'mac-addr'."],
    ];
    for (const [text, message] of cases) {
      await expect(create(ta, text)).rejects.toMatchObject({
        errno: 22,
        message: expect.stringContaining(message),
      });
      expect(lines.at(-1)).toContain(message);
    }
    const factory = ta.ipc.client(Factory, root);
    await expect(factory.create({ type: 1 })).rejects.toThrow(
      'its type must be 0 (port): current value is 1',
    );
    await expect(factory.create({ type: 0, arguments: [{ number: '1' }] })).rejects.toThrow(
      'String parameter expected: argument 2 is none',
    );
  });

  it('ignores unknown options and says so; a short MAC is one', async () => {
    await serve();
    const ta = task('a');
    const port = await create(ta, 'name=net', 'mac-addr=2:0:0:0:0:a');
    expect(lines).toEqual([expect.stringMatching(/^Invalid client option ignored\. 'name=net'\./)]);
    const a = await NetClient.open(ta, port);
    expect(a.driver.mac).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 10));
  });

  it('lets a client register ds-max dataspaces and no more', async () => {
    await serve();
    const ta = task('a');
    const { driver } = await NetClient.open(ta, await create(ta, 'ds-max=3'));
    for (let n = 0; n < 2; n++) await driver.allocate(4096);
    await expect(driver.allocate(4096)).rejects.toMatchObject({ errno: 12 });
    await driver.close();
  });
});
