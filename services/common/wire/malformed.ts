/**
 * What can be wrong with a header or message from outside.
 *
 * Per-frame checks return one of the negative numbers (no allocation on the data plane); decoders
 * of whole messages (DHCP, DNS) throw `MalformedError` with a sentence.
 */

export const MALFORMED = {
  /** Fewer bytes than the header or its own length field claims. */
  TRUNCATED: -1,
  /** Version or type field is not the protocol's. */
  VERSION: -2,
  /** A length field is smaller than the header it belongs to. */
  LENGTH: -3,
  /** The checksum does not match. */
  CHECKSUM: -4,
} as const;

/** A DHCP or DNS message from outside that breaks its specification. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError';
  readonly code = 'WIRE_MALFORMED';
}
