/**
 * Sizing of base address registers. [PCI 3.0 §6.2.5.1]
 *
 * Decoding is switched off while all ones stand in the registers, so that the function never answers at
 * a wrong address, and everything is put back afterwards. The machine does it as one: a driver that has the function
 * already, because it is Io that was started again, does not find its registers gone.
 */
import {
  BAR_64BIT,
  BAR_IO,
  BAR_IO_FLAGS,
  BAR_MEMORY_FLAGS,
  BAR_PREFETCHABLE,
  COMMAND_IO,
  COMMAND_MEMORY,
  PCI,
} from '#common/nic/pci';
import type { Bar, PciAccess, PciAddress, PciStep } from './function.ts';

const ALL_ONES = 0xffffffff;
const ROM_FLAGS = 0x7ff;
/** All address bits, without the enable bit. */
const ROM_ONES = 0xfffff800;
/** Registers of a type 0 (endpoint) and a type 1 (bridge) header. */
const BARS_BY_HEADER = [6, 2];
const ROM_OFFSET_BY_HEADER = [PCI.ROM, 0x38];

interface Sized {
  readonly value: number;
  /** What comes back after writing all ones. */
  readonly mask: number;
}

/** Size of the range that a mask with its flag bits removed describes: its lowest set bit. */
function sizeOf(low: number, high: number): number {
  if (low !== 0) return (low & -low) >>> 0;
  return high === 0 ? 2 ** 32 : ((high & -high) >>> 0) * 2 ** 32;
}

/**
 * The implemented base address registers and the ROM of one function.
 * @param header the function's first 64 bytes; header types other than 0 and 1 have no registers
 */
export async function sizeBars(
  access: PciAccess,
  address: PciAddress,
  header: DataView,
): Promise<{ bars: Bar[]; rom: Bar | undefined }> {
  const type = header.getUint8(PCI.HEADER_TYPE) & 0x7f;
  const count = BARS_BY_HEADER[type] ?? 0;
  const registers = Array.from({ length: count }, (_, index) => ({
    offset: PCI.BAR0 + 4 * index,
    ones: ALL_ONES,
  }));
  const romOffset = ROM_OFFSET_BY_HEADER[type];
  if (romOffset !== undefined) registers.push({ offset: romOffset, ones: ROM_ONES });
  if (registers.length === 0) return { bars: [], rom: undefined };
  const sized = await sizeRegisters(access, address, header, registers);
  return { bars: barsOf(sized.slice(0, count)), rom: romOf(sized[count]) };
}

/** Writes ones to registers, reads the masks, and puts the registers back. */
async function sizeRegisters(
  access: PciAccess,
  address: PciAddress,
  header: DataView,
  registers: readonly { readonly offset: number; readonly ones: number }[],
): Promise<Sized[]> {
  const before = registers.map(({ offset }) => header.getUint32(offset, true));
  const command = header.getUint16(PCI.COMMAND, true);
  const decoding = (value: number): PciStep => ({ offset: PCI.COMMAND, width: 16, value });
  const read = await access.sequence(address, [
    decoding(command & ~(COMMAND_IO | COMMAND_MEMORY)),
    ...registers.map(({ offset, ones }): PciStep => ({ offset, width: 32, value: ones })),
    ...registers.map(({ offset }): PciStep => ({ offset, width: 32 })),
    ...registers.map(({ offset }, n): PciStep => ({ offset, width: 32, value: before[n] as number })),
    decoding(command),
  ]);
  return before.map((value, n) => ({ value, mask: read[n] as number }));
}

function barsOf(sized: readonly Sized[]): Bar[] {
  const bars: Bar[] = [];
  for (let index = 0; index < sized.length; index++) {
    const low = sized[index] as Sized;
    const is64bit = (low.mask & (BAR_IO | 0x6)) === BAR_64BIT && index + 1 < sized.length;
    if (low.mask !== 0 && low.mask !== ALL_ONES)
      bars.push(barOf(index, low, is64bit ? sized[index + 1] : undefined));
    if (is64bit) index += 1;
  }
  return bars;
}

function barOf(index: number, low: Sized, high: Sized | undefined): Bar {
  const port = (low.mask & BAR_IO) !== 0;
  const flags = port ? BAR_IO_FLAGS : BAR_MEMORY_FLAGS;
  // A port register may leave the upper 16 bits unimplemented.
  const mask = port ? (low.mask & ~flags) | 0xffff0000 : low.mask & ~flags;
  return {
    index,
    kind: port ? 'port' : 'memory',
    base: ((low.value & ~flags) >>> 0) + (high?.value ?? 0) * 2 ** 32,
    size: sizeOf(mask >>> 0, high?.mask ?? 0),
    is64bit: high !== undefined,
    prefetchable: !port && (low.mask & BAR_PREFETCHABLE) !== 0,
  };
}

function romOf(sized: Sized | undefined): Bar | undefined {
  const size = sized === undefined ? 0 : (sized.mask & ~ROM_FLAGS) >>> 0;
  if (sized === undefined || size === 0 || sized.mask === ALL_ONES) return undefined;
  return {
    index: 6,
    kind: 'rom',
    base: (sized.value & ~ROM_FLAGS) >>> 0,
    size: sizeOf(size, 0),
    is64bit: false,
    prefetchable: false,
  };
}
