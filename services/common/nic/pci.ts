/**
 * PCI configuration space as the machine's host, Io's proxies and drivers see it.
 *
 * Offsets and bits: PCI Local Bus Specification 3.0, chapter 6 and appendix H (capability ids).
 */

/** Bytes of a function's configuration space. */
export const PCI_CFG_SIZE = 256;

/** Offsets of the type 0 header. [PCI 3.0 §6.1] */
export const PCI = {
  VENDOR_ID: 0x00, // u16
  DEVICE_ID: 0x02, // u16
  COMMAND: 0x04, // u16
  STATUS: 0x06, // u16
  REVISION: 0x08, // u8
  PROG_IF: 0x09, // u8
  SUBCLASS: 0x0a, // u8
  CLASS: 0x0b, // u8
  CACHE_LINE_SIZE: 0x0c, // u8
  LATENCY_TIMER: 0x0d, // u8
  HEADER_TYPE: 0x0e, // u8
  BIST: 0x0f, // u8
  BAR0: 0x10, // u32, six of them
  CARDBUS_CIS: 0x28, // u32
  SUBSYSTEM_VENDOR: 0x2c, // u16
  SUBSYSTEM: 0x2e, // u16
  ROM: 0x30, // u32
  CAPABILITIES: 0x34, // u8
  INTERRUPT_LINE: 0x3c, // u8
  INTERRUPT_PIN: 0x3d, // u8: 1..4 = INTA..INTD, 0 none
  MIN_GRANT: 0x3e, // u8
  MAX_LATENCY: 0x3f, // u8
} as const;

export const PCI_BARS = 6;

export const COMMAND_IO = 1 << 0; // decode I/O BARs
export const COMMAND_MEMORY = 1 << 1; // decode memory BARs
export const COMMAND_MASTER = 1 << 2; // may do DMA
export const COMMAND_INVALIDATE = 1 << 4;
export const COMMAND_PARITY = 1 << 6;
export const COMMAND_SERR = 1 << 8;
export const COMMAND_INTX_DISABLE = 1 << 10;

export const STATUS_INTERRUPT = 1 << 3; // INTx is asserted inside the function
export const STATUS_CAPABILITIES = 1 << 4;
/** Bits that a write of 1 clears. */
export const STATUS_WRITE_1_CLEARS = 0xf900;

export const BAR_IO = 1 << 0;
export const BAR_64BIT = 1 << 2;
export const BAR_PREFETCHABLE = 1 << 3;
/** Bits of a BAR that are no address. */
export const BAR_MEMORY_FLAGS = 0xf;
export const BAR_IO_FLAGS = 0x3;

export const HEADER_MULTI_FUNCTION = 1 << 7;
export const CLASS_NETWORK = 0x02;

/** Capability ids. */
export const CAP_POWER_MANAGEMENT = 0x01;
export const CAP_MSI = 0x05;
export const CAP_PCI_X = 0x07;
export const CAP_PCI_EXPRESS = 0x10;

/** MSI capability: message control at +2, address at +4 (+8), data at +8 or +12. */
export const MSI_ENABLE = 1 << 0;
export const MSI_64BIT = 1 << 7;

export const VENDOR_INTEL = 0x8086;
export const DEVICE_82540EM = 0x100e;

/** Requester id of a function: bus << 8 | device << 3 | function. */
export function requesterId(bus: number, device: number, fn: number): number {
  return ((bus & 0xff) << 8) | ((device & 0x1f) << 3) | (fn & 7);
}

/** "00:03.0" for 0x18. */
export function formatRequester(id: number): string {
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return `${hex(id >>> 8)}:${hex((id >>> 3) & 0x1f)}.${id & 7}`;
}
