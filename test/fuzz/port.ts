/** A port of the switch under test with its client's memory, and what the switch does with it, counted. */
import { DROP_REASONS } from '#common/capture/drop_reasons';
import { DeviceQueue } from '#common/virtio/device_queue';
import type { RingError } from '#common/virtio/errors';
import { F_VERSION_1, type Features, featureSet } from '#common/virtio/features';
import { layoutQueue } from '#common/virtio/layout';
import { checkQueue } from '#common/virtio/queue_check';
import { Regions } from '#common/virtio/regions';
import { missingFeature, portFeatures } from '#common/vnet/offload';
import type { SourceFrame } from '#common/vnet/source_frame';
import { VirtioPort, type VirtioPortOptions } from '#common/vnet/virtio_port';
import type { Forwarder, ForwardSpec } from '../../services/l4vio_switch/forward.ts';
import type { HookedMemory } from './hooked_memory.ts';
import { type Plot, RINGS, RW_BASE } from './plot.ts';

/** Largest queue that a client may ask for. */
export const MAX_SIZE = 64;
/** To clients, and to the driver of a NIC. */
const OFFERED = [true, false].map((offloads) => portFeatures({ mac: true, mtu: true, offloads })) as [
  Features,
  Features,
];

/** Counts what is delivered, and lets the clients change their memory right before. */
class CountedPort extends VirtioPort {
  delivered = 0;
  refused = 0;
  readonly #hook: () => void;

  constructor(options: VirtioPortOptions, hook: () => void) {
    super(options);
    this.#hook = hook;
  }

  override deliver(frame: SourceFrame, tag: number, tci: number): number {
    this.#hook();
    const bytes = super.deliver(frame, tag, tci);
    if (bytes >= 0) this.delivered += 1;
    else this.refused += 1;
    return bytes;
  }
}

export interface FuzzPortOptions {
  readonly memory: HookedMemory;
  readonly forwarder: Forwarder;
  readonly number: number;
  readonly plot: Plot;
  /** Offset of SCRATCH_BYTES private bytes. */
  readonly scratch: number;
  readonly onDeliver: () => void;
}

export class FuzzPort {
  readonly number: number;
  readonly plot: Plot;
  /** How the client has broken the protocol since it was started. */
  failure: RingError | undefined;
  interrupts = 0;
  regions = new Regions(4);
  readonly #options: FuzzPortOptions;
  #endpoint: CountedPort | undefined;
  #nic = false;

  constructor(options: FuzzPortOptions) {
    this.#options = options;
    this.number = options.number;
    this.plot = options.plot;
  }

  /** Takes the port away, if there is one, and makes it again with other rules. Nothing is behind it before `start`. */
  connect(spec: ForwardSpec, mute: boolean, nic = false): void {
    const { memory, forwarder, number, scratch, onDeliver } = this.#options;
    this.#endpoint?.stop();
    forwarder.disconnect(number);
    forwarder.forget(number);
    this.failure = undefined;
    this.regions = new Regions(4);
    this.plot.clear();
    const device = {
      fail: (error: RingError) => {
        this.failure = error;
      },
      interrupt: () => {
        this.interrupts += 1;
      },
      invalidRequest: () => {},
    };
    this.#nic = nic;
    const options = { number, nic, mute, memory, scratch, fabric: forwarder, device };
    this.#endpoint = new CountedPort(options, onDeliver);
    forwarder.connect(number, this.#endpoint, spec);
  }

  /**
   * The client sets its device up, with queues of `size` entries and those of the offered features that are in `wanted`.
   * Returns the features. Throws VirtioError when a queue of `layouts` (device addresses) is refused.
   */
  start(
    size: number,
    wanted: number,
    layouts = RINGS.map((at) => layoutQueue(size, RW_BASE + at)),
  ): Features {
    const { memory } = this.#options;
    this.stop();
    this.plot.register(this.regions);
    const features = acceptable(OFFERED[this.#nic ? 1 : 0], wanted);
    const [rx, tx] = layouts.map((layout, i) => {
      const checked = checkQueue(`queue ${i}`, layout, MAX_SIZE, this.regions);
      return new DeviceQueue(memory, checked, features, this.regions, `queue ${i}`);
    });
    this.regions.keep();
    this.#endpoint?.start(
      rx as DeviceQueue,
      tx as DeviceQueue,
      features,
      wanted % 2 === 0 ? undefined : 1500,
    );
    return features;
  }

  /** The client resets its device. */
  stop(): void {
    this.failure = undefined;
    this.#endpoint?.stop();
    this.regions.markStale();
  }

  get running(): boolean {
    return this.#endpoint?.ready ?? false;
  }

  /** Throws when the switch's counters are not what it has done. */
  checkCounters(): void {
    const { counters } = this.#options.forwarder;
    const { number } = this;
    const endpoint = this.#endpoint;
    if (!endpoint) return;
    let dropped = 0;
    for (let reason = 0; reason < DROP_REASONS; reason++) dropped += counters.droppedFor(number, reason);
    if (counters.txPackets[number] !== endpoint.delivered)
      throw new Error(
        `port ${number}: ${endpoint.delivered} frames delivered, ${counters.txPackets[number]} counted`,
      );
    if (dropped < endpoint.refused)
      throw new Error(`port ${number}: ${endpoint.refused} frames not delivered, ${dropped} counted`);
  }
}

/** Features that a device would accept of these bits. */
function acceptable(offered: Features, wanted: number): Features {
  const lo = (wanted & offered.lo) >>> 0;
  const { hi } = featureSet(F_VERSION_1);
  return { lo: missingFeature({ lo, hi }) === undefined ? lo : 0, hi };
}
