/**
 * A program for labs of tests: `rom/frame_client.js send N LENGTH` sends numbered frames to everybody on `virtnet`;
 * `rom/frame_client.js sink N` receives N frames and prints the hash of all their bytes.
 */
import { createHash } from 'node:crypto';
import { DriverClient } from '#common/l4virtio/driver_client';
import type { TaskEnv } from '#common/task/env';
import { F_VERSION_1, featureSet } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { numberedFrame } from './numbered_frame.ts';

const ENTRIES = 256;
const SLOT = 2048;
const HEADER = 12;
const RINGS = 2 * queueBytes(ENTRIES);
const [RX, TX] = [0, 1];

export async function main(env: TaskEnv): Promise<number> {
  const [, what, count, length] = env.argv;
  const frames = new FrameClient(env);
  await frames.open();
  console.log(`${what} is ready`);
  if (what === 'send') await frames.send(Number(count), Number(length));
  else console.log(`received ${await frames.receive(Number(count))}`);
  await frames.close();
  console.log(`${what} is done`);
  return 0;
}

class FrameClient {
  readonly #env: TaskEnv;
  #driver: DriverClient | undefined;
  #where = 0;
  #address = 0;
  #wake: () => void = () => {};

  constructor(env: TaskEnv) {
    this.#env = env;
  }

  async open(): Promise<void> {
    const port = this.#env.caps.get('virtnet');
    if (!port) throw new Error('there is no virtnet');
    const driver = await DriverClient.open(this.#env, port, {
      name: 'virtnet',
      onInterrupt: () => this.#wake(),
      onNeedsReset: (err) => {
        throw err;
      },
    });
    const memory = await driver.allocate(RINGS + ENTRIES * SLOT);
    this.#where = memory.where + RINGS;
    this.#address = memory.address + RINGS;
    for (const queue of [RX, TX])
      await driver.configureQueue(queue, memory, queue * queueBytes(ENTRIES), ENTRIES);
    await driver.start(featureSet(F_VERSION_1));
    this.#driver = driver;
  }

  async close(): Promise<void> {
    await this.#driver?.close();
  }

  async send(count: number, length: number): Promise<void> {
    const driver = this.#driver as DriverClient;
    const queue = driver.queue(TX);
    let free = ENTRIES;
    for (let n = 0; n < count; n++) {
      if (free === 0) {
        if (queue.flush()) driver.notify();
        while (free === 0) {
          for (; queue.pop() >= 0; free++);
          if (free === 0) await this.#interrupt(TX);
        }
      }
      const slot = (n % ENTRIES) * SLOT;
      this.#env.arena.u8.fill(0, this.#where + slot, this.#where + slot + HEADER);
      this.#env.arena.u8.set(numberedFrame(n, length), this.#where + slot + HEADER);
      queue.add(this.#address + slot, HEADER + length, false);
      free -= 1;
    }
    if (queue.flush()) driver.notify();
    while (free < ENTRIES) {
      for (; queue.pop() >= 0; free++);
      if (free < ENTRIES) await this.#interrupt(TX);
    }
  }

  async receive(count: number): Promise<string> {
    const driver = this.#driver as DriverClient;
    const queue = driver.queue(RX);
    const hash = createHash('sha256');
    for (let n = 0; n < ENTRIES; n++) queue.add(this.#address + n * SLOT, SLOT, true);
    queue.flush();
    console.log('sink has buffers');
    for (let received = 0; received < count; ) {
      const head = queue.pop();
      if (head < 0) {
        if (queue.flush()) driver.notify();
        await this.#interrupt(RX);
        continue;
      }
      const at = this.#where + head * SLOT;
      hash.update(this.#env.arena.u8.slice(at + HEADER, at + queue.usedLength));
      queue.add(this.#address + head * SLOT, SLOT, true);
      received += 1;
    }
    return hash.digest('hex');
  }

  async #interrupt(which: number): Promise<void> {
    if (this.#driver?.queue(which).enableInterrupts()) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
