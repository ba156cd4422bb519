/** Tasks and virtio-net clients for tests of a network device: real capabilities, rings, shared memory and doorbells. */
import type { Capability } from '#common/ipc/capability';
import { Ipc } from '#common/ipc/ipc';
import { DriverClient } from '#common/l4virtio/driver_client';
import { Arena } from '#common/shm/arena';
import { SharedMemories } from '#common/shm/dataspace';
import { Doorbells } from '#common/shm/doorbell';
import { featureSet, NET_F_MAC, NET_F_MRG_RXBUF } from '#common/virtio/features';
import { queueBytes } from '#common/virtio/layout';
import { NET_HDR_SIZE } from '#common/virtio/net_header';

const ENTRIES = 64;
const SLOT = 2048;
const RINGS = 2 * queueBytes(ENTRIES);
const RX = 0;
const TX = 1;

/** One task: everything that the environment of a program has. */
export class TestTask {
  readonly ipc: Ipc;
  readonly arena = new Arena(2 ** 26);
  readonly memories: SharedMemories;
  readonly doorbells: Doorbells;

  constructor(runDir: string, id: string) {
    this.ipc = new Ipc({ runDir, task: id.repeat(32) });
    this.memories = new SharedMemories(runDir, this.arena);
    this.doorbells = new Doorbells(runDir);
  }

  close(): void {
    this.ipc.close();
    this.doorbells.close();
    this.memories.close();
  }
}

/** A client with one slot per receive descriptor and as many for sending. */
export class NetClient {
  readonly driver: DriverClient;
  /** Frames without their headers. */
  readonly received: Uint8Array[] = [];
  resets = 0;
  configChanges = 0;
  readonly #arena: Arena;
  readonly #refill: boolean;
  #where = 0;
  #address = 0;
  #nextTx = 0;
  #nextRx = 0;
  /** Slot of each receive head. */
  readonly #slotOf = new Uint16Array(ENTRIES);

  private constructor(driver: DriverClient, arena: Arena, refill: boolean) {
    this.driver = driver;
    this.#arena = arena;
    this.#refill = refill;
  }

  /**
   * `buffers`: receive buffers at the start; they come back by themselves unless there were none. `features`: what is
   * asked for beside MAC and MRG_RXBUF.
   */
  static async open(
    task: TestTask,
    port: Capability,
    { buffers = ENTRIES, features = [] }: { buffers?: number; features?: readonly number[] } = {},
  ): Promise<NetClient> {
    let client: NetClient | undefined;
    const driver = await DriverClient.open(task, port, {
      name: 'virtnet',
      onInterrupt: () => client?.drain(),
      onNeedsReset: () => {
        if (client) client.resets += 1;
      },
      onConfigChange: () => {
        if (client) client.configChanges += 1;
      },
    });
    client = new NetClient(driver, task.arena, buffers > 0);
    const memory = await driver.allocate(RINGS + 2 * ENTRIES * SLOT);
    client.#where = memory.where + RINGS;
    client.#address = memory.address + RINGS;
    for (const queue of [RX, TX])
      await driver.configureQueue(queue, memory, queue * queueBytes(ENTRIES), ENTRIES);
    await driver.start(featureSet(NET_F_MAC, NET_F_MRG_RXBUF, ...features));
    client.give(buffers);
    return client;
  }

  /** Offers receive buffers of `length` bytes; notifies if the device wants it. */
  give(count: number, length = SLOT): void {
    const queue = this.driver.queue(RX);
    for (let n = 0; n < count; n++) this.#offer(this.#nextRx++ % ENTRIES, length);
    if (queue.flush()) this.driver.notify();
  }

  /** Sends a frame from the next slot; `address` instead of the slot's for one that is wrong, `header` instead of zeros. */
  send(frame: Uint8Array, address?: number, header: Uint8Array = new Uint8Array(NET_HDR_SIZE)): void {
    const queue = this.driver.queue(TX);
    while (queue.pop() >= 0);
    const at = (ENTRIES + (this.#nextTx++ % ENTRIES)) * SLOT;
    this.#arena.u8.set(header, this.#where + at);
    this.#arena.u8.set(frame, this.#where + at + NET_HDR_SIZE);
    queue.add(address ?? this.#address + at, NET_HDR_SIZE + frame.length, false);
    if (queue.flush()) this.driver.notify();
  }

  /** Takes what has been received. */
  drain(): void {
    const queue = this.driver.queue(RX);
    for (let head = queue.pop(); head >= 0; head = queue.pop()) {
      const slot = this.#slotOf[head] as number;
      const at = this.#where + slot * SLOT;
      this.received.push(this.#arena.u8.slice(at + NET_HDR_SIZE, at + queue.usedLength));
      if (this.#refill) this.#offer(slot, SLOT);
    }
    if (queue.flush()) this.driver.notify();
  }

  #offer(slot: number, length: number): void {
    const head = this.driver.queue(RX).add(this.#address + slot * SLOT, length, true);
    this.#slotOf[head] = slot;
  }
}
