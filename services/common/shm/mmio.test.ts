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
import { MMIO_BYTES, MmioClient, MmioServer } from './mmio.ts';

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

interface ChannelOptions {
  readonly onSlow?: () => void;
  readonly slowMs?: number;
  readonly bell?: Bell;
  /** Called when the device's process has ended. */
  readonly onEnd?: () => void;
}

/** A channel whose device is that process. */
function channelOf(device: ChildProcess, { onEnd = () => {}, bell = BELL, ...options }: ChannelOptions = {}) {
  const shared = new SharedArrayBuffer(MMIO_BYTES);
  const memory = new Memory(shared as unknown as ArrayBuffer);
  new MmioServer(memory, 0);
  const watch = new EndWatch(join(dir.path, `life${children.indexOf(device)}`), onEnd);
  watches.push(watch);
  const client = new MmioClient(memory, 0, bell, { ...options, lives: () => watch.check() });
  return { shared, memory, client };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** A word of the channel that nobody uses. */
const ASKED = 200;

/** Performs and answers with 0x1234, from another thread, what was asked for `ms` before; waits for ASKED first. */
async function answerAfter(shared: SharedArrayBuffer, ms: number): Promise<Worker> {
  const worker = new Worker(
    `const { workerData: { shared, ms, ASKED }, parentPort } = require('node:worker_threads');
     const words = new Int32Array(shared);
     parentPort.postMessage('ready');
     Atomics.wait(words, ASKED, 0);
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
     words[81] = 0x1234;
     Atomics.store(words, 32, Atomics.load(words, 16));
     Atomics.store(words, 80, Atomics.load(words, 64));`,
    { eval: true, workerData: { shared, ms, ASKED } },
  );
  await once(worker, 'message');
  return worker;
}

/** Lets `answerAfter` begin. */
function ask(shared: SharedArrayBuffer): void {
  const words = new Int32Array(shared);
  Atomics.store(words, ASKED, 1);
  Atomics.notify(words, ASKED);
}

describe('MmioClient', () => {
  it('waits for a device that is stopped, and says so once', async () => {
    const child = await sleeper();
    child.kill('SIGSTOP');
    let slow = 0;
    const onSlow = () => {
      slow++;
      ask(shared);
    };
    const { shared, client } = channelOf(child, { onSlow, slowMs: 50 });
    const worker = await answerAfter(shared, 100);
    expect(client.read32(8)).toBe(0x1234);
    expect(slow).toBe(1);
    await worker.terminate();
  });

  it('waits with a write when the ring is full and the device is stopped', async () => {
    const bell = { ring: () => ask(shared) } as Bell;
    const { shared, client, memory } = channelOf(await sleeper(), { bell });
    for (let n = 0; n < 2048; n++) client.write32(0, n);
    const worker = await answerAfter(shared, 10);
    expect(memory.u32[ASKED]).toBe(0);
    client.write32(0, 7);
    expect([memory.u32[ASKED], memory.u32[16]]).toEqual([1, 2049]);
    await worker.terminate();
  });

  it('reads all ones soon after the process has ended, also while the read waits', async () => {
    const child = await sleeper();
    const exit = once(child, 'exit');
    const { client } = channelOf(child, { onSlow: () => child.kill('SIGKILL'), slowMs: 50 });
    expect(client.read32(8)).toBe(ALL_ONES);
    await exit;
    expect(child.signalCode).toBe('SIGKILL');
    expect(client.read32(8)).toBe(ALL_ONES);
  });

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
