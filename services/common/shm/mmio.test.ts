/** Register channels to a device that does not answer: stopped, ended, or another process by now. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { Memory } from '#common/memory';
import type { Bell } from './doorbell.ts';
import { MMIO_BYTES, MmioClient, type MmioClientOptions, MmioServer } from './mmio.ts';

const ALL_ONES = 0xffff_ffff;
const PID = 1;
const START_TIME = 2;
const PID_NAMESPACE = 3;
const BELL = { ring: () => {} } as unknown as Bell;

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

function startTimeOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[19]);
}

/** A channel whose device is the process `pid`, which never looks at it. */
function channelOf(pid: number, options: MmioClientOptions = {}) {
  const shared = new SharedArrayBuffer(MMIO_BYTES);
  const memory = new Memory(shared as unknown as ArrayBuffer);
  new MmioServer(memory, 0);
  memory.u32[PID] = pid;
  memory.u32[START_TIME] = startTimeOf(pid);
  return { shared, memory, client: new MmioClient(memory, 0, BELL, options) };
}

function sleeper(): ChildProcess & { pid: number } {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  children.push(child);
  return child as ChildProcess & { pid: number };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

function timed(action: () => number): { value: number; ms: number } {
  const start = performance.now();
  const value = action();
  return { value, ms: performance.now() - start };
}

/** Answers every read after `ms` with 0x1234, from another thread. */
async function answerAfter(shared: SharedArrayBuffer, ms: number): Promise<Worker> {
  const worker = new Worker(
    `const { workerData: { shared, ms }, parentPort } = require('node:worker_threads');
     const words = new Int32Array(shared);
     parentPort.postMessage('ready');
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
     words[81] = 0x1234;
     Atomics.store(words, 32, Atomics.load(words, 16));
     Atomics.store(words, 80, Atomics.load(words, 64));`,
    { eval: true, workerData: { shared, ms } },
  );
  await once(worker, 'message');
  return worker;
}

describe('MmioClient', () => {
  it('waits for a device that is stopped, and says so once', async () => {
    const child = sleeper();
    child.kill('SIGSTOP');
    let slow = 0;
    const { shared, client } = channelOf(child.pid, { onSlow: () => slow++, slowMs: 50 });
    const worker = await answerAfter(shared, 200);
    const { value, ms } = timed(() => client.read32(8));
    expect(value).toBe(0x1234);
    expect(ms).toBeGreaterThan(50);
    expect(slow).toBe(1);
    await worker.terminate();
  });

  it('waits with a write when the ring is full and the device is stopped', async () => {
    const { shared, client, memory } = channelOf(process.pid);
    for (let n = 0; n < 2048; n++) client.write32(0, n);
    const worker = await answerAfter(shared, 50);
    client.write32(0, 7);
    expect(memory.u32[16]).toBe(2049);
    await worker.terminate();
  });

  it('reads all ones within 200 ms when the process has ended', async () => {
    const child = sleeper();
    const { client } = channelOf(child.pid);
    await kill(child);
    const { value, ms } = timed(() => client.read32(8));
    expect(value).toBe(ALL_ONES);
    expect(ms).toBeLessThan(200);
  });

  it('reads all ones when the process has ended and nobody has waited for it', async () => {
    // The shell's child becomes one of a program that never waits.
    const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(parent);
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    const { client } = channelOf(pid);
    process.kill(pid, 'SIGKILL');
    expect(client.read32(8)).toBe(ALL_ONES);
  });

  it('reads all ones when the pid is that of a later process', () => {
    const { client, memory } = channelOf(process.pid);
    memory.u32[START_TIME] = ((memory.u32[START_TIME] as number) - 1) >>> 0;
    expect(client.read32(8)).toBe(ALL_ONES);
  });

  it('gives up after some time when the device is in another pid namespace', () => {
    const { client, memory } = channelOf(process.pid, { unseenMs: 100 });
    memory.u32[PID_NAMESPACE] = 1;
    const { value, ms } = timed(() => client.read32(8));
    expect(value).toBe(ALL_ONES);
    expect(ms).toBeGreaterThan(90);
  });

  it('drops writes into a full ring of a device that has ended', async () => {
    const child = sleeper();
    const { client, memory } = channelOf(child.pid);
    await kill(child);
    for (let n = 0; n < 2048; n++) client.write32(0, n);
    client.write32(0, 1);
    expect(memory.u32[16]).toBe(2048);
  });
});
