/**
 * The config page of a device as its driver sees it: what the device says is checked before use and
 * named in errors, for the device can write anything there at any time.
 */
import { L4Error, type L4ErrorName } from '#common/ipc/errors';
import type { Memory } from '#common/memory';
import * as page from '#common/virtio/config_page';
import type { Features } from '#common/virtio/features';
import { isQueueSize } from '#common/virtio/layout';

const { CONFIG } = page;

/** An error about a whole device: `Cannot use "virtnet" as a virtio device as ...`. */
export function deviceError(name: string, errno: L4ErrorName, why: string): L4Error {
  return new L4Error(errno, `Cannot use "${name}" as a virtio device as ${why}`);
}

export class RemotePage {
  readonly #page: page.ConfigPage;
  readonly #name: string;
  #numQueues = 0;
  #queuesOffset = 0;

  /** The page at byte `at` of `memory`. Throws L4Error ENODEV when it is not one of an L4virtio device. */
  constructor(memory: Memory, at: number, name: string) {
    this.#page = new page.ConfigPage(memory, at);
    this.#name = name;
    this.#expect('magic', CONFIG.MAGIC, page.CONFIG_MAGIC);
    this.#expect('version', CONFIG.VERSION, page.CONFIG_VERSION);
  }

  get status(): number {
    return this.#page.read(CONFIG.STATUS);
  }

  get numQueues(): number {
    return this.#numQueues;
  }

  /** What the device offers now. */
  get offered(): Features {
    return this.#page.readFeatures(CONFIG.DEV_FEATURES_MAP);
  }

  /** What the driver accepts. */
  set accepted(features: Features) {
    this.#page.writeFeatures(CONFIG.DRIVER_FEATURES_MAP, features);
  }

  takeIrq(): number {
    return this.#page.takeIrq();
  }

  /** Reads what kind of device this is. Throws L4Error ENODEV unless it has this id and at least `queues` queues. */
  identify(deviceId: number, queues: number): void {
    this.#expect('device id', CONFIG.DEVICE_ID, deviceId);
    const count = this.#page.read(CONFIG.NUM_QUEUES);
    const offset = this.#page.read(CONFIG.QUEUES_OFFSET);
    if (count < queues) {
      throw this.#error('ENODEV', `it must have at least ${queues} queues: current value is ${count}`);
    }
    if (offset < CONFIG.DEVICE_CONFIG || offset + count * page.QUEUE_ENTRY_SIZE > page.CONFIG_PAGE_SIZE) {
      throw this.#error(
        'ENODEV',
        `its ${count} queues must be described inside the config page: current offset is ${offset}`,
      );
    }
    this.#numQueues = count;
    this.#queuesOffset = offset;
  }

  /** The entry of a queue. Throws L4Error ERANGE. */
  queue(index: number): page.QueueEntry {
    if (!(index >= 0 && index < this.#numQueues)) {
      throw this.#error('ERANGE', `queue must be 0..${this.#numQueues - 1}: current value is ${index}`);
    }
    return this.#page.queue(this.#queuesOffset, index);
  }

  /** A queue's largest size, a power of two. Throws L4Error ERANGE, EIO. */
  queueMax(index: number): number {
    const max = this.queue(index).numMax;
    if (isQueueSize(max)) return max;
    throw this.#error('EIO', `queue ${index} must offer a power of two of entries: current value is ${max}`);
  }

  /** Throws L4Error EIO unless the status has the wanted bits and no fail bit. `what` was being done. */
  checkStatus(what: string, wanted: number): void {
    const { status } = this;
    const failed = (status & page.STATUS_FAIL_BITS) !== 0;
    if (!failed && (status & wanted) === wanted) return;
    const verdict = failed ? 'the device failed' : 'the device refused';
    throw this.#error('EIO', `${what} failed: ${verdict} (status ${hex(status)}); its log says why`);
  }

  /** A copy of the device config, re-read while the device is changing it [VIRTIO 1.2 §2.5.1]. */
  deviceConfig(bytes: number): Uint8Array {
    for (let tries = 0; ; tries++) {
      const before = this.#page.read(CONFIG.GENERATION);
      const config = this.#page.deviceConfig(bytes);
      if (this.#page.read(CONFIG.GENERATION) === before || tries === 3) return config;
    }
  }

  #expect(field: string, offset: number, wanted: number): void {
    const value = this.#page.read(offset);
    if (value === wanted) return;
    throw this.#error('ENODEV', `its ${field} must be ${hex(wanted)}: current value is ${hex(value)}`);
  }

  #error(errno: L4ErrorName, why: string): L4Error {
    return deviceError(this.#name, errno, why);
  }
}

/** For messages. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
