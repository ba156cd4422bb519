/** All VXLAN ports of a switch, and the sockets that they share: one for each local address and UDP port. */
import { L4Error, type L4ErrorName } from '#common/ipc/errors';
import type { Arena } from '#common/shm/arena';
import { SocketError } from '#common/udp/libc';
import { formatIpv4 } from '#common/wire/ipv4';
import type { Forwarder } from '../forward.ts';
import type { Port } from '../port_list.ts';
import type { VxlanSpec } from './spec.ts';
import { Vtep } from './vtep.ts';
import { VxlanPort } from './vxlan_port.ts';

/** What is wrong with an address or port, for the people who chose it. */
const HINTS: Readonly<Record<string, readonly [L4ErrorName, string]>> = {
  EADDRINUSE: [
    'EBUSY',
    'another program, or the vxlan driver of Linux, has that port: choose another with port=N',
  ],
  EADDRNOTAVAIL: [
    'EADDRNOTAVAIL',
    'this host has no such address: choose one of "ip addr" with local=ADDRESS',
  ],
  EACCES: ['EPERM', 'ports below 1024 need CAP_NET_BIND_SERVICE: choose another with port=N'],
};

export class Tunnels {
  readonly #arena: Arena;
  readonly #forwarder: Forwarder;
  readonly #activate: (port: number) => void;
  readonly #vteps = new Map<string, Vtep>();
  readonly #ports = new Map<number, { readonly port: VxlanPort; readonly place: string }>();

  /** `activate`: frames may have come for that port. */
  constructor(arena: Arena, forwarder: Forwarder, activate: (port: number) => void) {
    this.#arena = arena;
    this.#forwarder = forwarder;
    this.#activate = activate;
  }

  /**
   * Makes the endpoint of a port, which `start` sets going. Throws L4Error EEXIST (the network has a port already), EBUSY,
   * EADDRNOTAVAIL, EPERM or EIO (no socket).
   */
  open({ number, name, spec: { trunk } }: Port, spec: VxlanSpec, scratch: number): VxlanPort {
    const place = `${formatIpv4(spec.local)}:${spec.port}`;
    const known = this.#vteps.get(place);
    if (known?.has(spec.vni)) {
      throw new L4Error(
        'EEXIST',
        `Cannot open VXLAN port '${name}' as each id needs a UDP port of its own: ${spec.vni} has one at ${place} already`,
        { code: 'VSWITCH_VXLAN' },
      );
    }
    const vtep = known ?? this.#makeVtep(name, place, spec);
    this.#vteps.set(place, vtep);
    const port = new VxlanPort({
      number,
      spec,
      trunk: trunk !== undefined,
      arena: this.#arena,
      scratch,
      fabric: this.#forwarder,
      vtep,
      dropped: (reason) => this.#forwarder.counters.dropped(number, reason),
    });
    this.#ports.set(number, { port, place });
    return port;
  }

  /** The port is connected: frames may come. */
  start(number: number): void {
    this.#ports.get(number)?.port.open();
  }

  /** Takes a port's endpoint away, if it has one. */
  close(number: number): void {
    const entry = this.#ports.get(number);
    if (!entry) return;
    this.#ports.delete(number);
    entry.port.close();
    const vtep = this.#vteps.get(entry.place);
    if (vtep?.size !== 0) return;
    this.#vteps.delete(entry.place);
    vtep.close();
  }

  #makeVtep(name: string, place: string, { local, port }: VxlanSpec): Vtep {
    try {
      return new Vtep(this.#arena, local, port, this.#activate);
    } catch (cause) {
      if (!(cause instanceof SocketError)) throw cause;
      const [errno, hint] = HINTS[cause.code] ?? ['EIO', 'see the message before'];
      throw new L4Error(errno, `Cannot open VXLAN port '${name}' at ${place} (${cause.message}): ${hint}`, {
        code: 'VSWITCH_VXLAN',
        cause,
      });
    }
  }
}
