/**
 * Feature bits [VIRTIO 1.2 §2.2, §5.1.3, §6] and sets of them as two 32-bit words.
 *
 * Bit n is bit n % 32 of word n / 32. Bits from 64 on do not occur here (the config page has room for
 * 192, of which L4virtio's own bit 160 is not offered by the switch).
 */

/** Network device. */
export const NET_F_CSUM = 0;
export const NET_F_GUEST_CSUM = 1;
export const NET_F_MTU = 3;
export const NET_F_MAC = 5;
export const NET_F_GUEST_TSO4 = 7;
export const NET_F_GUEST_TSO6 = 8;
export const NET_F_GUEST_ECN = 9;
export const NET_F_GUEST_UFO = 10;
export const NET_F_HOST_TSO4 = 11;
export const NET_F_HOST_TSO6 = 12;
export const NET_F_HOST_ECN = 13;
export const NET_F_HOST_UFO = 14;
export const NET_F_MRG_RXBUF = 15;
export const NET_F_STATUS = 16;
export const NET_F_CTRL_VQ = 17;
export const NET_F_CTRL_RX = 18;
export const NET_F_CTRL_VLAN = 19;
export const NET_F_GUEST_ANNOUNCE = 21;
export const NET_F_MQ = 22;
export const NET_F_CTRL_MAC_ADDR = 23;

/** Any device. */
export const F_INDIRECT_DESC = 28;
export const F_EVENT_IDX = 29;
export const F_VERSION_1 = 32;
export const F_ACCESS_PLATFORM = 33;
export const F_RING_PACKED = 34;
export const F_IN_ORDER = 35;
export const F_ORDER_PLATFORM = 36;

/** A set of feature bits: `lo` holds bits 0 to 31, `hi` 32 to 63; both unsigned. */
export interface Features {
  readonly lo: number;
  readonly hi: number;
}

const NAMES = new Map<number, string>([
  [NET_F_CSUM, 'CSUM'],
  [NET_F_GUEST_CSUM, 'GUEST_CSUM'],
  [NET_F_MTU, 'MTU'],
  [NET_F_MAC, 'MAC'],
  [NET_F_GUEST_TSO4, 'GUEST_TSO4'],
  [NET_F_GUEST_TSO6, 'GUEST_TSO6'],
  [NET_F_GUEST_ECN, 'GUEST_ECN'],
  [NET_F_GUEST_UFO, 'GUEST_UFO'],
  [NET_F_HOST_TSO4, 'HOST_TSO4'],
  [NET_F_HOST_TSO6, 'HOST_TSO6'],
  [NET_F_HOST_ECN, 'HOST_ECN'],
  [NET_F_HOST_UFO, 'HOST_UFO'],
  [NET_F_MRG_RXBUF, 'MRG_RXBUF'],
  [NET_F_STATUS, 'STATUS'],
  [NET_F_CTRL_VQ, 'CTRL_VQ'],
  [NET_F_CTRL_RX, 'CTRL_RX'],
  [NET_F_CTRL_VLAN, 'CTRL_VLAN'],
  [NET_F_GUEST_ANNOUNCE, 'GUEST_ANNOUNCE'],
  [NET_F_MQ, 'MQ'],
  [NET_F_CTRL_MAC_ADDR, 'CTRL_MAC_ADDR'],
  [F_INDIRECT_DESC, 'INDIRECT_DESC'],
  [F_EVENT_IDX, 'EVENT_IDX'],
  [F_VERSION_1, 'VERSION_1'],
  [F_ACCESS_PLATFORM, 'ACCESS_PLATFORM'],
  [F_RING_PACKED, 'RING_PACKED'],
  [F_IN_ORDER, 'IN_ORDER'],
  [F_ORDER_PLATFORM, 'ORDER_PLATFORM'],
]);

/** The set of the given bit numbers (0 to 63). */
export function featureSet(...bits: number[]): Features {
  let lo = 0;
  let hi = 0;
  for (const bit of bits) {
    if (bit < 32) lo |= 1 << bit;
    else hi |= 1 << (bit - 32);
  }
  return { lo: lo >>> 0, hi: hi >>> 0 };
}

export function hasFeature(set: Features, bit: number): boolean {
  return bit < 32 ? (set.lo & (1 << bit)) !== 0 : (set.hi & (1 << (bit - 32))) !== 0;
}

/** Bits that are in both sets. */
export function intersect(a: Features, b: Features): Features {
  return { lo: (a.lo & b.lo) >>> 0, hi: (a.hi & b.hi) >>> 0 };
}

/** Bits of `a` that are not in `b`. */
export function without(a: Features, b: Features): Features {
  return { lo: (a.lo & ~b.lo) >>> 0, hi: (a.hi & ~b.hi) >>> 0 };
}

export function isEmpty(set: Features): boolean {
  return (set.lo | set.hi) === 0;
}

/** Names for people: "MAC MRG_RXBUF bit 40"; "none" for the empty set. */
export function featureNames(set: Features): string {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) if (hasFeature(set, bit)) names.push(NAMES.get(bit) ?? `bit ${bit}`);
  return names.length > 0 ? names.join(' ') : 'none';
}
