/**
 * What the offload header of a frame asks for, once it has been checked [VIRTIO 1.2 §5.1.6].
 *
 * All fields are our own copies: the sender may change its buffers at any time.
 */
import {
  F_EVENT_IDX,
  F_INDIRECT_DESC,
  type Features,
  featureSet,
  hasFeature,
  NET_F_CSUM,
  NET_F_GUEST_CSUM,
  NET_F_GUEST_ECN,
  NET_F_GUEST_TSO4,
  NET_F_GUEST_TSO6,
  NET_F_HOST_ECN,
  NET_F_HOST_TSO4,
  NET_F_HOST_TSO6,
  NET_F_MAC,
  NET_F_MRG_RXBUF,
  NET_F_MTU,
  NET_F_STATUS,
} from '#common/virtio/features';

/** The sender has not negotiated CSUM: its header means nothing to us and is passed on as it is, as in the original. */
export const FRAME_VERBATIM = 0;
/** The sender knows offloads, and this frame asks for none. */
export const FRAME_PLAIN = 1;
/** The checksum is to be completed. */
export const FRAME_CSUM = 2;
/** One large TCP segment, to be cut into smaller ones; its checksum is to be completed. */
export const FRAME_TSO = 3;

/** Most bytes of headers in front of the payload of a frame that is to be segmented. */
export const MAX_HEADERS = 256;

export class Offload {
  /** Offsets in the frame, in bytes. */
  csumStart = 0;
  csumOffset = 0;
  /** The rest is for FRAME_TSO only. 1 TCPV4, 4 TCPV6. */
  gsoType = 0;
  /** The segment has CWR set; only the first small one keeps it. */
  ecn = false;
  /** Bytes of payload of each segment. */
  gsoSize = 0;
  /** Offsets of the IP and TCP header, and of the payload. */
  ip = 0;
  tcp = 0;
  payload = 0;
  /** Offset in our memory of a private copy of the `payload` bytes of headers. */
  headers = 0;
}

/** What a receiver takes. */
export interface Abilities {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ecn: boolean;
}

/** What a driver that negotiated these features takes from us. */
export function guestAbilities(features: Features): Abilities {
  return {
    csum: hasFeature(features, NET_F_GUEST_CSUM),
    tso4: hasFeature(features, NET_F_GUEST_TSO4),
    tso6: hasFeature(features, NET_F_GUEST_TSO6),
    ecn: hasFeature(features, NET_F_GUEST_ECN),
  };
}

/** What a driver that negotiated these features may ask of us. */
export function hostAbilities(features: Features): Abilities {
  return {
    csum: hasFeature(features, NET_F_CSUM),
    tso4: hasFeature(features, NET_F_HOST_TSO4),
    tso6: hasFeature(features, NET_F_HOST_TSO6),
    ecn: hasFeature(features, NET_F_HOST_ECN),
  };
}

/** Features of a port: what the original offers (F3.7), and what a driver has to ask for to notice. */
export function portFeatures(port: { mac?: boolean; mtu?: boolean; offloads?: boolean }): Features {
  return featureSet(
    NET_F_MRG_RXBUF,
    F_INDIRECT_DESC,
    F_EVENT_IDX,
    NET_F_STATUS,
    ...(port.mac ? [NET_F_MAC] : []),
    ...(port.mtu ? [NET_F_MTU] : []),
    ...(port.offloads ? [NET_F_CSUM, NET_F_HOST_TSO4, NET_F_HOST_TSO6, NET_F_HOST_ECN] : []),
    ...(port.offloads ? [NET_F_GUEST_CSUM, NET_F_GUEST_TSO4, NET_F_GUEST_TSO6, NET_F_GUEST_ECN] : []),
  );
}

/** Which of its network features a driver may not accept without another [VIRTIO 1.2 §5.1.3.1]; undefined: all is well. */
export function missingFeature(set: Features): string | undefined {
  const has = (bit: number): boolean => hasFeature(set, bit);
  if ((has(NET_F_HOST_TSO4) || has(NET_F_HOST_TSO6)) && !has(NET_F_CSUM))
    return 'HOST_TSO4 and HOST_TSO6 need CSUM';
  if ((has(NET_F_GUEST_TSO4) || has(NET_F_GUEST_TSO6)) && !has(NET_F_GUEST_CSUM))
    return 'GUEST_TSO4 and GUEST_TSO6 need GUEST_CSUM';
  if (has(NET_F_HOST_ECN) && !has(NET_F_HOST_TSO4) && !has(NET_F_HOST_TSO6))
    return 'HOST_ECN needs HOST_TSO4 or HOST_TSO6';
  if (has(NET_F_GUEST_ECN) && !has(NET_F_GUEST_TSO4) && !has(NET_F_GUEST_TSO6))
    return 'GUEST_ECN needs GUEST_TSO4 or GUEST_TSO6';
  return undefined;
}
