/**
 * Which ports there are: numbers, names, MAC addresses, limits. The checks of `create(0, ...)` against what exists,
 * in the order of the original (F3.2).
 */
import { L4Error } from '#common/ipc/errors';
import { MAX_NAME, type PortSpec } from './factory_args.ts';
import type { Log } from './log.ts';
import { formatMac, randomMac } from './mac_address.ts';
import type { VxlanSpec } from './vxlan/spec.ts';

export type PortKind = 'port' | 'monitor' | 'mirror' | 'nic' | 'vxlan';

/** A port that gets copies of others' frames and has none of its own. */
export function isOnlooker(kind: PortKind): boolean {
  return kind === 'monitor' || kind === 'mirror';
}

/** A port that exists. */
export interface Port {
  readonly number: number;
  readonly name: string;
  readonly kind: PortKind;
  readonly spec: PortSpec;
  /** Undefined: the port has none (`-M`), or the NIC's driver has not named it yet. */
  mac: Uint8Array | undefined;
}

export interface PortListOptions {
  readonly maxPorts: number;
  readonly assignMacs: boolean;
  readonly log: Log;
  /** Default 0. */
  readonly firstAge?: number;
}

export class PortList {
  readonly #options: PortListOptions;
  readonly #ports: (Port | undefined)[];
  #defaultNames = 0;
  /** Times that a port was added: readers of the statistics look their port up again when it changes. */
  #age: number;

  constructor(options: PortListOptions) {
    this.#options = options;
    this.#age = options.firstAge ?? 0;
    this.#ports = new Array(options.maxPorts + 1).fill(undefined);
  }

  get age(): number {
    return this.#age;
  }

  /** The port with that number; `maxPorts` is the monitor. */
  get(number: number): Port | undefined {
    return this.#ports[number];
  }

  /** Ports that count against the limit: all but the monitor. */
  get count(): number {
    return this.all().filter(({ kind }) => kind !== 'monitor').length;
  }

  all(): Port[] {
    return this.#ports.filter((port) => port !== undefined);
  }

  /**
   * Adds a port for a client. Throws L4Error ENOMEM (no room, a second monitor, MAC in use) or EINVAL (access and
   * trunk at once).
   */
  create(spec: PortSpec): Port {
    const number = this.#freeNumber(spec.monitor);
    checkVlan(spec);
    if (spec.vxlan) return this.#createTunnel(number, spec, spec.vxlan);
    const name = spec.name !== '' ? spec.name : this.#makeName(spec.monitor);
    const mac = spec.mac ?? (this.#options.assignMacs ? this.#freshMac() : undefined);
    if (!spec.monitor) this.#checkMac(name, mac);
    if (spec.mac && ((spec.mac[0] as number) & 1) === 1) {
      this.#options.log.warn(
        'core',
        `Port '${name}': MAC address ${formatMac(spec.mac)} is a multicast address`,
      );
    }
    if (!spec.monitor && !spec.mirror) return this.#add({ number, name, kind: 'port', spec, mac });
    const kind = spec.monitor ? 'monitor' : 'mirror';
    if (spec.access !== undefined)
      this.#options.log.warn('core', `vlan=access=<id> ignored on ${kind} ports!`);
    if (Array.isArray(spec.trunk))
      this.#options.log.warn('core', `vlan=trunk=<ids> ignored on ${kind} ports!`);
    for (const watched of spec.mirror ?? []) this.#warnOfNobody(watched, name);
    return this.#add({ number, name, kind, spec: native(spec), mac });
  }

  /**
   * Adds a port of an earlier life of the switch as it was. Throws L4Error EINVAL (nothing that a switch makes) or
   * ENOMEM (number or MAC address in use).
   */
  restore(spec: PortSpec, { number, name, mac }: Pick<Port, 'number' | 'name' | 'mac'>): Port {
    const { maxPorts } = this.#options;
    checkVlan(spec);
    if (!(spec.monitor ? number === maxPorts : number < maxPorts))
      throw new L4Error('EINVAL', `its number must be that of a port: current value is ${number}`);
    if (name === '' || name.length > MAX_NAME)
      throw new L4Error(
        'EINVAL',
        `its name must have 1 to ${MAX_NAME} characters: current value is '${name}'`,
      );
    const owner = this.#ports[number];
    if (owner) throw noPort(`number ${number} is in use by port '${owner.name}'`);
    if (!spec.monitor) this.#checkMac(name, mac);
    const [, made] = /\[(\d{1,9})\]$/.exec(name) ?? [];
    if (spec.name === '') this.#defaultNames = Math.max(this.#defaultNames, Number(made ?? -1) + 1);
    const kind = kindOf(spec);
    return this.#add({
      number,
      name,
      kind,
      spec: kind === 'port' || kind === 'vxlan' ? spec : native(spec),
      mac,
    });
  }

  /** Adds the port of a NIC, before its driver is known. Throws L4Error ENOMEM or EINVAL, as `create`. */
  createNic(dsMax: number, wanted: Partial<PortSpec> = {}): Port {
    const spec: PortSpec = { name: '', monitor: false, ...wanted, dsMax };
    const number = this.#freeNumber(false);
    checkVlan(spec);
    return this.#add({ number, name: spec.name || 'ixl', kind: 'nic', spec, mac: undefined });
  }

  /**
   * Gives the NIC's port the NIC's address and, if it was not given a name, the name of its driver. Throws L4Error
   * ENOMEM when a port has that address.
   */
  identify(port: Port, driver: string, mac: Uint8Array): Port {
    const name = port.spec.name || driver;
    this.#checkMac(name, mac, port.number);
    const identified: Port = { ...port, name, mac };
    this.#ports[port.number] = identified;
    this.#age += 1;
    return identified;
  }

  /** All ports with frames of their own, each with the numbers of the mirrors that look at it. */
  mirrored(): { readonly port: Port; readonly mirrors: readonly number[] }[] {
    const all = this.all();
    const mirrors = all.filter(({ kind }) => kind === 'mirror');
    const looking = ({ name }: Port) => mirrors.filter(({ spec }) => spec.mirror?.includes(name));
    return all
      .filter(({ kind }) => !isOnlooker(kind))
      .map((port) => ({ port, mirrors: looking(port).map(({ number }) => number) }));
  }

  remove(number: number): void {
    this.#ports[number] = undefined;
  }

  /** The other end of a tunnel has stations of its own and needs no address. */
  #createTunnel(number: number, spec: PortSpec, { vni }: VxlanSpec): Port {
    return this.#add({ number, name: spec.name || `vxlan${vni}`, kind: 'vxlan', spec, mac: undefined });
  }

  #add(port: Port): Port {
    this.#ports[port.number] = port;
    this.#age += 1;
    return port;
  }

  #freeNumber(monitor: boolean): number {
    const { maxPorts } = this.#options;
    if (monitor) {
      if (this.#ports[maxPorts] === undefined) return maxPorts;
      throw noPort('there is a monitor port already');
    }
    const number = this.#ports.indexOf(undefined);
    if (number >= 0 && number < maxPorts) return number;
    throw noPort(`all ${maxPorts} are in use; more with the option -p`);
  }

  #warnOfNobody(wanted: string, mirror: string): void {
    const names = this.all()
      .filter(({ kind }) => !isOnlooker(kind))
      .map(({ name }) => name);
    if (names.includes(wanted)) return;
    this.#options.log.warn(
      'port',
      `Mirror '${mirror}' sees nothing of port '${wanted}' until there is one of that name: there are ${names.join(', ') || 'none'}`,
    );
  }

  #makeName(monitor: boolean): string {
    const number = this.#defaultNames++;
    return monitor ? `monitor[${number}]` : `[${number}]`;
  }

  #freshMac(): Uint8Array {
    for (;;) {
      const mac = randomMac();
      if (!this.#owner(mac)) return mac;
    }
  }

  #checkMac(name: string, mac: Uint8Array | undefined, except = -1): void {
    const owner = mac && this.#owner(mac, except);
    if (!mac || !owner) return;
    throw new L4Error(
      'ENOMEM',
      `Rejecting port '${name}'. MAC address already in use. It is ${formatMac(mac)} of port '${owner.name}'`,
      { code: 'VSWITCH_MAC_IN_USE' },
    );
  }

  #owner(mac: Uint8Array, except = -1): Port | undefined {
    const isSame = (port: Port) => port.mac?.every((byte, n) => byte === mac[n]) ?? false;
    return this.#ports.find(
      (port) => port !== undefined && port.kind !== 'monitor' && port.number !== except && isSame(port),
    );
  }
}

function kindOf({ monitor, mirror, vxlan }: PortSpec): PortKind {
  if (vxlan) return 'vxlan';
  if (monitor) return 'monitor';
  return mirror ? 'mirror' : 'port';
}

/** Ports that only listen have no VLAN. */
function native(spec: PortSpec): PortSpec {
  const { access: _access, trunk: _trunk, ...rest } = spec;
  return rest;
}

function checkVlan({ access, trunk }: PortSpec): void {
  if (access === undefined || trunk === undefined) return;
  throw new L4Error('EINVAL', 'VLAN port cannot be access and trunk simultaneously.', {
    code: 'VSWITCH_VLAN',
  });
}

function noPort(why: string): L4Error {
  return new L4Error('ENOMEM', `No port available: ${why}`, { code: 'VSWITCH_NO_PORT' });
}
