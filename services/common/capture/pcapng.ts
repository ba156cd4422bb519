/**
 * pcapng block layout [draft-ietf-opsawg-pcapng §3, §4]: types, offsets and option codes that we write and read.
 *
 * Every block is: type u32, total length u32, body, padding to 4, total length u32 again.
 */

export const BLOCK = { SHB: 0x0a0d0d0a, IDB: 1, PB: 2, SPB: 3, NRB: 4, ISB: 5, EPB: 6 } as const;

/** Offsets from the start of a block; `BODY` is where options start when there is nothing else. */
export const BLOCK_HEADER = { TYPE: 0, LENGTH: 4, BODY: 8, TRAILER: 4, SMALLEST: 12 } as const;
export const SHB = { MAGIC: 8, MAJOR: 12, MINOR: 14, SECTION_LENGTH: 16, OPTIONS: 24 } as const;
export const IDB = { LINKTYPE: 8, SNAPLEN: 12, OPTIONS: 16 } as const;
export const EPB = {
  INTERFACE: 8,
  TIME_HIGH: 12,
  TIME_LOW: 16,
  CAPTURED: 20,
  ORIGINAL: 24,
  DATA: 28,
} as const;
export const ISB = { INTERFACE: 8, TIME_HIGH: 12, TIME_LOW: 16, OPTIONS: 20 } as const;
export const SPB = { ORIGINAL: 8, DATA: 12 } as const;

export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** Option codes; those below 2 mean the same in every block, the others belong to the block of their prefix. */
export const OPTION = {
  END: 0,
  COMMENT: 1,
  SHB_HARDWARE: 2,
  SHB_OS: 3,
  SHB_USERAPPL: 4,
  IF_NAME: 2,
  IF_DESCRIPTION: 3,
  IF_TSRESOL: 9,
  EPB_FLAGS: 2,
  EPB_DROPCOUNT: 4,
  ISB_IFRECV: 4,
  ISB_IFDROP: 5,
} as const;

export const LINKTYPE_ETHERNET = 1;

/** Direction in epb_flags, seen from the interface. */
export const INBOUND = 1;
export const OUTBOUND = 2;

/** Longest block that a reader takes: no Ethernet capture has one near it. */
export const MAX_BLOCK = 16 * 2 ** 20;

/** Rounds up to a multiple of 4. */
export function padded(length: number): number {
  return (length + 3) & ~3;
}

/** A capture file is broken or of a kind we do not read. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError';
  readonly code = 'CAPTURE_MALFORMED';
}
