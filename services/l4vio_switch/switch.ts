/**
 * The switch as a whole: ports come and go, each an L4virtio device of its own, and one pump moves the frames.
 *
 * A port exists three times: in the port list (who it is), as a device server (set-up by its driver, over
 * capabilities), and as an endpoint of the forwarder (frames). They are made and taken apart here, together.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { ExportOptions, Gate } from '#common/ipc/gate';
import type { Binding } from '#common/ipc/service';
import type { KeptRecord, Memo } from '#common/journal/object_journal';
import type { DeviceEnv, DeviceServer } from '#common/l4virtio/device_server';
import { LossWatch, serveNetPort } from '#common/l4virtio/net_port';
import type { Arena } from '#common/shm/arena';
import type { SharedMemoryRef } from '#common/shm/dataspace';
import { Pump } from '#common/shm/pump';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { type Features, hasFeature, NET_F_STATUS } from '#common/virtio/features';
import type { Endpoint } from '#common/vnet/endpoint';
import { netConfig } from '#common/vnet/net_config';
import { missingFeature, portFeatures } from '#common/vnet/offload';
import { Scheduler } from '#common/vnet/scheduler';
import { SCRATCH_BYTES, VirtioPort } from '#common/vnet/virtio_port';
import type { PortSpec } from './factory_args.ts';
import { Forwarder } from './forward.ts';
import { HeldPorts } from './held_ports.ts';
import type { StormLimit } from './limits.ts';
import { LinkStates } from './link_states.ts';
import type { Log } from './log.ts';
import { formatMac } from './mac_address.ts';
import { MacTable } from './mac_table.ts';
import type { Options } from './options.ts';
import { isOnlooker, type Port, PortList } from './port_list.ts';
import { statisticsBytes, writeStatistics } from './statistics.ts';
import { formatEnds, type VxlanSpec } from './vxlan/spec.ts';
import { Tunnels } from './vxlan/tunnels.ts';

const RX = 0;
const TX = 1;
/** Dataspaces that a NIC's driver may register: its rings and its packet buffers, with room to grow. */
const NIC_DS_MAX = 16;

export interface SwitchEnv extends DeviceEnv {
  readonly arena: Arena;
}

export interface SwitchOptions extends Pick<Options, 'ports' | 'queueSize' | 'assignMacs'> {
  readonly log: Log;
  /** What the age of the statistics begins with; default 0. */
  readonly firstAge?: number;
  /** Seconds after which an address that was not seen is forgotten; default never. */
  readonly macAge?: number;
  /** Storm control of ports that have none of their own. */
  readonly storm?: StormLimit | undefined;
  /** MTU that ports without one of their own offer, in bytes behind the Ethernet header; default: none is offered. */
  readonly mtu?: number | undefined;
  /** Which dataspaces clients may register; default all. */
  readonly accepts?: (memory: SharedMemoryRef) => boolean;
  /** Milliseconds; default: the time of this process. */
  readonly clock?: () => number;
}

export class Switch {
  readonly ports: PortList;
  readonly forwarder: Forwarder;
  readonly #env: SwitchEnv;
  readonly #options: SwitchOptions;
  readonly #scheduler: Scheduler;
  readonly #pump: Pump;
  readonly #scratch: number;
  /** What keeps a port for the next life of the switch. */
  readonly #keepers = new Map<number, () => void>();
  readonly #losses: LossWatch;
  readonly #servers = new Map<number, DeviceServer>();
  /** What takes the object of a client's port away. */
  readonly #destroyers = new Map<number, () => void>();
  readonly #links = new LinkStates();
  readonly #tunnels: Tunnels;
  readonly #held: HeldPorts;
  readonly #removalListeners = new Set<(port: number) => void>();

  constructor(env: SwitchEnv, options: SwitchOptions) {
    this.#env = env;
    this.#options = options;
    this.ports = new PortList({ ...options, maxPorts: options.ports });
    const macs = new MacTable(undefined, options.macAge);
    this.forwarder = new Forwarder(options.ports, options.log, {
      macs,
      ...(options.clock && { clock: options.clock }),
      onHeld: (port) => this.#held.add(port),
    });
    this.#scheduler = new Scheduler(this.forwarder);
    this.#pump = new Pump(this.#scheduler);
    this.#tunnels = new Tunnels(env.arena, this.forwarder, options.log, (number) => this.activate(number));
    this.#held = new HeldPorts(
      options.ports,
      (port) => this.#scheduler.activate(port),
      () => this.#pump.kick(),
    );
    this.#losses = new LossWatch(env.arena, () => this.#servers.values());
    this.#scratch = env.arena.mapPrivate((options.ports + 1) * SCRATCH_BYTES);
  }

  start(): void {
    this.#pump.start();
  }

  /** Stops all traffic and gives all memory of the ports back. */
  close(): void {
    this.#pump.stop();
    this.#held.close();
    for (const { number } of this.ports.all()) this.removePort(number);
  }

  /** Makes a port for a client; it goes with the last task that holds it, or with `destroyPort`. Throws L4Error. */
  createPort(gate: Gate, spec: PortSpec, holder?: string, memo?: Memo): Capability {
    const holders = holder === undefined ? undefined : [holder];
    return this.#export(gate, this.ports.create(spec), { ...(holders && { holders }) }, memo);
  }

  /** Makes a port of an earlier life of the switch again, behind the same object. Throws L4Error. */
  restorePort(gate: Gate, spec: PortSpec, record: KeptRecord, memo: Memo): Capability {
    const { object: id, holders } = record;
    const held = record.persistent ? {} : { holders };
    const port = this.ports.restore(spec, record);
    const capability = this.#export(gate, port, { id, ...held }, memo);
    if (record.down) this.setLink(port.number, false);
    return capability;
  }

  /** Makes a VXLAN port that nobody holds: it lives as long as the switch. Throws L4Error. */
  createTunnel(spec: PortSpec & Required<Pick<PortSpec, 'vxlan'>>): Port {
    const port = this.ports.create(spec);
    this.#openTunnel(port, spec.vxlan);
    return port;
  }

  /** Takes a client's port away, whoever holds it. False when it is not a client's: a NIC, or no port. */
  destroyPort(number: number): boolean {
    const destroy = this.#destroyers.get(number);
    destroy?.();
    return destroy !== undefined;
  }

  /** Forgets what the client of a port has set up, as if it had reset its device. */
  resetPort(number: number): void {
    const device = this.#servers.get(number)?.device;
    device?.setStatus(0);
    device?.regions.clear();
  }

  /** The queues of a client that is ready: towards it, and from it. */
  queues(number: number): { readonly rx: DeviceQueue; readonly tx: DeviceQueue } | undefined {
    const device = this.#servers.get(number)?.device;
    const [rx, tx] = [device?.queue(RX), device?.queue(TX)];
    return rx && tx ? { rx, tx } : undefined;
  }

  /** Calls `listener` with the number of each port that goes. */
  onRemoval(listener: (port: number) => void): void {
    this.#removalListeners.add(listener);
  }

  /** Makes the port of a NIC, before its driver is known. Throws L4Error ENOMEM, or EINVAL. */
  createNicPort(spec: Partial<PortSpec> = {}): Port {
    return this.ports.createNic(NIC_DS_MAX, spec);
  }

  /** Gives the NIC's port its address and name. Throws L4Error ENOMEM when a port has that address. */
  identifyNic(port: Port, driver: string, mac: Uint8Array): Port {
    const identified = this.ports.identify(port, driver, mac);
    this.#updateMirrors();
    return identified;
  }

  /**
   * Takes the link of a port up or down: down, it neither sends nor receives, and its addresses are forgotten. A driver
   * that has negotiated STATUS is told. Throws L4Error ENOENT when there is no such port.
   */
  setLink(number: number, up: boolean): void {
    const port = this.ports.get(number);
    if (!port) {
      throw new L4Error('ENOENT', `Cannot set the link of port ${number} as there is none of that number`, {
        code: 'VSWITCH_NO_SUCH_PORT',
      });
    }
    this.#links.set(number, up);
    this.#keepers.get(number)?.();
    this.#updateLink(port);
  }

  /** The NIC of a port has a link, or has none: then its port is down as if the user had taken it down. */
  setCarrier(number: number, up: boolean): void {
    const port = this.ports.get(number);
    if (!port) return;
    this.#links.setCarrier(number, up);
    this.#updateLink(port);
  }

  /** Has the NIC behind the port no link? */
  lacksCarrier(number: number): boolean {
    return this.#links.lacksCarrier(number);
  }

  /** Serves a NIC's port to its driver, who is to get the bindings. */
  serveNic(port: Port): readonly Binding[] {
    return this.#serve(port, NIC_DS_MAX).bindings;
  }

  /** The NIC's driver is gone: the port stays, and nothing is behind it. */
  silenceNic(number: number): void {
    this.#disconnect(number);
  }

  /** Connects a NIC that this process drives to its port. `activate` is to be called at its interrupts. */
  connectNic(number: number, make: (forwarder: Forwarder, scratch: number) => Endpoint): void {
    this.#connect(number, make(this.forwarder, this.#scratchOf(number)));
    this.activate(number);
  }

  /** There may be frames at a port: gets the pump going. */
  activate(number: number): void {
    this.#losses.check();
    this.#scheduler.activate(number);
    this.#pump.kick();
  }

  /** Takes a port away: addresses are forgotten, the number is free again. */
  removePort(number: number): void {
    const port = this.ports.get(number);
    if (!port) return;
    this.#disconnect(number);
    this.#links.forget(number);
    for (const tell of this.#removalListeners) tell(number);
    this.forwarder.forget(number);
    this.#destroyers.delete(number);
    this.#keepers.delete(number);
    this.ports.remove(number);
    this.#updateMirrors();
    this.#options.log.info('port', `Removed port '${port.name}' (${number})`);
  }

  /** Most ports at a time. */
  get maxPorts(): number {
    return this.#options.ports;
  }

  /** True when what is behind the port belongs to this process: a NIC that it drives, or a tunnel. */
  drives(number: number): boolean {
    return this.forwarder.endpoint(number) !== undefined && !this.#servers.has(number);
  }

  /** Bytes of the statistics page. */
  get statisticsBytes(): number {
    return statisticsBytes(this.#options.ports);
  }

  /** Writes the statistics page at an offset of the arena. */
  writeStatistics(at: number): void {
    writeStatistics(this.#env.arena, at, this.#options.ports, this.ports, this.forwarder.counters);
  }

  #export(
    gate: Gate,
    port: Port,
    options: Pick<ExportOptions, 'holders' | 'id'>,
    memo: Memo | undefined,
  ): Capability {
    const { vxlan, dsMax } = port.spec;
    const bindings = vxlan ? this.#openTunnel(port, vxlan) : this.#serve(port, dsMax).bindings;
    const mac = port.mac ? formatMac(port.mac) : 'none';
    this.#options.log.info('port', `Created port '${port.name}' (${port.number}), MAC ${mac}`);
    let { holders = [] } = options;
    const keep = (): void => {
      memo?.save(capability.object, { ...port, down: this.#links.isTakenDown(port.number) }, holders);
    };
    const capability = gate.export(bindings, {
      ...options,
      onHolders: (now) => {
        holders = now;
        keep();
      },
      onGone: () => {
        memo?.remove(capability.object);
        this.removePort(port.number);
      },
    });
    keep();
    this.#keepers.set(port.number, keep);
    this.#destroyers.set(port.number, () => gate.destroy(capability));
    return capability;
  }

  #serve(port: Port, dsMax: number): DeviceServer {
    const { number, name } = port;
    const { log, queueSize, accepts } = this.#options;
    try {
      const options = {
        title: `Port '${name}'`,
        features: this.#offeredFeatures(port),
        missingFeature,
        config: this.#configOf(port),
        dsMax,
        queueSize,
        mtu: this.#mtuOf(port),
        accepts,
        onKick: () => this.activate(number),
        onStarted: () => {
          log.debug('port', `Port ${number} runs`);
          // What the driver sent before it was ready has had its notification already.
          this.activate(number);
        },
        onError: (text: string) => log.error(text),
        onInvalidRequest: (text: string) => log.warn('request', text),
      };
      const made = serveNetPort(this.#env, options, (device) => {
        return new VirtioPort({
          number,
          nic: port.kind === 'nic',
          memory: this.#env.arena,
          scratch: this.#scratchOf(number),
          mute: isOnlooker(port.kind),
          fabric: this.forwarder,
          device,
        });
      });
      this.#servers.set(number, made.server);
      this.#connect(number, made.port);
      return made.server;
    } catch (err) {
      // No memory for the config page: neither the number nor what there was of the port may stay.
      this.removePort(number);
      throw err;
    }
  }

  #updateLink(port: Port): void {
    const { number, name } = port;
    const up = this.#links.isUp(number);
    if (this.forwarder.linkUp(number) === up) return;
    this.forwarder.setLink(number, up);
    if (!up) this.#tunnels.forget(number);
    const device = this.#servers.get(number)?.device;
    device?.changeConfig(this.#configOf(port), hasFeature(device.features, NET_F_STATUS));
    this.#options.log.info('port', `Port '${name}' (${number}): link ${up ? 'up' : 'down'}`);
  }

  #connect(number: number, endpoint: Endpoint): void {
    const { spec, kind } = this.ports.get(number) as Port;
    const storm =
      spec.storm ?? (kind === 'port' || kind === 'nic' || kind === 'vxlan' ? this.#options.storm : undefined);
    const roles = { uplink: kind === 'nic', waits: kind === 'port' };
    this.forwarder.connect(number, endpoint, { ...spec, ...roles, ...(storm && { storm }) });
    this.#updateMirrors();
  }

  /** A port came, went or got its name: mirrors know ports by name. */
  #updateMirrors(): void {
    for (const { port, mirrors } of this.ports.mirrored()) {
      // A port without endpoint has no frames; it is looked at again when it is connected.
      if (this.forwarder.endpoint(port.number)) this.forwarder.mirror(port.number, mirrors);
    }
  }

  #disconnect(number: number): void {
    this.#scheduler.forget(number);
    this.#held.remove(number);
    this.forwarder.disconnect(number);
    this.#servers.get(number)?.close();
    this.#servers.delete(number);
    this.#tunnels.close(number);
  }

  /** There is nothing to drive: the object of the port only keeps it. */
  #openTunnel(port: Port, spec: VxlanSpec): readonly Binding[] {
    const { number, name } = port;
    try {
      this.#connect(number, this.#tunnels.open(port, spec, this.#scratchOf(number)));
      this.#tunnels.start(number);
    } catch (err) {
      this.removePort(number);
      throw err;
    }
    this.#options.log.info('port', `Port '${name}' (${number}): VXLAN ${spec.vni} with ${formatEnds(spec)}`);
    return [];
  }

  #scratchOf(number: number): number {
    return this.#scratch + number * SCRATCH_BYTES;
  }

  #mtuOf({ spec }: Port): number | undefined {
    return spec.mtu ?? this.#options.mtu;
  }

  #configOf(port: Port): Uint8Array {
    return netConfig({ mac: port.mac, mtu: this.#mtuOf(port), linkUp: this.forwarder.linkUp(port.number) });
  }

  /** A NIC's driver has frames as they are on the wire, and nothing to offload them to. */
  #offeredFeatures(port: Port): Features {
    return portFeatures({
      mac: port.mac !== undefined,
      mtu: this.#mtuOf(port) !== undefined,
      offloads: port.kind !== 'nic',
    });
  }
}
