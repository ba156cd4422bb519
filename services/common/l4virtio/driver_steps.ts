/**
 * The steps of the driver's half of the transport, one call to the device each (F4.5): a failure says which step it was.
 *
 * What the page says is checked once and copied: the device can change it at any time.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { CallOptions, Client } from '#common/ipc/service';
import type { Mapping, SharedMemoryRef } from '#common/shm/dataspace';
import type { Bell } from '#common/shm/doorbell';
import * as page from '#common/virtio/config_page';
import { F_VERSION_1, type Features, featureNames, featureSet, intersect } from '#common/virtio/features';
import { layoutQueue } from '#common/virtio/layout';
import { Icu, L4virtio } from '../../../proto/gen/services.js';
import type { DriverEnv, DriverOptions } from './driver_options.ts';
import { hex, RemotePage } from './remote_page.ts';

const PAGE = 4096;
/** How long a device may take to answer when nobody needs the answer. */
const FAREWELL_MS = 1000;

export class DriverSteps {
  readonly #env: DriverEnv;
  readonly #options: Pick<DriverOptions, 'name' | 'deviceId' | 'queues' | 'signal'>;
  readonly #device: Client<typeof L4virtio>;
  readonly #icu: Client<typeof Icu>;
  readonly #callOptions: CallOptions;
  #mapping: Mapping | undefined;
  #page: RemotePage | undefined;
  #bell: Bell | undefined;
  #offered: Features = featureSet();
  /** Why no step is taken any more. */
  #over: L4Error | undefined;

  constructor(
    env: DriverEnv,
    cap: Capability,
    options: Pick<DriverOptions, 'name' | 'deviceId' | 'queues' | 'signal'>,
  ) {
    this.#env = env;
    this.#options = options;
    this.#device = env.ipc.client(L4virtio, cap);
    this.#icu = env.ipc.client(Icu, cap);
    this.#callOptions = options.signal ? { signal: options.signal } : {};
  }

  /** There is one as soon as `mapPage` has succeeded. */
  get page(): RemotePage {
    if (!this.#page) throw new Error(`the config page of ${this.#options.name} is not mapped yet`);
    return this.#page;
  }

  /** What the device offered when it was greeted. */
  get offered(): Features {
    return this.#offered;
  }

  /** Asks for the config page and maps it, in place of the one of an earlier life of the device. */
  async mapPage(options: CallOptions = {}): Promise<void> {
    const { memory, offset } = await this.run('asking for its config page', () =>
      this.#device.deviceConfig({}, { ...this.#callOptions, ...options }),
    );
    const mapping = await this.run('mapping its config page', () => {
      if (!memory?.writable) throw new L4Error('EINVAL', 'the page must be writable');
      if (offset % PAGE !== 0 || offset + PAGE > (memory.size ?? 0)) {
        throw new L4Error(
          'EINVAL',
          `the page must lie page-aligned inside ${memory.size} bytes: current offset is ${offset}`,
        );
      }
      return this.#env.memories.open(memory);
    });
    this.#mapping?.close();
    this.#mapping = mapping;
    this.#page = new RemotePage(this.#env.arena, mapping.offset + offset, this.#options.name);
  }

  /** Status 0, 1, 3, then what kind of device it is. */
  async greet(): Promise<void> {
    for (const status of [0, page.STATUS_ACKNOWLEDGE, page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER])
      await this.setStatus(status);
    this.page.checkStatus('greeting it', page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER);
    this.#bell ??= await this.run('asking for its notification interrupt', async () => {
      const { irq } = await this.#device.deviceNotificationIrq({ index: 0 }, this.#callOptions);
      // Who has closed meanwhile would never close what is opened now.
      this.#requireLife();
      return this.#env.doorbells.open(irq?.name ?? '');
    });
    this.page.identify(this.#options.deviceId ?? page.DEVICE_ID_NET, this.#options.queues ?? 2);
    this.#offered = this.page.offered;
  }

  async register(memory: { ref: SharedMemoryRef; size: number; address: number }): Promise<void> {
    const { ref, size, address } = memory;
    await this.run(`registering ${size} bytes of memory`, () =>
      this.#device.registerDs({ memory: { ...ref }, base: address, offset: 0, size }, this.#callOptions),
    );
  }

  /** Tells where the rings of a queue lie: `size` entries at a device address. */
  async configure(index: number, { size, address }: { size: number; address: number }): Promise<void> {
    const entry = this.page.queue(index);
    entry.layout = layoutQueue(size, address);
    entry.ready = true;
    await this.run(`configuring queue ${index}`, () =>
      this.#device.configQueue({ index }, this.#callOptions),
    );
  }

  /** Tells which doorbell the device is to ring. */
  async bind(doorbell: string): Promise<void> {
    await this.run('binding the interrupt', () =>
      this.#icu.bind({ irq: 0, object: { name: doorbell } }, this.#callOptions),
    );
  }

  /** Accepts what is both wanted and offered, VERSION_1 in any case. Returns it. */
  async negotiate(wanted: Features): Promise<Features> {
    const version1 = featureSet(F_VERSION_1);
    const accepted = intersect({ lo: wanted.lo, hi: (wanted.hi | version1.hi) >>> 0 }, this.#offered);
    this.page.accepted = accepted;
    const status = page.STATUS_ACKNOWLEDGE | page.STATUS_DRIVER | page.STATUS_FEATURES_OK;
    await this.setStatus(status);
    const what = `negotiating features (offered ${featureNames(this.#offered)}, accepted ${featureNames(accepted)})`;
    this.page.checkStatus(what, status);
    return accepted;
  }

  async setStatus(status: number): Promise<void> {
    await this.run(`setting status ${hex(status)}`, () =>
      this.#device.setStatus({ status }, this.#callOptions),
    );
  }

  /** A last word, of which nobody needs to know whether it was heard. */
  async sayStatus(status: number): Promise<void> {
    await this.#device.setStatus({ status }, { deadlineMs: FAREWELL_MS }).catch(() => {});
  }

  notify(): void {
    this.#bell?.ring();
  }

  /** The device that comes back has another doorbell. */
  forgetBell(): void {
    this.#bell?.close();
    this.#bell = undefined;
  }

  /** No step is taken any more: nobody would answer, and nobody would say so. */
  refuse(why: L4Error): void {
    this.#over ??= why;
  }

  /** Gives page and doorbell back; `refuse` comes before it. */
  close(): void {
    this.#mapping?.close();
    this.forgetBell();
  }

  /** Runs a step; its error says which one it was. */
  async run<T>(what: string, step: () => T | Promise<T>): Promise<T> {
    try {
      this.#requireLife();
      return await step();
    } catch (err) {
      const { errno, code, message } = toL4Error(err);
      const text = `Cannot use "${this.#options.name}" as a virtio device as ${what} failed: ${message}`;
      throw new L4Error(errno, text, { code, cause: err });
    }
  }

  #requireLife(): void {
    if (this.#over) throw this.#over;
  }
}
