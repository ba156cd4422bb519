/**
 * Sizing of base address registers. [PCI 3.0 §6.2.5.1]
 *
 * Decoding is switched off while all ones stand in the registers, so that the function never answers at
 * a wrong address, and everything is put back afterwards.
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
import type { Bar, PciAccess, PciAddress } from './function.ts';

const ALL_ONES = 0xffffffff;
const ROM_FLAGS = 0x7ff;
/** Registers of a type 0 (endpoint) and a type 1 (bridge) header. */
const BARS_BY_HEADER = [6, 2];
const ROM_OFFSET_BY_HEADER = [PCI.ROM, 0x38];

interface Sized {
  readonly value: number;
  /** What comes back after writing all ones. */
  readonly mask: number;
}

async function sizeRegister(
  access: PciAccess,
  address: PciAddress,
  offset: number,
  ones: number,
): Promise<Sized> {
  const value = await access.read(address, offset, 32);
  await access.write(address, offset, 32, ones);
  const mask = await access.read(address, offset, 32);
  await access.write(address, offset, 32, value);
  return { value, mask };
}

/** Size of the range that a mask with its flag bits removed describes: its lowest set bit. */
function sizeOf(low: number, high: number): number {
  if (low !== 0) return (low & -low) >>> 0;
  return high === 0 ? 2 ** 32 : ((high & -high) >>> 0) * 2 ** 32;
}

/**
 * The implemented base address registers and the ROM of one function.
 * @param headerType bits 6..0 of the header type register; other types than 0 and 1 have none
 */
export async function sizeBars(
  access: PciAccess,
  address: PciAddress,
  headerType: number,
): Promise<{ bars: Bar[]; rom: Bar | undefined }> {
  const count = BARS_BY_HEADER[headerType] ?? 0;
  const command = await access.read(address, PCI.COMMAND, 16);
  await access.write(address, PCI.COMMAND, 16, command & ~(COMMAND_IO | COMMAND_MEMORY));
  try {
    const bars: Bar[] = [];
    for (let index = 0; index < count; index++) {
      const low = await sizeRegister(access, address, PCI.BAR0 + 4 * index, ALL_ONES);
      const is64bit = (low.mask & (BAR_IO | 0x6)) === BAR_64BIT && index + 1 < count;
      const high = is64bit
        ? await sizeRegister(access, address, PCI.BAR0 + 4 * (index + 1), ALL_ONES)
        : undefined;
      if (low.mask !== 0 && low.mask !== ALL_ONES) bars.push(barOf(index, low, high));
      if (is64bit) index += 1;
    }
    return { bars, rom: await sizeRom(access, address, headerType) };
  } finally {
    await access.write(address, PCI.COMMAND, 16, command);
  }
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

async function sizeRom(access: PciAccess, address: PciAddress, headerType: number): Promise<Bar | undefined> {
  const offset = ROM_OFFSET_BY_HEADER[headerType];
  if (offset === undefined) return undefined;
  const { value, mask } = await sizeRegister(access, address, offset, 0xfffff800);
  const size = (mask & ~ROM_FLAGS) >>> 0;
  if (size === 0 || mask === ALL_ONES) return undefined;
  return {
    index: 6,
    kind: 'rom',
    base: (value & ~ROM_FLAGS) >>> 0,
    size: sizeOf(size, 0),
    is64bit: false,
    prefetchable: false,
  };
}
