// netdump as a program, at the end of a cable of mock ports: another client's frames come out as they went in.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PcapngReader } from '#common/capture/reader';
import { createGate, rootCapability } from '#common/ipc/capability';
import { DeviceServer } from '#common/l4virtio/device_server';
import type { TaskEnv } from '#common/task/env';
import { TestTask } from '#common/testing/net_client';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import { DEVICE_ID_NET } from '#common/virtio/config_page';
import { F_INDIRECT_DESC, featureSet, NET_F_MRG_RXBUF } from '#common/virtio/features';
import { Fabric } from '#common/vnet/fabric';
import { SourceFrame } from '#common/vnet/source_frame';
import { ethernet } from '#common/vnet/testing/mock_client';
import { SCRATCH_BYTES, VirtioPort } from '#common/vnet/virtio_port';
import { main } from './main.ts';
import { frameLine } from './outputs.ts';

/** A device with one port into which the test puts frames. */
class Source extends Fabric {
  readonly server: DeviceServer;
  readonly port: VirtioPort;
  readonly #task: TestTask;
  readonly #frame: SourceFrame;
  #running = (): void => {};
  readonly running = new Promise<void>((resolve) => {
    this.#running = resolve;
  });

  constructor(task: TestTask, mergeable: boolean) {
    super(1);
    this.#task = task;
    const scratch = task.arena.mapPrivate(2 * SCRATCH_BYTES);
    this.#frame = new SourceFrame(task.arena, scratch + SCRATCH_BYTES);
    this.server = new DeviceServer(task, {
      deviceId: DEVICE_ID_NET,
      features: featureSet(F_INDIRECT_DESC, ...(mergeable ? [NET_F_MRG_RXBUF] : [])),
      queues: [64, 64],
      config: new Uint8Array(10),
      dsMax: 4,
      name: 'source',
      onConfigured: () => this.#start(),
      onReset: () => this.port.stop(),
      onKick: () => {},
    });
    this.port = new VirtioPort({
      number: 0,
      nic: false,
      memory: task.arena,
      scratch,
      fabric: this,
      device: { fail: () => {}, interrupt: () => {}, invalidRequest: () => {} },
    });
    this.endpoints[0] = this.port;
  }

  #start(): void {
    const { device } = this.server;
    const [rx, tx] = [device.queue(0), device.queue(1)];
    if (!rx || !tx) throw new Error('no queues');
    this.port.start(rx, tx, device.features);
    this.#running();
  }

  forward(): void {}

  /** Resolves when the program has given all its buffers. */
  async ready(): Promise<void> {
    await this.running;
    await expect.poll(() => this.server.device.queue(0)?.available(), { interval: 0 }).toBe(64);
  }

  send(...frames: Uint8Array[]): void {
    const at = this.#task.arena.mapPrivate(2 ** 17);
    for (const frame of frames) {
      this.#task.arena.u8.set(frame, at);
      this.#frame.loadBare({ count: 1, where: [at], len: [frame.length] });
      expect(this.port.deliver(this.#frame, 0, 0)).toBeGreaterThan(0);
    }
    this.port.publish();
    this.server.device.interrupt();
  }
}

let dir: TestRunDir;
let scratch: string;
let device: TestTask;
let client: TestTask;
let source: Source;
let stdout: Buffer[];
let errors: string[];
let stop: AbortController;
/** A slow reader takes everything when `read` is called. */
let read: () => void;
let reading: Promise<void>;

async function run(
  args: string[],
  {
    mergeable = true,
    slow = false,
    cap = true,
    port = 'device',
  }: { mergeable?: boolean; slow?: boolean; cap?: boolean; port?: 'device' | 'silent' | 'no device' } = {},
): Promise<Promise<number>[]> {
  source = new Source(device, mergeable);
  const gate = await device.ipc.serve(createGate());
  const object = gate.export(port === 'device' ? source.server.bindings : []);
  // Nobody serves that gate: a call waits.
  const virtnet = port === 'silent' ? rootCapability(createGate()) : object;
  const { ipc, arena, memories, doorbells } = client;
  const status = main({
    argv: ['rom/netdump', ...args],
    capNames: cap ? ['virtnet'] : ['log'],
    caps: new Map(cap ? [['virtnet', virtnet]] : []),
    signal: stop.signal,
    stdout: {
      write: (data: Uint8Array) => {
        stdout.push(Buffer.from(data));
        return slow ? reading : Promise.resolve();
      },
    },
    ipc,
    arena,
    memories,
    doorbells,
  } as unknown as TaskEnv);
  // In a list, or awaiting this would await the program's end.
  return [status];
}

function frames(bytes: Uint8Array): Uint8Array[] {
  const reader = new PcapngReader();
  const packets = reader.push(bytes).map((packet) => packet.bytes);
  reader.end();
  return packets;
}

const FRAMES = Array.from({ length: 50 }, (_, seed) => ethernet(1, 0, { seed, length: 14 + seed * 30 }));
const LONG = ethernet(1, 0, { length: 60_000 });

describe('main()', () => {
  beforeEach(() => {
    dir = testRunDir();
    scratch = mkdtempSync(join(tmpdir(), 'l4lab-netdump-'));
    [device, client] = [new TestTask(dir.path, 'd'), new TestTask(dir.path, 'c')];
    [stdout, errors, stop] = [[], [], new AbortController()];
    reading = new Promise((resolve) => {
      read = resolve;
    });
    vi.spyOn(console, 'error').mockImplementation((line: string) => void errors.push(line));
  });

  afterEach(() => {
    vi.restoreAllMocks();
    source.server.close();
    client.close();
    device.close();
    dir[Symbol.dispose]();
    rmSync(scratch, { recursive: true });
  });

  it('-w - writes pcapng to standard output and ends after -c frames', async () => {
    const [status] = await run(['-w', '-', '-c', '51']);
    await source.ready();
    source.send(...FRAMES);
    await expect.poll(() => frames(Buffer.concat(stdout)).length).toBe(50);
    source.send(LONG, ...FRAMES.slice(0, 3));
    expect(await status).toBe(0);
    expect(frames(Buffer.concat(stdout))).toEqual([...FRAMES, LONG]);
    expect(errors).toEqual(['Listening on virtnet', '51 frames']);
  });

  it('-w FILE writes a file and ends in order when it is asked to', async () => {
    const path = join(scratch, 'x.pcapng');
    const [status] = await run(['-w', path], { mergeable: false });
    await source.ready();
    source.send(...FRAMES);
    await expect.poll(() => frames(readFileSync(path)).length).toBe(50);
    stop.abort();
    expect(await status).toBe(0);
    expect(frames(readFileSync(path))).toEqual(FRAMES);
  });

  it('prints a line for each frame without -w', async () => {
    const [status] = await run(['-c', '2']);
    await source.ready();
    source.send(ethernet(1, 0), ethernet(-1, 0, { vlan: 5 }));
    expect(await status).toBe(0);
    expect(Buffer.concat(stdout).toString()).toBe(
      '02:00:00:00:00:00 > 02:00:00:00:00:01 IPv4 60 bytes\n02:00:00:00:00:00 > ff:ff:ff:ff:ff:ff vlan 5 IPv4 60 bytes\n',
    );
  });

  it('loses frames, and only frames, while nobody reads, and counts them', async () => {
    const [status] = await run(['-w', '-', '-c', '400'], { slow: true });
    for (let n = 0; n < 400; n++) {
      await source.ready();
      source.send(LONG);
    }
    await expect.poll(() => source.server.device.status).toBe(0);
    read();
    expect(await status).toBe(0);
    const bytes = Buffer.concat(stdout);
    const got = frames(bytes);
    expect(got.every((frame) => Buffer.compare(frame, LONG) === 0)).toBe(true);
    expect(bytes.length).toBeGreaterThan(16 * 2 ** 20);
    expect(bytes.length).toBeLessThan(16 * 2 ** 20 + 2 * LONG.length);
    expect(errors[1]).toBe(`${got.length} frames, ${400 - got.length} lost as the reader is too slow`);
  });

  it('does not wait for a reader that has stopped when it is asked to end, and says what that costs', async () => {
    const [status] = await run(['-w', '-'], { slow: true });
    await source.ready();
    source.send(LONG);
    await expect.poll(() => Buffer.concat(stdout).length).toBeGreaterThan(LONG.length);
    stop.abort();
    expect(await status).toBe(0);
    const { length } = Buffer.concat(stdout);
    expect(errors[1]).toBe(`1 frames; the reader has not taken the last ${length} bytes`);
  });

  it('ends with 0 when it is asked to while it opens the port, which may never answer', async () => {
    const [status] = await run(['-w', '-'], { port: 'silent' });
    await expect.poll(() => stdout.length).toBeGreaterThan(0);
    stop.abort();
    expect(await status).toBe(0);
    expect(errors).toEqual([]);
  });

  it('ends with 1 when the port is none, and says so', async () => {
    const [status] = await run([], { port: 'no device' });
    expect(await status).toBe(1);
    expect(errors).toEqual([
      expect.stringMatching(
        /^Cannot use "virtnet" as a virtio device as asking for its config page failed: /,
      ),
    ]);
  });

  it('ends with 1 when the port goes away, and says so', async () => {
    const [status] = await run([]);
    await source.ready();
    await expect.poll(() => errors.length).toBe(1);
    source.server.close();
    expect(await status).toBe(1);
    expect(errors[1]).toMatch(/^Cannot use "virtnet" any more as its server has given it up/);
  });

  it.each([
    [['-c', '0'], "netdump: Cannot count frames as their number must be at least 1: current value is '0'"],
    [['-w', ''], "netdump: Cannot write frames as the file's name is empty"],
    [['-x'], "netdump: Unknown option '-x'"],
    [['-w', '/nosuch/x'], 'Cannot record to /nosuch/x as its directory must exist and be writable'],
  ])('%j ends with 1 and a sentence', async (args, message) => {
    const [status] = await run(args);
    expect(await status).toBe(1);
    expect(errors[0]).toContain(message);
  });

  it('ends with 1 without a port, and says how to get one', async () => {
    const [status] = await run([], { cap: false });
    expect(await status).toBe(1);
    expect(errors).toEqual([
      'Cannot listen as there is no port: give the task one, virtnet = vswitch:create(0, "type=monitor"); it has log',
    ]);
  });
});

describe('frameLine()', () => {
  it('is safe with anything', () => {
    expect(frameLine(new Uint8Array(4), 0, 4)).toBe('runt 4 bytes');
    const odd = Uint8Array.from([...new Uint8Array(12), 0x81, 0x00]);
    expect(frameLine(odd, 0, 14)).toBe('00:00:00:00:00:00 > 00:00:00:00:00:00 0x8100 14 bytes');
  });
});
