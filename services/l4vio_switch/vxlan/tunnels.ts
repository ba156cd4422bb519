/** All VXLAN ports of a switch, and the sockets that they share: one for each local address, UDP port and interface. */
import { L4Error, type L4ErrorName } from '#common/ipc/errors';
import type { Arena } from '#common/shm/arena';
import { formatHost, formatIp } from '#common/udp/address';
import { interfaceIndex, SocketError } from '#common/udp/libc';
import { sockaddrIp } from '#common/udp/sockaddr';
import { UdpSocket } from '#common/udp/socket';
import type { Forwarder } from '../forward.ts';
import type { Log } from '../log.ts';
import type { Port } from '../port_list.ts';
import { sendersOf } from './host.ts';
import { REMOTES_BYTES } from './remotes.ts';
import type { VxlanSpec } from './spec.ts';
import { Vtep, type VtepPlace } from './vtep.ts';
import { VxlanPort } from './vxlan_port.ts';

/** What is wrong with an address or port, for the people who chose it. */
const HINTS: Readonly<Record<string, readonly [L4ErrorName, string]>> = {
  EADDRINUSE: [
    'EBUSY',
    'another program, another VXLAN port with other local= or dev=, or the vxlan driver of Linux has that port: choose another with port=N',
  ],
  EADDRNOTAVAIL: [
    'EADDRNOTAVAIL',
    'this host has no such address: choose one of "ip addr" with local=ADDRESS',
  ],
  EACCES: ['EPERM', 'ports below 1024 need CAP_NET_BIND_SERVICE: choose another with port=N'],
  ENODEV: ['ENODEV', 'this host has no such interface: choose one of "ip link" with dev=NAME'],
  EPERM: ['EPERM', 'to use one interface only needs Linux 5.7 or CAP_NET_RAW: leave out dev=NAME'],
  EAFNOSUPPORT: ['ENODEV', 'this host has no IPv6: use IPv4 addresses'],
  ENOBUFS: [
    'ENOMEM',
    'the host limits how many groups a program may join: sysctl net.ipv4.igmp_max_memberships',
  ],
  EMFILE: [
    'ENOMEM',
    'the switch has as many files open as it may: "ulimit -n" with a larger number before l4lab',
  ],
};

interface Entry {
  readonly port: VxlanPort;
  readonly name: string;
  readonly place: string;
  /** Offset of its REMOTES_BYTES. */
  readonly memory: number;
}

export class Tunnels {
  readonly #arena: Arena;
  readonly #forwarder: Forwarder;
  readonly #log: Log;
  readonly #activate: (port: number) => void;
  readonly #vteps = new Map<string, Vtep>();
  readonly #ports = new Map<number, Entry>();

  /** `activate`: frames may have come for that port. */
  constructor(arena: Arena, forwarder: Forwarder, log: Log, activate: (port: number) => void) {
    this.#arena = arena;
    this.#forwarder = forwarder;
    this.#log = log;
    this.#activate = activate;
  }

  /**
   * Makes the endpoint of a port, which `start` sets going. Throws L4Error EEXIST (the network has a port already), EBUSY,
   * EADDRNOTAVAIL, ENODEV, EPERM, ENOMEM or EIO (no socket).
   */
  open({ number, name, spec: { trunk } }: Port, spec: VxlanSpec, scratch: number): VxlanPort {
    const place = nameOf(spec);
    if (this.#vteps.get(place)?.has(spec.vni)) {
      throw new L4Error(
        'EEXIST',
        `Cannot open VXLAN port '${name}' as each id needs a UDP port of its own: ${spec.vni} has one at ${place} already`,
        { code: 'VSWITCH_VXLAN' },
      );
    }
    return this.#telling(name, place, () => {
      const senders = sendersOf(spec);
      const scope = spec.device === undefined ? 0 : interfaceIndex(spec.device);
      const memory = this.#arena.mapPrivate(REMOTES_BYTES);
      try {
        const port = new VxlanPort({
          number,
          spec,
          trunk: trunk !== undefined,
          memory: this.#arena,
          scratch,
          remotesAt: memory,
          scope,
          senders,
          fabric: this.#forwarder,
          ...(this.#forwarder.macs.ages && { clock: this.#forwarder.macs }),
          vtep: this.#vtep(place, spec),
          dropped: (reason) => this.#forwarder.counters.dropped(number, reason),
        });
        this.#ports.set(number, { port, name, place, memory });
        return port;
      } catch (err) {
        this.#arena.unmap(memory, REMOTES_BYTES);
        throw err;
      }
    });
  }

  /** The port is connected: frames may come. Throws L4Error ENOMEM: its group cannot be joined. */
  start(number: number): void {
    const entry = this.#ports.get(number);
    if (entry) this.#telling(entry.name, entry.place, () => entry.port.open());
  }

  /** The link of a port is down: forgets where stations are. */
  forget(number: number): void {
    this.#ports.get(number)?.port.forget();
  }

  /** Takes a port's endpoint away, if it has one. */
  close(number: number): void {
    const entry = this.#ports.get(number);
    if (!entry) return;
    this.#ports.delete(number);
    entry.port.close();
    this.#arena.unmap(entry.memory, REMOTES_BYTES);
    const vtep = this.#vteps.get(entry.place);
    if (vtep?.size !== 0) return;
    this.#vteps.delete(entry.place);
    vtep.close();
  }

  #vtep(place: string, spec: VxlanSpec): Vtep {
    const known = this.#vteps.get(place);
    if (known) return known;
    const vtep = new Vtep(
      {
        memory: this.#arena,
        open: (options) => new UdpSocket(this.#arena, options),
        activate: this.#activate,
        stranger: (...what) => this.#log.warn('port', this.#strangers(place, ...what)),
        clock: () => performance.now(),
      },
      placeOf(spec),
    );
    this.#vteps.set(place, vtep);
    return vtep;
  }

  #strangers(place: string, count: number, vni: number, sender: number): string {
    const why = vni < 0 ? 'was no VXLAN' : `had VXLAN id ${vni}, which no port has`;
    const from = formatIp(sockaddrIp(this.#arena, sender));
    return `Dropped ${count} datagrams to ${place} so far; the last, from ${from}, ${why}`;
  }

  /** Says whose socket it is, and what can be done. */
  #telling<T>(name: string, place: string, make: () => T): T {
    try {
      return make();
    } catch (cause) {
      const what = `Cannot open VXLAN port '${name}' at ${place}`;
      const code = 'VSWITCH_VXLAN';
      if (cause instanceof L4Error && cause.code === code)
        throw new L4Error('ENODEV', `${what}: ${cause.message}`, { code, cause });
      if (!(cause instanceof SocketError)) throw cause;
      const [errno, hint] = HINTS[cause.code] ?? ['EIO', 'the system refuses a socket like this'];
      throw new L4Error(errno, `${what} (${cause.message}): ${hint}`, { code, cause });
    }
  }
}

/** A group's socket takes what is sent to the group, so it cannot be bound to an address of ours. */
function placeOf({ family, local, port, device, group }: VxlanSpec): VtepPlace {
  if (!group) return { family, address: local, port, device };
  return { family, source: local, port, device, groupHops: group.ttl };
}

/** The same for all ports that can share their sockets. */
function nameOf({ family, local, port, device, group }: VxlanSpec): string {
  const host = local ? formatHost(local) : family === 4 ? '0.0.0.0' : '[::]';
  const on = device === undefined ? '' : ` on ${device}`;
  return `${host}:${port}${on}${group ? `, ${group.ttl} hops` : ''}`;
}
