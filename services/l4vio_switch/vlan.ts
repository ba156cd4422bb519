/**
 * VLAN membership of ports and what happens to the 802.1Q tag on the way from one port to another.
 *
 * Every port has a VLAN value: an access port its id, a native port 0xffff, a trunk 0xfffe. A trunk also has a set of
 * ids, or carries all.
 */
import { TAG_INSERT, TAG_KEEP, TAG_REMOVE, TAG_REPLACE } from '#common/vnet/tag';

/** VLAN value of a native port, and of an untagged frame as a trunk sees it. */
export const VLAN_NATIVE = 0xffff;
/** VLAN value of every trunk port. */
export const VLAN_TRUNK = 0xfffe;

/** VLAN configuration of a new port: `access` 1..4094; `trunk` a list of ids, or all; neither: native. */
export interface VlanSpec {
  readonly access?: number;
  readonly trunk?: readonly number[] | 'all';
}

const SET_WORDS = 4096 / 32;

export class Vlans {
  /** VLAN value of each port. */
  readonly value: Uint16Array;
  readonly #all: Uint8Array;
  /** One bit for each of 4096 ids and port. */
  readonly #sets: Uint32Array;

  constructor(ports: number) {
    this.value = new Uint16Array(ports).fill(VLAN_NATIVE);
    this.#all = new Uint8Array(ports);
    this.#sets = new Uint32Array(ports * SET_WORDS);
  }

  /** Makes `port` an access, trunk or native port. */
  configure(port: number, spec: VlanSpec): void {
    this.#sets.fill(0, port * SET_WORDS, (port + 1) * SET_WORDS);
    this.#all[port] = spec.trunk === 'all' ? 1 : 0;
    this.value[port] = spec.trunk !== undefined ? VLAN_TRUNK : (spec.access ?? VLAN_NATIVE);
    if (spec.trunk === undefined || spec.trunk === 'all') return;
    for (const id of spec.trunk)
      this.#sets[port * SET_WORDS + (id >>> 5)] = this.#word(port, id) | (1 << (id & 31));
  }

  isTrunk(port: number): boolean {
    return this.value[port] === VLAN_TRUNK;
  }

  isAccess(port: number): boolean {
    return (this.value[port] as number) < VLAN_TRUNK;
  }

  /**
   * Does `port` take part in VLAN `vlan` (a tag's id, or a port's VLAN value)? As in the original, a trunk that
   * carries all also carries the native ports' value.
   */
  carries(port: number, vlan: number): boolean {
    if (this.value[port] === vlan || this.#all[port] === 1) return true;
    return vlan < 4096 && ((this.#word(port, vlan) >>> (vlan & 31)) & 1) === 1;
  }

  /**
   * What happens to the tag between two ports; the monitor is treated as a trunk. A tag that stays is written again
   * as it was checked: its sender cannot change it afterwards to get into a VLAN that is not its own.
   */
  rewrite(from: number, to: number, tagged: boolean, toMonitor: boolean): number {
    const source = this.value[from] as number;
    if (source === VLAN_NATIVE) return TAG_KEEP;
    const trunkLike = toMonitor || this.value[to] === VLAN_TRUNK;
    if (source !== VLAN_TRUNK) return trunkLike ? TAG_INSERT : TAG_KEEP;
    if (!tagged) return TAG_KEEP;
    return trunkLike ? TAG_REPLACE : TAG_REMOVE;
  }

  #word(port: number, id: number): number {
    return this.#sets[port * SET_WORDS + (id >>> 5)] as number;
  }
}
