/**
 * The link as a whole: two ports, each an L4virtio network device of its own, and one pump that moves the frames.
 *
 *     create() ──> Link ──> DeviceServer (set-up, over capabilities)
 *     kick ──> Scheduler ──> WireEnd 0 <── Wire ──> WireEnd 1 ──> interrupt
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { ExportOptions, Gate } from '#common/ipc/gate';
import type { KeptRecord, Memo } from '#common/journal/object_journal';
import type { DeviceEnv, DeviceServer } from '#common/l4virtio/device_server';
import { LossWatch, serveNetPort } from '#common/l4virtio/net_port';
import { Throttle } from '#common/obs/throttle';
import type { Arena } from '#common/shm/arena';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import { Pump } from '#common/shm/pump';
import {
  F_EVENT_IDX,
  F_INDIRECT_DESC,
  type Features,
  featureSet,
  NET_F_CSUM,
  NET_F_GUEST_CSUM,
  NET_F_MAC,
  NET_F_MRG_RXBUF,
} from '#common/virtio/features';
import { Scheduler } from '#common/vnet/scheduler';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import type { PortSpec } from './factory_args.ts';
import { across, ENDS, Wire, WireEnd } from './wire.ts';

const MAC_SIZE = 6;
const US_PER_MS = 1000;

export interface LinkEnv extends DeviceEnv {
  readonly arena: Arena;
}

export interface LinkOptions {
  /** Most entries of a virtqueue. */
  readonly queueSize: number;
  /** Microseconds between two looks at the queues; undefined: drivers notify. */
  readonly pollUs?: number | undefined;
  readonly log: (line: string) => void;
  /** Which dataspaces clients may register; default all. */
  readonly accepts?: ((memory: SharedMemoryRef) => boolean) | undefined;
}

export class Link {
  readonly #env: LinkEnv;
  readonly #options: LinkOptions;
  readonly #wire: Wire;
  readonly #scheduler: Scheduler;
  readonly #pump: Pump;
  readonly #scratch: number;
  readonly #servers: (DeviceServer | undefined)[] = [undefined, undefined];
  readonly #losses: LossWatch;
  #timer: NodeJS.Timeout | undefined;

  constructor(env: LinkEnv, options: LinkOptions) {
    this.#env = env;
    this.#options = options;
    const tooLong = new Throttle(options.log);
    this.#wire = new Wire({
      polled: options.pollUs !== undefined,
      onTooLong: (from) =>
        tooLong.say(
          `Dropped a frame of port ${from} as it is longer than the receive buffers of port ${across(from)}`,
        ),
    });
    this.#scheduler = new Scheduler(this.#wire);
    this.#pump = new Pump(this.#scheduler);
    this.#losses = new LossWatch(env.arena, () => this.#servers);
    this.#scratch = env.arena.mapPrivate(ENDS * SCRATCH_BYTES);
  }

  start(): void {
    this.#pump.start();
    const { pollUs } = this.#options;
    if (pollUs === undefined) return;
    this.#timer = setInterval(() => this.#activate(), Math.ceil(pollUs / US_PER_MS));
  }

  /** Stops all traffic and gives all memory of the ports back. */
  close(): void {
    clearInterval(this.#timer);
    this.#pump.stop();
    for (let number = 0; number < ENDS; number++) this.#disconnect(number);
  }

  /** Gives a free port to a client; it is free again when the last task that holds it is gone. Throws L4Error ENOMEM. */
  createPort(gate: Gate, spec: PortSpec, holder: string, memo?: Memo): Capability {
    const number = this.#servers.indexOf(undefined);
    if (number < 0) {
      throw new L4Error('ENOMEM', 'No port available: both are in use, a point-to-point link has two', {
        code: 'P2P_NO_PORT',
      });
    }
    return this.#export(gate, number, spec, { holders: [holder] }, memo);
  }

  /** Makes a port of an earlier life of the link again, behind the same object. Throws L4Error EINVAL, ENOMEM. */
  restorePort(gate: Gate, spec: PortSpec, { number, object: id, holders }: KeptRecord, memo: Memo): void {
    if (number >= ENDS)
      throw new L4Error('EINVAL', `its number must be 0..${ENDS - 1}: current value is ${number}`);
    if (this.#servers[number]) throw new L4Error('ENOMEM', `port ${number} is in use`);
    this.#export(gate, number, spec, { id, holders }, memo);
  }

  #export(
    gate: Gate,
    number: number,
    spec: PortSpec,
    options: Required<Pick<ExportOptions, 'holders'>> & Pick<ExportOptions, 'id'>,
    memo: Memo | undefined,
  ): Capability {
    const { bindings } = this.#connect(number, spec);
    const capability = gate.export(bindings, {
      ...options,
      onHolders: (holders) => memo?.save(capability.object, { number }, holders),
      onGone: () => {
        this.#options.log(`Client on port ${number} has gone. Unregistering.`);
        memo?.remove(capability.object);
        this.#disconnect(number);
      },
    });
    memo?.save(capability.object, { number }, options.holders);
    return capability;
  }

  #connect(number: number, { dsMax, mac }: PortSpec): DeviceServer {
    const { log, queueSize, accepts } = this.#options;
    const options = {
      title: `Port ${number}`,
      features: offeredFeatures(mac !== undefined),
      config: mac ?? new Uint8Array(MAC_SIZE),
      dsMax,
      queueSize,
      accepts,
      onKick: () => this.#activate(),
      // What either end sent before this one was ready waits in its queue.
      onStarted: () => this.#activate(),
      onError: log,
      onInvalidRequest: log,
    };
    const { server, port } = serveNetPort(this.#env, options, (device) => {
      return new WireEnd({
        number,
        memory: this.#env.arena,
        scratch: this.#scratch + number * SCRATCH_BYTES,
        wire: this.#wire,
        device,
      });
    });
    this.#servers[number] = server;
    this.#wire.connect(number, port);
    return server;
  }

  /** A kick means frames of that port, or receive buffers that frames of the other one wait for. */
  #activate(): void {
    this.#losses.check();
    for (let number = 0; number < ENDS; number++) this.#scheduler.activate(number);
    this.#pump.kick();
  }

  #disconnect(number: number): void {
    this.#scheduler.forget(number);
    this.#wire.disconnect(number);
    this.#servers[number]?.close();
    this.#servers[number] = undefined;
  }
}

/** Those of the original, and EVENT_IDX, of which only a client that asks for it hears. */
function offeredFeatures(mac: boolean): Features {
  const bits = [NET_F_CSUM, NET_F_GUEST_CSUM, NET_F_MRG_RXBUF, F_INDIRECT_DESC, F_EVENT_IDX];
  return featureSet(...bits, ...(mac ? [NET_F_MAC] : []));
}
