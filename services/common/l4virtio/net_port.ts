/**
 * A port of a virtual network device, both halves joined: set-up by its driver over capabilities (`DeviceServer`), and frames
 * (`VirtioPort` of common/vnet).
 *
 *   driver ── calls ──> DeviceServer ── queues run ──> VirtioPort.start
 *   a broken ring, memory taken away ──> DEVICE_NEEDS_RESET ──> VirtioPort.stop
 */
import { Throttle } from '#common/obs/throttle';
import type { Arena } from '#common/shm/arena';
import { DEVICE_ID_NET } from '#common/virtio/config_page';
import { hasFeature, NET_F_MTU } from '#common/virtio/features';
import type { PortDevice, VirtioPort } from '#common/vnet/virtio_port';
import { type DeviceEnv, DeviceServer, type DeviceServerOptions } from './device_server.ts';

const RX = 0;
const TX = 1;

export interface NetPortOptions
  extends Pick<DeviceServerOptions, 'features' | 'missingFeature' | 'config' | 'dsMax' | 'onKick'> {
  /** For messages: `Port 'web'`, also `port 'web'` in the middle of a sentence. */
  readonly title: string;
  /** Most entries of a virtqueue. */
  readonly queueSize: number;
  /** What a driver that has taken MTU is not to get more than, in bytes behind the Ethernet header. */
  readonly mtu?: number | undefined;
  readonly accepts?: DeviceServerOptions['accepts'] | undefined;
  /** The driver is ready, and the port has its queues. */
  onStarted(): void;
  /** The driver broke a rule. A sentence, once in a while. */
  onError(text: string): void;
  /** The driver has sent what is no frame. Likewise. */
  onInvalidRequest(text: string): void;
}

/** Makes both halves; `makePort` makes the one for frames. Throws L4Error ENOMEM when /dev/shm is full. */
export function serveNetPort<Port extends VirtioPort>(
  env: DeviceEnv,
  options: NetPortOptions,
  makePort: (device: PortDevice) => Port,
): { readonly server: DeviceServer; readonly port: Port } {
  const { title, features, missingFeature, config, dsMax, queueSize, mtu, accepts, onKick } = options;
  const errors = new Throttle((text) => options.onError(text));
  const warnings = new Throttle((text) => options.onInvalidRequest(text));
  const server: DeviceServer = new DeviceServer(env, {
    deviceId: DEVICE_ID_NET,
    features,
    queues: [queueSize, queueSize],
    config,
    dsMax,
    name: title.charAt(0).toLowerCase() + title.slice(1),
    onConfigured: () => {
      const { device } = server;
      const [rx, tx] = [device.queue(RX), device.queue(TX)];
      if (!rx || !tx) throw new Error(`Broken invariant: ${title} is configured without queues`);
      port.start(rx, tx, device.features, hasFeature(device.features, NET_F_MTU) ? mtu : undefined);
      options.onStarted();
    },
    onReset: () => port.stop(),
    onKick,
    onError: (reason) => errors.say(`${title}: ${reason}`),
    ...(missingFeature ? { missingFeature } : {}),
    ...(accepts ? { accepts } : {}),
  });
  const port = makePort({
    fail: (error) => {
      // Zeros in place of rings that were truncated break rules, too: the cause is to be said first.
      server.checkMemory();
      server.device.fail(error.message);
    },
    interrupt: () => server.device.interrupt(),
    invalidRequest: (why) => warnings.say(`${title}: Invalid request${why ? `: ${why}` : ''}`),
  });
  return { server, port };
}

/** Has anybody truncated memory under us? To be asked when a driver kicks, not per frame: one load unless it is so. */
export class LossWatch {
  readonly #arena: Pick<Arena, 'losses'>;
  readonly #servers: () => Iterable<DeviceServer | undefined>;
  /** Mappings that were taken away when we looked last. */
  #seen: number;

  /** `servers`: those that there are when something was lost. */
  constructor(arena: Pick<Arena, 'losses'>, servers: () => Iterable<DeviceServer | undefined>) {
    this.#arena = arena;
    this.#servers = servers;
    this.#seen = arena.losses;
  }

  /** Lets those fail whose driver has done it. */
  check(): void {
    const { losses } = this.#arena;
    if (losses === this.#seen) return;
    this.#seen = losses;
    for (const server of this.#servers()) server?.checkMemory();
  }
}
