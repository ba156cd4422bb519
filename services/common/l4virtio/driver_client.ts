/**
 * Driver half of the L4virtio transport: what the stock client of L4Re does, in its order (F4.5).
 *
 *   open()            device_config, map the page, magic and version, status 0 1 3, notification irq
 *   allocate()        memory for rings and buffers, register_ds; register() for memory of others
 *   configureQueue()  config_queue for each queue
 *   start()           ICU bind, features, status 0x0b and 0x0f; then queue(i) and notify() are for use
 *
 * From open() to close() a call is pending that ends with the device: onGone, or with `reconnect` all of this again.
 * Every failure is an L4Error that says which step failed and why. What the page says is checked once
 * and copied: the device can change it at any time.
 */
import type { Capability } from '#common/ipc/capability';
import { L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import type { CallOptions, Client } from '#common/ipc/service';
import type { Memory } from '#common/memory';
import type { Mapping, SharedMemories, SharedMemoryRef } from '#common/shm/dataspace';
import type { Bell, Doorbell, Doorbells } from '#common/shm/doorbell';
import * as page from '#common/virtio/config_page';
import { DriverQueue } from '#common/virtio/driver_queue';
import {
  F_VERSION_1,
  type Features,
  featureNames,
  featureSet,
  hasFeature,
  intersect,
  NET_F_MAC,
} from '#common/virtio/features';
import { layoutQueue, MAX_QUEUE_SIZE, queueBytes } from '#common/virtio/layout';
import { Icu, L4virtio } from '../../../proto/gen/services.js';
import { type ReconnectOptions, SERVER_DIED, untilBack, WAIT_MS } from './reconnect.ts';
import { deviceError, hex, RemotePage } from './remote_page.ts';

/** Device address of the first registered byte (F4.4). */
const FIRST_ADDRESS = 2 * 2 ** 20;
const PAGE = 4096;
/** How long a device may take to answer the farewell. */
const CLOSE_MS = 1000;
/** The longest deadline that a timer can have. */
const NO_LIMIT_MS = 2 ** 31 - 1;
/** `code` of the error when the device's server has given it up in order. */
export const DEVICE_CLOSED = 'L4VIRTIO_CLOSED';

/** The parts of a task's environment that a driver needs. */
export interface DriverEnv {
  readonly ipc: Pick<Ipc, 'client' | 'epitaph'>;
  readonly arena: Memory;
  readonly memories: Pick<SharedMemories, 'create' | 'open'>;
  readonly doorbells: Pick<Doorbells, 'create' | 'open'>;
}

export interface DriverOptions {
  /** Name of the capability, for messages. */
  readonly name: string;
  /** Default 1, network. */
  readonly deviceId?: number;
  /** Queues that the driver needs; default 2. */
  readonly queues?: number;
  /** The device has used something, or says so. From the event loop. */
  onInterrupt(): void;
  /** DEVICE_NEEDS_RESET: the queues do not work any more; `reset()` or `close()`. */
  onNeedsReset?(error: L4Error): void;
  /**
   * The device is gone for good: its server has ended (code IPC_SERVER_DIED), or has given it up (DEVICE_CLOSED).
   * Default: `onNeedsReset`.
   */
  onGone?(error: L4Error): void;
  /** A server that has died may come back with the device: `onGone` only when it does not. Default: it is gone at once. */
  readonly reconnect?: ReconnectOptions;
  /** The device config has changed. */
  onConfigChange?(): void;
  /** Abandons calls in progress. */
  readonly signal?: AbortSignal;
}

/** Memory that the device sees: byte `where` of the arena is device address `address`. */
export interface DeviceMemory {
  readonly where: number;
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}

/** Memory that was registered: what `register_ds` is to be told again. */
interface Registered {
  readonly ref: SharedMemoryRef;
  readonly size: number;
  readonly address: number;
}

/** Where the rings of a queue lie. */
interface Rings {
  readonly size: number;
  readonly where: number;
  readonly address: number;
}

export class DriverClient {
  readonly #env: DriverEnv;
  readonly #options: DriverOptions;
  readonly #device: Client<typeof L4virtio>;
  readonly #icu: Client<typeof Icu>;
  readonly #doorbell: Doorbell;
  readonly #cap: Capability;
  readonly #owned: Mapping[] = [];
  readonly #registered: Registered[] = [];
  readonly #layouts = new Map<number, Rings>();
  readonly #queues = new Map<number, DriverQueue>();
  readonly #callOptions: CallOptions;
  readonly #watching = new AbortController();
  #pageMapping: Mapping | undefined;
  #remote: RemotePage | undefined;
  #bell: Bell | undefined;
  #offered: Features = featureSet();
  #wanted: Features = featureSet();
  #features: Features = featureSet();
  #nextAddress = FIRST_ADDRESS;
  #gone: L4Error | undefined;
  /** From the end of `start` on. */
  #running = false;
  /** The server has died and may come back. */
  #away = false;
  #closed = false;

  private constructor(env: DriverEnv, cap: Capability, options: DriverOptions) {
    this.#env = env;
    this.#cap = cap;
    this.#options = options;
    this.#device = env.ipc.client(L4virtio, cap);
    this.#icu = env.ipc.client(Icu, cap);
    this.#callOptions = options.signal ? { signal: options.signal } : {};
    this.#doorbell = env.doorbells.create();
    this.#doorbell.listen(() => this.#onRing());
  }

  /**
   * Finds the device behind a capability and greets it. Throws L4Error ENODEV (not such a device), EIO (the
   * device failed), or the error of the step that failed; nothing is left open then.
   */
  static async open(env: DriverEnv, cap: Capability, options: DriverOptions): Promise<DriverClient> {
    const client = new DriverClient(env, cap, options);
    try {
      await client.#mapPage(client.#firstCall);
      await client.#greet();
      void client.#watch();
      return client;
    } catch (err) {
      await client.close();
      throw err;
    }
  }

  /** A patient driver waits for a server that is away now as for one that goes later. */
  get #firstCall(): CallOptions {
    const { patient, waitMs = WAIT_MS } = this.#options.reconnect ?? {};
    return patient ? { ...this.#callOptions, patient, deadlineMs: waitMs } : this.#callOptions;
  }

  /** Features that both sides agreed on; valid after `start`. */
  get features(): Features {
    return this.#features;
  }

  get numQueues(): number {
    return this.#page.numQueues;
  }

  /** The device's status byte as it is now. */
  get status(): number {
    return this.#page.status;
  }

  /** The MAC address of a network device; undefined when it has not told one. */
  get mac(): Uint8Array | undefined {
    return hasFeature(this.#offered, NET_F_MAC) ? this.deviceConfig(6) : undefined;
  }

  /** A copy of the first `bytes` bytes of the device config. */
  deviceConfig(bytes: number): Uint8Array {
    return this.#page.deviceConfig(bytes);
  }

  /** The queue's largest size, or `wanted` if that is smaller. A power of two. Throws L4Error ERANGE, EIO. */
  queueSize(index: number, wanted = MAX_QUEUE_SIZE): number {
    return Math.min(this.#page.queueMax(index), wanted);
  }

  /** Makes memory of at least `bytes` bytes, zeroed, and registers it. Given back by `close`. */
  async allocate(bytes: number): Promise<DeviceMemory> {
    const mapping = await this.#step('allocating memory', () => this.#env.memories.create(bytes));
    try {
      const memory = await this.register(mapping);
      this.#owned.push(mapping);
      return memory;
    } catch (err) {
      mapping.close();
      throw err;
    }
  }

  /** Registers memory that belongs to somebody else, e.g. a driver's packet buffers; it must outlive this client. */
  async register(memory: { offset: number; size: number; ref: SharedMemoryRef }): Promise<DeviceMemory> {
    const { ref, size } = memory;
    const address = this.#nextAddress;
    await this.#register({ ref, size, address });
    this.#registered.push({ ref, size, address });
    this.#nextAddress = address + Math.ceil(size / PAGE) * PAGE;
    return { where: memory.offset, address, size };
  }

  /**
   * Puts the rings of a queue at byte `at` (16-aligned) of registered memory, where they take
   * `queueBytes(size)` bytes, and tells the device.
   */
  async configureQueue(index: number, memory: DeviceMemory, at: number, size: number): Promise<void> {
    if (at % 16 !== 0 || at + queueBytes(size) > memory.size) {
      throw new RangeError(
        `Cannot put ${size} entries at ${at} as they need ${queueBytes(size)} bytes, 16-aligned, of ${memory.size}`,
      );
    }
    const rings = { size, where: memory.where + at, address: memory.address + at };
    await this.#configure(index, rings);
    this.#layouts.set(index, rings);
  }

  /** Negotiates what is both wanted and offered (VERSION_1 always) and starts the queues. Returns the features. */
  async start(wanted: Features): Promise<Features> {
    this.#wanted = wanted;
    try {
      await this.#startQueues();
      this.#running = true;
      return this.#features;
    } catch (err) {
      this.#queues.clear();
      await this.#device.setStatus({ status: page.STATUS_FAILED }, { deadlineMs: CLOSE_MS }).catch(() => {});
      throw err;
    }
  }

  /** A queue after `start`. */
  queue(index: number): DriverQueue {
    const queue = this.#queues.get(index);
    if (!queue)
      throw new RangeError(`Cannot use queue ${index} of "${this.#options.name}" as it is not started`);
    return queue;
  }

  /** Notifies the device: when a `flush()` has said so. */
  notify(): void {
    this.#bell?.ring();
  }

  /** Back to where `open` ended; registered memory stays registered. Configure the queues and start again. */
  async reset(): Promise<void> {
    this.#running = false;
    this.#queues.clear();
    this.#layouts.clear();
    await this.#greet();
  }

  /** Resets the device, if it still answers, and gives back everything that `open` and `allocate` took. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watching.abort();
    this.#queues.clear();
    // A device that is gone needs no farewell.
    if (this.#remote && !this.#away)
      await this.#device.setStatus({ status: 0 }, { deadlineMs: CLOSE_MS }).catch(() => {});
    for (const mapping of this.#owned) mapping.close();
    this.#pageMapping?.close();
    this.#doorbell.close();
    this.#bell?.close();
  }

  /** There is one as soon as `open` has succeeded. */
  get #page(): RemotePage {
    if (!this.#remote) throw new Error(`the config page of ${this.#options.name} is not mapped yet`);
    return this.#remote;
  }

  async #mapPage(options: CallOptions = this.#callOptions): Promise<void> {
    const { memory, offset } = await this.#step('asking for its config page', () =>
      this.#device.deviceConfig({}, options),
    );
    const mapping = await this.#step('mapping its config page', () => {
      if (!memory?.writable) throw new L4Error('EINVAL', 'the page must be writable');
      if (offset % PAGE !== 0 || offset + PAGE > (memory.size ?? 0)) {
        throw new L4Error(
          'EINVAL',
          `the page must lie page-aligned inside ${memory.size} bytes: current offset is ${offset}`,
        );
      }
      return this.#env.memories.open(memory);
    });
    this.#pageMapping?.close();
    this.#pageMapping = mapping;
    this.#remote = new RemotePage(this.#env.arena, mapping.offset + offset, this.#options.name);
  }

  async #register({ ref, size, address }: Registered): Promise<void> {
    await this.#step(`registering ${size} bytes of memory`, () =>
      this.#device.registerDs({ memory: { ...ref }, base: address, offset: 0, size }, this.#callOptions),
    );
  }

  async #configure(index: number, { size, address }: Rings): Promise<void> {
    const entry = this.#page.queue(index);
    entry.layout = layoutQueue(size, address);
    entry.ready = true;
    await this.#step(`configuring queue ${index}`, () =>
      this.#device.configQueue({ index }, this.#callOptions),
    );
  }

  async #startQueues(): Promise<void> {
    await this.#step('binding the interrupt', () =>
      this.#icu.bind({ irq: 0, object: { name: this.#doorbell.name } }, this.#callOptions),
    );
    await this.#negotiate(this.#wanted);
    for (const [index, { size, where }] of this.#layouts) {
      const name = `queue ${index} of ${this.#options.name}`;
      this.#queues.set(
        index,
        new DriverQueue(this.#env.arena, layoutQueue(size, where), this.#features, name),
      );
    }
    await this.#setStatus(page.STATUS_RUNNING);
    this.#page.checkStatus('starting the queues', page.STATUS_RUNNING);
  }

  /** Waits for the device's end. A device that does not know this call is not watched. */
  async #watch(): Promise<void> {
    const { name, signal } = this.#options;
    const end = signal ? AbortSignal.any([signal, this.#watching.signal]) : this.#watching.signal;
    let gone = new L4Error(
      'EIPC_NOT_EXISTENT',
      `Cannot use "${name}" any more as its server has given it up`,
      {
        code: DEVICE_CLOSED,
      },
    );
    try {
      await this.#device.watch({}, { signal: end, deadlineMs: NO_LIMIT_MS });
    } catch (cause) {
      const { errno, code, message } = toL4Error(cause);
      if (errno !== L4_ERRNO.EIPC_NOT_EXISTENT) return;
      gone = new L4Error(errno, `Cannot use "${name}" any more: ${message}`, { code, cause });
    }
    if (end.aborted) return;
    const { reconnect } = this.#options;
    if (reconnect && gone.code === SERVER_DIED && this.#running) {
      const failure = await this.#comeBack(reconnect, gone, end);
      if (!failure || end.aborted) return;
      gone = failure;
    }
    this.#gone = gone;
    const { onGone, onNeedsReset } = this.#options;
    if (onGone) onGone(gone);
    else onNeedsReset?.(gone);
  }

  /** Waits until the device runs again. The error says that it never will. */
  async #comeBack(
    options: ReconnectOptions,
    death: L4Error,
    signal: AbortSignal,
  ): Promise<L4Error | undefined> {
    const since = performance.now();
    const { mac } = this;
    const device = {
      name: this.#options.name,
      setUp: (deadlineMs: number) =>
        this.#setUpAgain(mac, { signal, deadlineMs, patient: options.patient ?? false }),
      epitaph: () => this.#env.ipc.epitaph(this.#cap),
    };
    this.#away = true;
    options.onDown();
    try {
      await untilBack(device, options, death);
    } catch (err) {
      return toL4Error(err);
    }
    this.#away = false;
    void this.#watch();
    options.onBack(performance.now() - since);
    return undefined;
  }

  /** As `open` to `start`, with memory and rings where they are. */
  async #setUpAgain(mac: Uint8Array | undefined, options: CallOptions): Promise<void> {
    await this.#mapPage(options);
    this.#bell?.close();
    this.#bell = undefined;
    await this.#greet();
    if (mac && Buffer.compare(mac, this.mac ?? new Uint8Array(0)) !== 0)
      throw deviceError(this.#options.name, 'ENODEV', 'it has another MAC address than before');
    for (const memory of this.#registered) await this.#register(memory);
    for (const [index, rings] of this.#layouts) {
      const max = this.#page.queueMax(index);
      if (max < rings.size)
        throw deviceError(
          this.#options.name,
          'ENODEV',
          `queue ${index} had ${rings.size} entries: it has ${max}`,
        );
      await this.#configure(index, rings);
    }
    await this.#startQueues();
  }

  /** Status 0, 1, 3, then what kind of device it is. */
  async #greet(): Promise<void> {
    for (const status of [0, page.STATUS_ACKNOWLEDGE, page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER])
      await this.#setStatus(status);
    this.#page.checkStatus('greeting it', page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER);
    if (!this.#bell) {
      this.#bell = await this.#step('asking for its notification interrupt', async () => {
        const { irq } = await this.#device.deviceNotificationIrq({ index: 0 }, this.#callOptions);
        return this.#env.doorbells.open(irq?.name ?? '');
      });
    }
    this.#page.identify(this.#options.deviceId ?? page.DEVICE_ID_NET, this.#options.queues ?? 2);
    this.#offered = this.#page.offered;
  }

  async #negotiate(wanted: Features): Promise<void> {
    const version1 = featureSet(F_VERSION_1);
    const accepted = intersect({ lo: wanted.lo, hi: (wanted.hi | version1.hi) >>> 0 }, this.#offered);
    this.#page.accepted = accepted;
    const status = page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER | page.STATUS_FEATURES_OK;
    await this.#setStatus(status);
    const what = `negotiating features (offered ${featureNames(this.#offered)}, accepted ${featureNames(accepted)})`;
    this.#page.checkStatus(what, status);
    this.#features = accepted;
  }

  async #setStatus(status: number): Promise<void> {
    await this.#step(`setting status ${hex(status)}`, () =>
      this.#device.setStatus({ status }, this.#callOptions),
    );
  }

  #onRing(): void {
    if (this.#closed) return;
    const reasons = this.#page.takeIrq();
    if ((reasons & page.IRQ_CONFIG) !== 0) {
      if ((this.status & page.STATUS_NEEDS_RESET) === 0) this.#options.onConfigChange?.();
      else {
        const why = 'the device met an error and asks for a reset; its log says why';
        this.#options.onNeedsReset?.(deviceError(this.#options.name, 'EIO', why));
      }
    }
    if (reasons !== page.IRQ_CONFIG) this.#options.onInterrupt();
  }

  /** Runs a step; its error says which one it was. */
  async #step<T>(what: string, run: () => T | Promise<T>): Promise<T> {
    try {
      // Nobody would answer, and nobody would say so.
      if (this.#gone) throw this.#gone;
      if (this.#closed) throw new L4Error('EIPC_CANCELED', 'the driver has closed it');
      return await run();
    } catch (err) {
      const { errno, code, message } = toL4Error(err);
      throw new L4Error(
        errno,
        `Cannot use "${this.#options.name}" as a virtio device as ${what} failed: ${message}`,
        {
          code,
          cause: err,
        },
      );
    }
  }
}
