/**
 * Driver half of the L4virtio transport: what the stock client of L4Re does, in its order (F4.5).
 *
 *   open()            device_config, map the page, magic and version, status 0 1 3, notification irq
 *   allocate()        memory for rings and buffers, register_ds; register() for memory of others
 *   configureQueue()  config_queue for each queue
 *   start()           ICU bind, features, status 0x0b and 0x0f; then queue(i) and notify() are for use
 *
 * From open() to close() a call is pending that ends with the device (device_end.ts): onGone, or with `reconnect` all of
 * this again. The single calls are in driver_steps.ts; here is what has to be said again to a device that came back.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { CallOptions } from '#common/ipc/service';
import type { Mapping, SharedMemoryRef } from '#common/shm/dataspace';
import type { Doorbell } from '#common/shm/doorbell';
import * as page from '#common/virtio/config_page';
import { DriverQueue } from '#common/virtio/driver_queue';
import { type Features, featureSet, hasFeature, NET_F_MAC } from '#common/virtio/features';
import { layoutQueue, MAX_QUEUE_SIZE, queueBytes } from '#common/virtio/layout';
import { endOfDevice } from './device_end.ts';
import type { DeviceMemory, DriverEnv, DriverOptions } from './driver_options.ts';
import { DriverSteps } from './driver_steps.ts';
import { type ReconnectOptions, SERVER_DIED, untilBack, WAIT_MS } from './reconnect.ts';
import { deviceError } from './remote_page.ts';

export type { DeviceMemory, DriverEnv, DriverOptions } from './driver_options.ts';
export { DEVICE_CLOSED } from './driver_options.ts';

/** Device address of the first registered byte (F4.4). */
const FIRST_ADDRESS = 2 * 2 ** 20;
const PAGE = 4096;

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
  readonly #cap: Capability;
  readonly #steps: DriverSteps;
  readonly #doorbell: Doorbell;
  readonly #owned: Mapping[] = [];
  readonly #registered: Registered[] = [];
  readonly #layouts = new Map<number, Rings>();
  readonly #queues = new Map<number, DriverQueue>();
  readonly #watching = new AbortController();
  #wanted: Features = featureSet();
  #features: Features = featureSet();
  #nextAddress = FIRST_ADDRESS;
  /** The device is there: it has been found, and its server has not died since. */
  #there = false;
  /** From the end of `start` on. */
  #running = false;
  #closed = false;

  private constructor(env: DriverEnv, cap: Capability, options: DriverOptions) {
    this.#env = env;
    this.#cap = cap;
    this.#options = options;
    this.#steps = new DriverSteps(env, cap, options);
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
      await client.#find(client.#firstCall);
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
    return patient ? { patient, deadlineMs: waitMs } : {};
  }

  /** Features that both sides agreed on; valid after `start`. */
  get features(): Features {
    return this.#features;
  }

  get numQueues(): number {
    return this.#steps.page.numQueues;
  }

  /** The device's status byte as it is now. */
  get status(): number {
    return this.#steps.page.status;
  }

  /** The MAC address of a network device; undefined when it has not told one. */
  get mac(): Uint8Array | undefined {
    return hasFeature(this.#steps.offered, NET_F_MAC) ? this.deviceConfig(6) : undefined;
  }

  /** A copy of the first `bytes` bytes of the device config. */
  deviceConfig(bytes: number): Uint8Array {
    return this.#steps.page.deviceConfig(bytes);
  }

  /** The queue's largest size, or `wanted` if that is smaller. A power of two. Throws L4Error ERANGE, EIO. */
  queueSize(index: number, wanted = MAX_QUEUE_SIZE): number {
    return Math.min(this.#steps.page.queueMax(index), wanted);
  }

  /** Makes memory of at least `bytes` bytes, zeroed, and registers it. Given back by `close`. */
  async allocate(bytes: number): Promise<DeviceMemory> {
    const mapping = await this.#steps.run('allocating memory', () => this.#env.memories.create(bytes));
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
    // Before the call: another one may begin meanwhile.
    this.#nextAddress = address + Math.ceil(size / PAGE) * PAGE;
    await this.#steps.register({ ref, size, address });
    this.#registered.push({ ref, size, address });
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
    await this.#steps.configure(index, rings);
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
      await this.#steps.sayStatus(page.STATUS_FAILED);
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
    this.#steps.notify();
  }

  /** Back to where `open` ended; registered memory stays registered. Configure the queues and start again. */
  async reset(): Promise<void> {
    this.#running = false;
    this.#queues.clear();
    this.#layouts.clear();
    await this.#steps.greet();
  }

  /** Resets the device, if it still answers, and gives back everything that `open` and `allocate` took. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#steps.refuse(new L4Error('EIPC_CANCELED', 'the driver has closed it'));
    this.#watching.abort();
    this.#queues.clear();
    // A device that is gone needs no farewell.
    if (this.#there) await this.#steps.sayStatus(0);
    for (const mapping of this.#owned) mapping.close();
    this.#steps.close();
    this.#doorbell.close();
  }

  async #find(options: CallOptions): Promise<void> {
    await this.#steps.mapPage(options);
    this.#there = true;
    await this.#steps.greet();
  }

  async #startQueues(): Promise<void> {
    await this.#steps.bind(this.#doorbell.name);
    this.#features = await this.#steps.negotiate(this.#wanted);
    for (const [index, { size, where }] of this.#layouts) {
      const name = `queue ${index} of ${this.#options.name}`;
      this.#queues.set(
        index,
        new DriverQueue(this.#env.arena, layoutQueue(size, where), this.#features, name),
      );
    }
    await this.#steps.setStatus(page.STATUS_RUNNING);
    this.#steps.page.checkStatus('starting the queues', page.STATUS_RUNNING);
  }

  /** Follows the device to its end, and to its return if there is one. */
  async #watch(): Promise<void> {
    const { name, signal, reconnect, onGone, onNeedsReset } = this.#options;
    const end = signal ? AbortSignal.any([signal, this.#watching.signal]) : this.#watching.signal;
    let gone = await endOfDevice(this.#env.ipc, this.#cap, name, end);
    if (gone && reconnect && gone.code === SERVER_DIED && this.#running)
      gone = await this.#comeBack(reconnect, gone, end);
    if (!gone || end.aborted) return;
    this.#steps.refuse(gone);
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
    const { patient = false } = options;
    const device = {
      name: this.#options.name,
      setUp: (deadlineMs: number) => this.#setUpAgain(mac, { signal, deadlineMs, patient }),
      epitaph: () => this.#env.ipc.epitaph(this.#cap),
    };
    this.#there = false;
    options.onDown();
    try {
      await untilBack(device, options, death);
    } catch (err) {
      return toL4Error(err);
    }
    if (signal.aborted) return undefined;
    this.#there = true;
    void this.#watch();
    options.onBack(performance.now() - since);
    return undefined;
  }

  /** As `open` to `start`, with memory and rings where they are. */
  async #setUpAgain(mac: Uint8Array | undefined, options: CallOptions): Promise<void> {
    const { name } = this.#options;
    await this.#steps.mapPage(options);
    this.#steps.forgetBell();
    await this.#steps.greet();
    if (mac && Buffer.compare(mac, this.mac ?? new Uint8Array(0)) !== 0)
      throw deviceError(name, 'ENODEV', 'it has another MAC address than before');
    for (const memory of this.#registered) await this.#steps.register(memory);
    for (const [index, rings] of this.#layouts) {
      const max = this.#steps.page.queueMax(index);
      if (max < rings.size)
        throw deviceError(name, 'ENODEV', `queue ${index} had ${rings.size} entries: it has ${max}`);
      await this.#steps.configure(index, rings);
    }
    await this.#startQueues();
  }

  #onRing(): void {
    if (this.#closed) return;
    const reasons = this.#steps.page.takeIrq();
    if ((reasons & page.IRQ_CONFIG) !== 0) {
      if ((this.status & page.STATUS_NEEDS_RESET) === 0) this.#options.onConfigChange?.();
      else {
        const why = 'the device met an error and asks for a reset; its log says why';
        this.#options.onNeedsReset?.(deviceError(this.#options.name, 'EIO', why));
      }
    }
    if (reasons !== page.IRQ_CONFIG) this.#options.onInterrupt();
  }
}
