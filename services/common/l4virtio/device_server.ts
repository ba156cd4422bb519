/**
 * A virtio device as an object of a gate: services L4virtio and Icu around a `VirtioDevice` (F4.3).
 *
 *   driver ── capability calls ──> bindings        set-up only
 *   driver ── kick doorbell ──> onKick             device_notification_irq(0)
 *   driver <── its doorbell ── device.interrupt()  what it bound at ICU index 0
 */
import { L4Error } from '#common/ipc/errors';
import { type Binding, bind, type Handlers } from '#common/ipc/service';
import type { Memory } from '#common/memory';
import type { Mapping, SharedMemories, SharedMemoryRef } from '#common/shm/dataspace';
import type { Bell, Doorbell, Doorbells } from '#common/shm/doorbell';
import { CONFIG_PAGE_SIZE } from '#common/virtio/config_page';
import { type DeviceOptions, VirtioDevice } from '#common/virtio/device';
import { VirtioError } from '#common/virtio/errors';
import type { RegionOwner } from '#common/virtio/regions';
import type { l4lab as m } from '../../../proto/gen/messages.js';
import { Icu, L4virtio } from '../../../proto/gen/services.js';

/**
 * What one driver may map, as a share of our addresses: files with holes cost it nothing, and without a limit one driver could
 * take all addresses, so that no other could register anything.
 */
const SHARE = 1 / 4;
/** Calls that may wait for the end of a device: drivers that died have not taken back theirs, and nobody may hoard them. */
const MAX_WATCHERS = 16;

/** The parts of a task's environment that a device needs. */
export interface DeviceEnv {
  readonly arena: Memory;
  readonly memories: Pick<SharedMemories, 'create' | 'open'>;
  readonly doorbells: Pick<Doorbells, 'create' | 'open'>;
}

export interface DeviceServerOptions extends DeviceOptions {
  /** DRIVER_OK: the queues are at `device.queue(i)`. */
  onConfigured(): void;
  /** The queues are gone. */
  onReset(): void;
  /** The driver has added something to a queue, or says so. */
  onKick(): void;
  /** The driver broke a rule: a sentence for the log. */
  onError?(reason: string): void;
  /** Whether a dataspace is trusted (option -d of the switch); default: all are. */
  accepts?(memory: SharedMemoryRef): boolean;
}

export class DeviceServer {
  readonly device: VirtioDevice;
  /** What to give to `gate.export`. */
  readonly bindings: readonly Binding[];
  readonly #env: DeviceEnv;
  readonly #options: DeviceServerOptions;
  readonly #page: Mapping;
  readonly #kick: Doorbell;
  #pageLost = false;
  /** Bytes of all dataspaces that the driver has registered. */
  #mapped = 0;
  #bell: Bell | undefined;
  /** Drivers that wait for the device's end, in the order in which they came. */
  readonly #watchers = new Set<{ readonly end: () => void; readonly refuse: () => void }>();

  /** Throws L4Error ENOMEM when /dev/shm is full. */
  constructor(env: DeviceEnv, options: DeviceServerOptions) {
    this.#env = env;
    this.#options = options;
    this.#page = env.memories.create(CONFIG_PAGE_SIZE);
    this.device = new VirtioDevice(env.arena, this.#page.offset, options, {
      onConfigured: () => options.onConfigured(),
      onReset: () => options.onReset(),
      onError: (reason) => options.onError?.(reason),
      interrupt: () => this.#bell?.ring(),
    });
    try {
      this.#kick = env.doorbells.create();
    } catch (err) {
      this.#page.close();
      throw err;
    }
    this.#kick.listen(() => options.onKick());
    this.bindings = [bind(L4virtio, this.#l4virtio()), bind(Icu, this.#icu())];
  }

  /** Stops the queues and gives the page, all registered memory and both doorbells back. Idempotent. */
  close(): void {
    for (const watcher of this.#watchers) watcher.end();
    this.device.close();
    this.#page.close();
    this.#kick.close();
    this.#bell?.close();
    this.#bell = undefined;
  }

  /**
   * Looks for memory that the driver has taken away: a truncated file (`common/shm/bus_guard.ts`). Its device needs a reset
   * then, and other memory. To be called when `Arena.losses` has changed.
   */
  checkMemory(): void {
    const pageLost = this.#page.lost && !this.#pageLost;
    if (pageLost) this.#pageLost = true;
    if (this.device.regions.dropLost() === 0 && !pageLost) return;
    const what = pageLost ? 'the file of its config page' : 'the file of a dataspace that it has registered';
    this.device.fail(
      `Cannot use memory of the driver of ${this.device.name} as ${what} was truncated, or has holes that /dev/shm has no room for`,
    );
  }

  #l4virtio(): Handlers<typeof L4virtio> {
    const { device } = this;
    return {
      setStatus: ({ status }) => answer(() => device.setStatus(status)),
      configQueue: ({ index }) => answer(() => device.configQueue(index)),
      registerDs: (request) => answer(() => this.#registerDs(request)),
      deviceConfig: () => ({ memory: { ...this.#page.ref }, offset: 0 }),
      deviceNotificationIrq: ({ index }) => {
        if (index !== 0) throw unsupported(`notification interrupt ${index}`, 'there is only number 0');
        return { irq: { name: this.#kick.name } };
      },
      watch: (_request, { signal }) => this.#untilClosed(signal),
    };
  }

  /**
   * Resolves when the device is given up, or the driver does not want to know any more. The call that waits longest is refused
   * (ENOMEM) when there are too many.
   */
  #untilClosed(signal: AbortSignal): Promise<Record<string, never>> {
    const { name } = this.device;
    return new Promise((resolve, reject) => {
      const over = () => this.#watchers.delete(watcher);
      const watcher = {
        end: () => over() && resolve({}),
        refuse: () => {
          const why = `at most ${MAX_WATCHERS} calls may wait for its end: a later one took the place`;
          over();
          reject(new L4Error('ENOMEM', `Cannot watch ${name} any longer as ${why}`));
        },
      };
      this.#watchers.add(watcher);
      signal.addEventListener('abort', watcher.end, { once: true });
      const [oldest] = this.#watchers;
      if (this.#watchers.size > MAX_WATCHERS) oldest?.refuse();
    });
  }

  #icu(): Handlers<typeof Icu> {
    const none = (what: string) => () => {
      throw unsupported(what, 'interrupts of a virtio device are only bound');
    };
    return {
      info: () => ({ features: 0, nrIrqs: 1, nrMsis: 0 }),
      bind: (request) => {
        this.#bindIrq(request);
        return { unmaskViaIcu: 0 };
      },
      unbind: none('unbind'),
      msiInfo: none('MSI'),
      setMode: none('set_mode'),
      unmask: none('unmask'),
      mask: none('mask'),
    };
  }

  #registerDs({ memory, base, offset, size }: m.RegisterDsRequest): void {
    const { name } = this.device;
    if (!memory)
      throw new L4Error('EINVAL', `Cannot register memory with ${name} as the request has no dataspace`);
    const ref = { name: memory.name ?? '', size: memory.size ?? 0, writable: memory.writable ?? false };
    if (this.#options.accepts?.(ref) === false) {
      throw new L4Error(
        'EINVAL',
        `Cannot register memory with ${name} as the dataspace is not a trusted one (option -d)`,
      );
    }
    this.device.registerDs(
      { size: ref.size, writable: ref.writable, map: () => this.#map(ref) },
      base,
      offset,
      size,
    );
  }

  /** Maps a dataspace, and counts it until it is closed. Throws L4Error ENOMEM when it is too much for one driver. */
  #map(ref: SharedMemoryRef): RegionOwner & { readonly offset: number } {
    const { memories, arena } = this.#env;
    const most = Math.floor(arena.buffer.byteLength * SHARE);
    if (this.#mapped + ref.size > most) {
      throw new L4Error(
        'ENOMEM',
        `Cannot register memory with ${this.device.name} as all dataspaces of one driver may have at most ${most} bytes: they would have ${this.#mapped + ref.size}`,
      );
    }
    const mapping = memories.open(ref);
    this.#mapped += mapping.size;
    return {
      offset: mapping.offset,
      get lost() {
        return mapping.lost;
      },
      close: () => {
        this.#mapped -= mapping.size;
        mapping.close();
      },
    };
  }

  /** A second bind replaces the first: the driver has been started anew. */
  #bindIrq({ irq, object }: m.IcuBindRequest): void {
    const { name } = this.device;
    if (irq !== 0) {
      throw new L4Error(
        'ERANGE',
        `Cannot bind interrupt of ${name} as its number must be 0: current value is ${irq}`,
      );
    }
    if (!object?.name)
      throw new L4Error('EINVAL', `Cannot bind interrupt of ${name} as the request has no interrupt object`);
    const bell = this.#env.doorbells.open(object.name);
    this.#bell?.close();
    this.#bell = bell;
  }
}

/** Runs a handler without reply; refusals of the pure layer become L4 errors. */
function answer(run: () => void): Record<string, never> {
  try {
    run();
    return {};
  } catch (err) {
    if (err instanceof VirtioError) throw new L4Error(err.errno, err.message, { cause: err });
    throw err;
  }
}

function unsupported(what: string, why: string): L4Error {
  return new L4Error('ENOSYS', `Cannot serve ${what} as ${why}`);
}
