/**
 * Device half of the L4virtio transport (F4.3 to F4.6): status, features, queues and registered memory
 * over a config page. No IPC and no mapping here: `l4virtio/device_server.ts` brings both.
 *
 *   0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK (0x0f: queues run)
 *        any broken rule -> DEVICE_NEEDS_RESET; set_status(0) -> 0
 *
 * The driver can write the whole page at any time; decisions rest on private copies alone.
 */
import type { Memory } from '#common/memory';
import {
  CONFIG,
  CONFIG_MAGIC,
  CONFIG_PAGE_SIZE,
  CONFIG_VERSION,
  ConfigPage,
  IRQ_CONFIG,
  IRQ_VRING,
  L4_VENDOR,
  QUEUE_ENTRY_SIZE,
  queuesOffset,
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FAIL_BITS,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
  STATUS_RUNNING,
} from './config_page.ts';
import { DeviceQueue } from './device_queue.ts';
import { VirtioError } from './errors.ts';
import {
  F_VERSION_1,
  type Features,
  featureNames,
  featureSet,
  hasFeature,
  isEmpty,
  without,
} from './features.ts';
import { isQueueSize, type QueueLayout } from './layout.ts';
import { checkQueue } from './queue_check.ts';
import { type RegionOwner, Regions } from './regions.ts';

const PAGE = 4096;
const KNOWN_STATUS = STATUS_RUNNING | STATUS_FAIL_BITS;
const NO_FEATURES = featureSet();

export interface DeviceOptions {
  /** 1 = network. */
  readonly deviceId: number;
  readonly vendor?: number;
  /** What is offered; VERSION_1 is always added. */
  readonly features: Features;
  /** A rule that features of this kind of device must keep among each other and these do not; undefined: all is well. */
  readonly missingFeature?: (accepted: Features) => string | undefined;
  /** num_max of each queue: a power of two up to 32768. When the entries do not fit the page, there are no queues. */
  readonly queues: readonly number[];
  /** Device-specific configuration. */
  readonly config: Uint8Array;
  /** ds-max: number of dataspaces that the driver may register. */
  readonly dsMax: number;
  /** For messages: the port's name. */
  readonly name?: string;
}

/** What the owner of a device is told. None may throw. */
export interface DeviceHooks {
  /** All queues run: fetch them with `queue()`. */
  onConfigured?(): void;
  /** The queues are gone: drop them. Comes once for each onConfigured. */
  onReset?(): void;
  /** The driver broke a rule, in a sentence: DEVICE_NEEDS_RESET was set, or FEATURES_OK was not accepted. */
  onError?(reason: string): void;
  /** Wake the driver. */
  interrupt?(): void;
}

/** Memory to be registered: a whole dataspace, mapped when it is known to be acceptable. */
export interface Registrable {
  /** Size of the dataspace in bytes. */
  readonly size: number;
  readonly writable: boolean;
  /** Maps it and returns where its first byte lies; what is returned is closed when the region goes. */
  map(): RegionOwner & { readonly offset: number };
}

export class VirtioDevice {
  readonly page: ConfigPage;
  readonly name: string;
  readonly regions: Regions;
  /** Features offered. */
  readonly offered: Features;
  readonly #memory: Memory;
  readonly #hooks: DeviceHooks;
  readonly #options: DeviceOptions;
  readonly #queueMax: readonly number[];
  readonly #queuesOffset: number;
  /** Layouts accepted by config_queue, as offsets in our memory. */
  readonly #layouts: (QueueLayout | undefined)[];
  #queues: DeviceQueue[] = [];
  #status = 0;
  #generation = 0;
  #negotiated: Features = NO_FEATURES;
  #config: Uint8Array;

  /** `at` is the page's byte offset in `memory`, 4096-aligned. */
  constructor(memory: Memory, at: number, options: DeviceOptions, hooks: DeviceHooks = {}) {
    const bad = options.queues.find((max) => !isQueueSize(max));
    if (bad !== undefined) {
      throw new RangeError(
        `Cannot make virtio device as a queue size must be a power of two 1..32768: current value is ${bad}`,
      );
    }
    this.#memory = memory;
    this.#hooks = hooks;
    this.#options = options;
    this.name = options.name ?? 'device';
    this.page = new ConfigPage(memory, at);
    this.regions = new Regions(options.dsMax);
    this.offered = { lo: options.features.lo, hi: (options.features.hi | featureSet(F_VERSION_1).hi) >>> 0 };
    this.#config = options.config.slice();
    this.#queuesOffset = queuesOffset(options.config.length);
    const fits = this.#queuesOffset + options.queues.length * QUEUE_ENTRY_SIZE <= CONFIG_PAGE_SIZE;
    this.#queueMax = fits ? options.queues : [];
    this.#layouts = this.#queueMax.map(() => undefined);
    memory.u8.fill(0, at, at + CONFIG_PAGE_SIZE);
    this.#writePage();
  }

  get status(): number {
    return this.#status;
  }

  /** True between onConfigured and onReset. */
  get running(): boolean {
    return this.#queues.length > 0;
  }

  /** Features that both sides agreed on; none before FEATURES_OK. */
  get features(): Features {
    return this.#negotiated;
  }

  get generation(): number {
    return this.#generation;
  }

  /** Queue `index` while the device runs. */
  queue(index: number): DeviceQueue | undefined {
    return this.#queues[index];
  }

  /** Operation 0 of F4.3; never fails: a broken rule shows in the status. Bits that nobody has defined change nothing. */
  setStatus(value: number): void {
    const wanted = value & KNOWN_STATUS;
    if (value === 0) {
      this.#reset(0);
    } else if (((wanted | this.#status) & STATUS_FAIL_BITS) !== 0) {
      this.#setStatus(this.#status | (wanted & STATUS_FAIL_BITS));
      this.#stopQueues();
    } else {
      // Bits are only ever cleared by a reset [VIRTIO 1.2 §2.1.1].
      this.#advance(this.#status | wanted);
    }
  }

  /** Takes (ready = 1) or drops (ready = 0) the queue described in the page. Throws VirtioError EIO, ERANGE, EINVAL. */
  configQueue(index: number): void {
    const working = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    if ((this.#status & STATUS_FAIL_BITS) !== 0 || (this.#status & working) !== working) {
      throw new VirtioError(
        'EIO',
        `Cannot configure queue ${index} of ${this.name} as status must have ACKNOWLEDGE and DRIVER and no fail bit: current value is ${hex(this.#status)}`,
      );
    }
    const max = this.#queueMax[index];
    if (max === undefined) {
      throw new VirtioError(
        'ERANGE',
        `Cannot configure queue ${index} of ${this.name} as it has ${this.#queueMax.length} queues`,
      );
    }
    if (this.running) {
      throw new VirtioError(
        'EINVAL',
        `Cannot configure queue ${index} of ${this.name} as the device runs: set status 0 first`,
      );
    }
    const entry = this.page.queue(this.#queuesOffset, index);
    this.#layouts[index] = entry.ready
      ? checkQueue(`queue ${index} of ${this.name}`, entry.layout, max, this.regions)
      : undefined;
    // The driver relies on what it has registered: from now on nothing is replaced.
    this.regions.keep();
  }

  /**
   * Lets device addresses [base, base + size) be bytes [offset, offset + size) of a dataspace. Base and offset are
   * rounded down, size up, to pages. Throws VirtioError EINVAL, ERANGE, ENOMEM, and whatever `map` throws.
   */
  registerDs(memory: Registrable, base: number, offset: number, size: number): void {
    const refuse = (errno: 'EINVAL' | 'ERANGE', rule: string, value: number): never => {
      throw new VirtioError(
        errno,
        `Cannot register memory with ${this.name} as ${rule}: current value is ${value}`,
      );
    };
    if (memory.size < PAGE) refuse('EINVAL', 'a dataspace must have at least 4096 bytes', memory.size);
    if (offset >= memory.size)
      refuse('ERANGE', `offset must be below the dataspace's ${memory.size} bytes`, offset);
    if (!(size > 0) || size > memory.size) {
      refuse('EINVAL', `size must be 1..${memory.size}, what the dataspace has`, size);
    }
    const from = Math.floor(offset / PAGE) * PAGE;
    const bytes = Math.ceil(size / PAGE) * PAGE;
    if (from + bytes > memory.size)
      refuse('EINVAL', `offset + size must be at most ${memory.size}`, from + bytes);
    const start = Math.floor(base / PAGE) * PAGE;
    this.regions.check(start, bytes);
    // What is replaced goes first: it takes addresses of ours.
    this.regions.drop(start, bytes);
    const mapping = memory.map();
    this.regions.add(start, bytes, mapping.offset + from, memory.writable, mapping);
  }

  /**
   * The driver broke a rule of its queues: everything stops, and the driver is told to reset.
   * `reason` is one sentence (a RingError's message).
   */
  fail(reason: string): void {
    const told = (this.#status & STATUS_DRIVER_OK) !== 0;
    this.#reset(STATUS_NEEDS_RESET);
    if (told) {
      this.page.raiseIrq(IRQ_CONFIG);
      this.#hooks.interrupt?.();
    }
    this.#hooks.onError?.(reason);
  }

  /** Interrupts the driver for used chains: when a `flush()` has said so. */
  interrupt(): void {
    this.page.raiseIrq(IRQ_VRING);
    this.#hooks.interrupt?.();
  }

  /** Replaces the device config, of the same length, and tells the driver, if it runs and `tell` is true. */
  changeConfig(config: Uint8Array, tell = true): void {
    this.#config = config.slice(0, this.#config.length);
    this.page.writeDeviceConfig(this.#config);
    this.#generation = (this.#generation + 1) >>> 0;
    this.page.write(CONFIG.GENERATION, this.#generation);
    if (!this.running || !tell) return;
    this.page.raiseIrq(IRQ_CONFIG);
    this.#hooks.interrupt?.();
  }

  /** Stops the queues and gives all registered memory back. */
  close(): void {
    this.#stopQueues();
    this.regions.clear();
  }

  #advance(next: number): void {
    let status = next;
    let violation = orderViolation(next);
    if (violation === undefined && (status & ~this.#status & STATUS_FEATURES_OK) !== 0) {
      if (!this.#takeFeatures()) status &= ~STATUS_FEATURES_OK;
      violation = orderViolation(status);
    }
    if (violation !== undefined) this.#refuseStatus(next, violation);
    else if (status === STATUS_RUNNING && this.#status !== STATUS_RUNNING) this.#start();
    else this.#setStatus(status);
  }

  /** The new bits are not taken. */
  #refuseStatus(next: number, violation: string): void {
    this.#setStatus(this.#status | STATUS_NEEDS_RESET);
    this.#stopQueues();
    this.#hooks.onError?.(`Cannot set status ${hex(next)} of ${this.name} as ${violation}`);
  }

  /** Reads what the driver accepts, once. False when it may not accept that. */
  #takeFeatures(): boolean {
    const accepted = this.page.readFeatures(CONFIG.DRIVER_FEATURES_MAP);
    const further = this.page.hasFurtherFeatures(CONFIG.DRIVER_FEATURES_MAP);
    const isOffered = isEmpty(without(accepted, this.offered)) && !further;
    if (hasFeature(accepted, F_VERSION_1) && isOffered) {
      const missing = this.#options.missingFeature?.(accepted);
      if (missing === undefined) {
        this.#negotiated = accepted;
        return true;
      }
      this.#hooks.onError?.(
        `Cannot accept features of the driver of ${this.name} as ${missing}: set ${featureNames(accepted)}`,
      );
      return false;
    }
    this.#hooks.onError?.(
      `Cannot accept features of the driver of ${this.name} as VERSION_1 and only offered ones must be set: offered ${featureNames(this.offered)}, set ${featureNames(accepted)}${further ? ' and bits from 64 on' : ''}`,
    );
    return false;
  }

  #start(): void {
    const missing = this.#layouts.indexOf(undefined);
    if (missing >= 0 || this.#layouts.length === 0) {
      this.#reset(STATUS_NEEDS_RESET);
      const what = missing < 0 ? 'it has none' : `queue ${missing} is not configured`;
      this.#hooks.onError?.(`Cannot start queues of ${this.name} as ${what}`);
      return;
    }
    this.#setStatus(STATUS_RUNNING);
    this.#queues = this.#layouts.map(
      (layout, i) =>
        new DeviceQueue(
          this.#memory,
          layout as QueueLayout,
          this.#negotiated,
          this.regions,
          `queue ${i} of ${this.name}`,
        ),
    );
    this.#hooks.onConfigured?.();
  }

  #reset(status: number): void {
    this.#stopQueues();
    this.#layouts.fill(undefined);
    this.#negotiated = NO_FEATURES;
    this.#generation = (this.#generation + 1) >>> 0;
    this.regions.markStale();
    this.#status = status;
    this.#writePage();
  }

  #stopQueues(): void {
    if (!this.running) return;
    this.#queues = [];
    this.#hooks.onReset?.();
  }

  #setStatus(status: number): void {
    this.#status = status;
    this.page.write(CONFIG.STATUS, status);
  }

  #writePage(): void {
    const { page } = this;
    this.#memory.u8.fill(0, page.at, page.at + CONFIG.DEVICE_CONFIG);
    page.write(CONFIG.MAGIC, CONFIG_MAGIC);
    page.write(CONFIG.VERSION, CONFIG_VERSION);
    page.write(CONFIG.DEVICE_ID, this.#options.deviceId);
    page.write(CONFIG.VENDOR, this.#options.vendor ?? L4_VENDOR);
    page.write(CONFIG.NUM_QUEUES, this.#queueMax.length);
    page.write(CONFIG.QUEUES_OFFSET, this.#queuesOffset);
    page.writeFeatures(CONFIG.DEV_FEATURES_MAP, this.offered);
    page.writeDeviceConfig(this.#config);
    for (const [i, max] of this.#queueMax.entries()) page.queue(this.#queuesOffset, i).reset(max);
    page.write(CONFIG.GENERATION, this.#generation);
    page.write(CONFIG.STATUS, this.#status);
  }
}

/** The steps must be taken in order (F4.5). */
function orderViolation(status: number): string | undefined {
  if ((status & STATUS_DRIVER) !== 0 && (status & STATUS_ACKNOWLEDGE) === 0)
    return 'DRIVER needs ACKNOWLEDGE first';
  if ((status & STATUS_FEATURES_OK) !== 0 && (status & STATUS_DRIVER) === 0)
    return 'FEATURES_OK needs DRIVER first';
  if ((status & STATUS_DRIVER_OK) !== 0 && (status & STATUS_FEATURES_OK) === 0) {
    return 'DRIVER_OK needs FEATURES_OK first, with features that the device accepts';
  }
  return undefined;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
