/** Hostile processes against the real switch: it lives, and two clients that behave lose no frame and little time. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { NetClient } from '#common/testing/net_client';
import { ethernet } from '#common/vnet/testing/mock_client';
import { SwitchProcess } from './switch_process.ts';

const MS = 900_000;
/** Frames at a time; fewer than the clients have buffers. */
const BATCH = 16;
/** Least share of the throughput without a hostile process: two cores are shared by all of them. */
const SHARE = 0.1;
/** For how long that share is looked for: other programs of the machine come and go between the measurements. */
const PATIENCE_MS = 180_000;

let lan: SwitchProcess;
let one: NetClient;
let two: NetClient;

beforeAll(async () => {
  lan = await SwitchProcess.start();
  one = await lan.client('1');
  two = await lan.client('2');
});

afterAll(async () => {
  await one.driver.close();
  await two.driver.close();
  await lan.close();
});

let number = 0;

/** Sends a batch and waits until it has arrived: whole, unchanged, in order. Others' frames are overlooked. */
async function exchange(from: NetClient, to: NetClient): Promise<void> {
  const frames = Array.from({ length: BATCH }, () => ethernet(-1, 1, { seed: number++, length: 1000 }));
  for (const frame of frames) from.send(frame);
  const ours = () => to.received.filter(({ length }) => length === 1000);
  await vi.waitFor(() => expect(ours().length).toBe(BATCH), { interval: 0, timeout: 240_000 });
  expect(ours().every((frame, n) => Buffer.compare(frame, frames[n] as Uint8Array) === 0)).toBe(true);
  to.received.length = 0;
  from.received.length = 0;
}

/** Batches per second until `ended` says so, both ways. */
async function throughput(ended: () => boolean): Promise<number> {
  const start = performance.now();
  let batches = 0;
  do {
    await exchange(one, two);
    await exchange(two, one);
    batches += 2;
  } while (!ended());
  return (batches * 1000) / (performance.now() - start);
}

/** What the pair has of its throughput while a hostile process does its deed, beginning and end included. */
async function shareDuring(deed: string): Promise<number> {
  const quiet = await throughput(after(300));
  let done = false;
  const misdeed = lan.misdeed(deed).finally(() => {
    done = true;
  });
  const busy = await throughput(() => done);
  expect(await misdeed).toEqual({ status: 0, signal: null });
  expect(lan.alive).toBe(true);
  console.log(`${deed}: ${(busy / quiet).toFixed(2)} of ${quiet.toFixed(0)} batches/s`);
  return busy / quiet;
}

function after(ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => performance.now() > end;
}

describe.runIf(process.arch === 'x64')('a hostile process', () => {
  it.each([
    'truncate',
    'remove',
    'kicks',
    'register',
    'connect',
    'hold',
    'garbage',
    'capture',
    'calls',
    'flood',
  ])(
    '%s: the others go on',
    async (deed) => {
      const before = lan.resources();
      const giveUp = performance.now() + PATIENCE_MS;
      let share: number;
      do share = await shareDuring(deed);
      while (share <= SHARE && performance.now() < giveUp);
      expect(share).toBeGreaterThan(SHARE);
      await expect.poll(() => lan.resources()).toEqual(before);
    },
    MS,
  );

  it('is heard when it truncates its files', async () => {
    const from = lan.output.length;
    await lan.misdeed('truncate');
    await expect.poll(() => lan.output.slice(from)).toContain('was truncated');
  });

  it(
    'that dies at any point of set-up and transfer leaves nothing behind in the switch',
    async () => {
      const before = lan.resources();
      let deaths = 0;
      for (let point = 0; ; point++) {
        const { signal } = await lan.misdeed('die', point);
        await exchange(one, two);
        if (signal === null) break;
        expect(signal).toBe('SIGKILL');
        deaths += 1;
      }
      expect(deaths).toBeGreaterThan(20);
      expect(lan.alive).toBe(true);
      await expect.poll(() => lan.resources()).toEqual(before);
    },
    MS,
  );
});
