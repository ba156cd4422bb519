/**
 * Why a frame was not delivered: one list for counters, log lines and the comments of captures.
 *
 * The index is what the data plane passes around; the key is stable, the text is for people.
 */

export const DROP = {
  NO_DESCRIPTOR: 0,
  RING_FULL: 1,
  LINK_DOWN: 2,
  TOO_LONG: 3,
  TOO_SHORT: 4,
  MALFORMED: 5,
  NOT_FOR_US: 6,
  VLAN: 7,
  FILTER: 8,
  NO_PORT: 9,
  DMA_FAULT: 10,
  NOT_READY: 11,
  BROKEN: 12,
  STORM: 13,
  RATE: 14,
  OFFLOAD: 15,
  UNREACHABLE: 16,
} as const;

export type DropReason = (typeof DROP)[keyof typeof DROP];

const TEXT: readonly string[] = [
  'the receiver has no free descriptor',
  'the queue in between is full',
  'the link is down',
  'the frame is longer than the receiver takes',
  'the frame is shorter than an Ethernet header',
  'a header is malformed',
  'the destination address is not the receiver',
  'the VLAN is not a member',
  'a filter refused it',
  'there is no port to send it to',
  'the buffer lies outside of the DMA space',
  'the receiver is not ready yet',
  'the receiver has broken the ring protocol',
  'storm control: too many frames to everybody',
  'the port has used up its rate',
  'the offload header does not fit the frame',
  'the network below has no way to the receiver',
];

/** Number of reasons: they are 0 to DROP_REASONS - 1. */
export const DROP_REASONS = TEXT.length;

/** Stable key of a reason, e.g. `no_descriptor`: metrics label and log field. */
export function dropKey(reason: DropReason): string {
  return DROP_KEYS[reason] ?? 'unknown';
}

/** The reason as a clause. */
export function dropText(reason: DropReason): string {
  return TEXT[reason] ?? 'unknown';
}

const DROP_KEYS = Object.keys(DROP).map((key) => key.toLowerCase());
const ENCODER = new TextEncoder();
const COMMENTS = TEXT.map((text, i) => ENCODER.encode(`dropped (${DROP_KEYS[i]}): ${text}`));

/** The packet comment that a capture gives a dropped frame. */
export function dropComment(reason: DropReason): Uint8Array {
  return COMMENTS[reason] ?? ENCODER.encode('dropped');
}
