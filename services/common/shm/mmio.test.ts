/** Register channels to a device that does not answer: stopped, ended, or another process by now. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import { type TestRunDir, testRunDir } from '#common/testing/run_dir';
import type { Bell } from './doorbell.ts';
import { EndWatch } from './lifeline.ts';
import { MMIO_BYTES, MmioClient, type MmioClientOptions, MmioServer } from './mmio.ts';

const ALL_ONES = 0xffff_ffff;
const BELL = { ring: () => {} } as unknown as Bell;

let dir: TestRunDir;
const children: ChildProcess[] = [];
const watches: EndWatch[] = [];
beforeEach(() => {
  dir = testRunDir();
});
afterEach(async () => {
  for (const watch of watches.splice(0)) watch.leave();
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  dir[Symbol.dispose]();
});

/** A process that holds a lifeline and never looks at its channel. */
async function sleeper(): Promise<ChildProcess> {
  const path = join(dir.path, `life${children.length}`);
  const script = `mkfifo "${path}"; exec 3<>"${path}"; echo held; exec sleep 60`;
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

interface ChannelOptions extends Omit<MmioClientOptions, 'lives'> {
  /** Called when the device's process has ended. */
  readonly onEnd?: () => void;
}

/** A channel whose device is that process. */
function channelOf(device: ChildProcess, { onEnd = () => {}, ...options }: ChannelOptions = {}) {
  const shared = new SharedArrayBuffer(MMIO_BYTES);
  const memory = new Memory(shared as unknown as ArrayBuffer);
  new MmioServer(memory, 0);
  const watch = new EndWatch(join(dir.path, `life${children.indexOf(device)}`), onEnd);
  watches.push(watch);
  const client = new MmioClient(memory, 0, BELL, { ...options, lives: () => watch.check() });
  return { shared, memory, client };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** A device in another thread: when `answer` is called it performs all writes, and answers the read with 0x1234. */
async function device(shared: SharedArrayBuffer): Promise<{ answer: () => void; worker: Worker }> {
  const go = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { workerData: { shared, go }, parentPort } = require('node:worker_threads');
     const words = new Int32Array(shared);
     parentPort.postMessage('ready');
     Atomics.wait(go, 0, 0);
     words[81] = 0x1234;
     Atomics.store(words, 32, Atomics.load(words, 16));
     Atomics.store(words, 80, Atomics.load(words, 64));`,
    { eval: true, workerData: { shared, go } },
  );
  await once(worker, 'message');
  const answer = (): void => {
    Atomics.store(go, 0, 1);
    Atomics.notify(go, 0);
  };
  return { answer, worker };
}

describe('MmioClient', () => {
  it('waits for a device that is stopped, and says so once', async () => {
    const child = await sleeper();
    child.kill('SIGSTOP');
    let slow = 0;
    const onSlow = () => {
      slow++;
      answer();
    };
    const { shared, client } = channelOf(child, { onSlow, slowMs: 50 });
    const { answer, worker } = await device(shared);
    expect(client.read32(8)).toBe(0x1234);
    expect(slow).toBe(1);
    await worker.terminate();
  });

  it('waits with a write when the ring is full and the device is stopped', async () => {
    const { shared, client, memory } = channelOf(await sleeper(), { onSlow: () => answer(), slowMs: 50 });
    const { answer, worker } = await device(shared);
    for (let n = 0; n < 2048; n++) client.write32(0, n);
    expect(memory.u32[32]).toBe(0);
    client.write32(0, 7);
    expect([memory.u32[16], memory.u32[32]]).toEqual([2049, 2048]);
    await worker.terminate();
  });

  it('reads all ones soon after the process has ended, also while the read waits', async () => {
    const child = await sleeper();
    let killed = 0;
    const onSlow = () => {
      child.kill('SIGKILL');
      killed++;
    };
    const { client } = channelOf(child, { onSlow, slowMs: 50 });
    expect([client.read32(8), killed]).toEqual([ALL_ONES, 1]);
    expect([client.read32(8), killed]).toEqual([ALL_ONES, 1]);
  });

  it.each(['read', 'write'])(
    'gives a device up that leaves a %s waiting for longer than asked',
    async (what) => {
      const told: string[] = [];
      const { client, memory } = channelOf(await sleeper(), {
        slowMs: 10,
        onSlow: () => told.push('slow'),
        giveUpMs: 30,
        onGivenUp: () => told.push('given up'),
      });
      if (what === 'write') for (let n = 0; n <= 2048; n++) client.write32(0, n);
      expect([client.read32(8), client.read32(8)]).toEqual([ALL_ONES, ALL_ONES]);
      expect(told).toEqual(['slow', 'given up']);
      // What the NIC is told before it is left still reaches it, if it ever wakes.
      client.write32(0xd8, 1);
      expect([client.closed, memory.u32[16]]).toEqual([true, what === 'write' ? 2048 : 1]);
    },
  );

  it('the end of the process is told by the event loop, too', async () => {
    const child = await sleeper();
    let ended = 0;
    channelOf(child, { onEnd: () => ended++ });
    await kill(child);
    await expect.poll(() => ended).toBe(1);
  });

  it('drops writes into a full ring of a device that has ended', async () => {
    const child = await sleeper();
    const { client, memory } = channelOf(child);
    await kill(child);
    for (let n = 0; n < 2048; n++) client.write32(0, n);
    client.write32(0, 1);
    expect(memory.u32[16]).toBe(2048);
  });
});
