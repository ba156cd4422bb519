/**
 * Which ports there are: numbers, names, MAC addresses, limits. The checks of `create(0, ...)` against what exists,
 * in the order of the original (F3.2).
 */
import { L4Error } from '#common/ipc/errors';
import type { PortSpec } from './factory_args.ts';
import type { Log } from './log.ts';
import { formatMac, randomMac } from './mac_address.ts';

export type PortKind = 'port' | 'monitor' | 'nic';

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
}

export class PortList {
  readonly #options: PortListOptions;
  readonly #ports: (Port | undefined)[];
  #defaultNames = 0;
  /** Times that a port was added: readers of the statistics look their port up again when it changes. */
  #age = 0;

  constructor(options: PortListOptions) {
    this.#options = options;
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
    if (spec.access !== undefined && spec.trunk !== undefined) {
      throw new L4Error('EINVAL', 'VLAN port cannot be access and trunk simultaneously.', {
        code: 'VSWITCH_VLAN',
      });
    }
    const name = spec.name !== '' ? spec.name : this.#makeName(spec.monitor);
    const mac = spec.mac ?? (this.#options.assignMacs ? this.#freshMac() : undefined);
    if (!spec.monitor) this.#checkMac(name, mac);
    if (spec.mac && ((spec.mac[0] as number) & 1) === 1) {
      this.#options.log.warn(
        'core',
        `Port '${name}': MAC address ${formatMac(spec.mac)} is a multicast address`,
      );
    }
    if (!spec.monitor) return this.#add({ number, name, kind: 'port', spec, mac });
    if (spec.access !== undefined)
      this.#options.log.warn('core', 'vlan=access=<id> ignored on monitor ports!');
    if (Array.isArray(spec.trunk))
      this.#options.log.warn('core', 'vlan=trunk=<ids> ignored on monitor ports!');
    const { access: _access, trunk: _trunk, ...native } = spec;
    return this.#add({ number, name, kind: 'monitor', spec: native, mac });
  }

  /** Adds the port of a NIC, before its driver is known. Throws L4Error ENOMEM. */
  createNic(dsMax: number): Port {
    const spec: PortSpec = { name: 'ixl', dsMax, monitor: false };
    return this.#add({ number: this.#freeNumber(false), name: spec.name, kind: 'nic', spec, mac: undefined });
  }

  /**
   * Names the NIC's port after its driver and gives it the NIC's address. Throws L4Error ENOMEM when a port has that
   * address.
   */
  identify(port: Port, name: string, mac: Uint8Array): Port {
    this.#checkMac(name, mac, port.number);
    const identified: Port = { ...port, name, mac };
    this.#ports[port.number] = identified;
    this.#age += 1;
    return identified;
  }

  remove(number: number): void {
    this.#ports[number] = undefined;
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
    const text = formatMac(mac);
    return this.all().find(
      (port) => port.kind !== 'monitor' && port.number !== except && port.mac && formatMac(port.mac) === text,
    );
  }
}

function noPort(why: string): L4Error {
  return new L4Error('ENOMEM', `No port available: ${why}`, { code: 'VSWITCH_NO_PORT' });
}
