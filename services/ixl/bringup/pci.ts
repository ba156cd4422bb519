/** One PCI function behind a vbus: configuration space, BAR0, capability list, resources (F5.3 step 2, F2.9). */
import { L4Error } from '#common/ipc/errors';
import {
  BAR_64BIT,
  BAR_IO,
  BAR_MEMORY_FLAGS,
  COMMAND_MASTER,
  PCI,
  STATUS_CAPABILITIES,
} from '#common/nic/pci';
import { l4lab } from '../../../proto/gen/messages.js';
import type { VbusClient } from './vbus.ts';

/** 192 bytes behind the header, 4 at least for each capability. */
const MAX_CAPABILITIES = 48;
const ALL_ONES = 0xffff_ffff;
/** Six BARs, a ROM, an interrupt, a DMA domain, with room: a device that says that it has more is not asked for ever. */
const MAX_RESOURCES = 64;

export interface BarRange {
  /** Physical address. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}

export class PciDevice {
  /** Vbus device handle. */
  readonly handle: number;
  readonly name: string;
  readonly #vbus: VbusClient;
  readonly #resources: number;

  constructor(vbus: VbusClient, handle: number, name: string, resources: number) {
    this.#vbus = vbus;
    this.handle = handle;
    this.name = name;
    this.#resources = resources;
  }

  /** Reads configuration space; `width` in bits. */
  async read(offset: number, width: 8 | 16 | 32): Promise<number> {
    const { value } = await this.#vbus.pciCfgRead({ handle: this.handle, offset, width });
    return value;
  }

  async write(offset: number, width: 8 | 16 | 32, value: number): Promise<void> {
    await this.#vbus.pciCfgWrite({ handle: this.handle, offset, width, value: value >>> 0 });
  }

  /** "8086:100e" */
  async idText(): Promise<string> {
    const hex = (value: number): string => value.toString(16).padStart(4, '0');
    return `${hex(await this.read(PCI.VENDOR_ID, 16))}:${hex(await this.read(PCI.DEVICE_ID, 16))}`;
  }

  /** Lets the function do DMA. */
  async enableBusMaster(): Promise<void> {
    await this.write(PCI.COMMAND, 16, (await this.read(PCI.COMMAND, 16)) | COMMAND_MASTER);
  }

  /**
   * Where BAR0 lies and how large it is, found by writing all ones and restoring; Io's virtual BARs make
   * that safe with decoding on. Throws L4Error ENODEV when BAR0 is no memory.
   */
  async bar0(): Promise<BarRange> {
    const low = await this.read(PCI.BAR0, 32);
    if (low === 0 || (low & BAR_IO) !== 0) {
      throw new L4Error(
        'ENODEV',
        `Cannot map registers of "${this.name}" as BAR0 must be memory: current value is 0x${low.toString(16)}`,
      );
    }
    const high = (low & BAR_64BIT) !== 0 ? await this.read(PCI.BAR0 + 4, 32) : 0;
    // The upper half of a 64-bit BAR is not sized: registers take far less than 4 GiB.
    const mask = (await this.#sizeMask(PCI.BAR0, low)) & ~BAR_MEMORY_FLAGS;
    return { address: high * 2 ** 32 + ((low & ~BAR_MEMORY_FLAGS) >>> 0), size: (~mask >>> 0) + 1 };
  }

  async #sizeMask(offset: number, value: number): Promise<number> {
    await this.write(offset, 32, ALL_ONES);
    const mask = await this.read(offset, 32);
    await this.write(offset, 32, value);
    return mask;
  }

  /** Offset of a PCI capability in configuration space; 0 when the function has none of that id. */
  async findCapability(id: number): Promise<number> {
    if (((await this.read(PCI.STATUS, 16)) & STATUS_CAPABILITIES) === 0) return 0;
    let offset = (await this.read(PCI.CAPABILITIES, 8)) & ~3;
    for (let n = 0; offset !== 0 && n < MAX_CAPABILITIES; n++) {
      const header = await this.read(offset, 16);
      if ((header & 0xff) === id) return offset;
      offset = (header >>> 8) & ~3;
    }
    return 0;
  }

  /** The function's DMA domain (F5.3 step 3). Throws L4Error ENODEV when it has none. */
  async dmaDomain(): Promise<number> {
    for (let index = 0; index < Math.min(this.#resources, MAX_RESOURCES); index++) {
      const resource = await this.#vbus.getResource({ handle: this.handle, index });
      if (resource.type === l4lab.VbusResource.Type.DMA_DOMAIN) return resource.start;
    }
    throw new L4Error(
      'ENODEV',
      `Cannot give "${this.name}" memory as it must have a DMA_DOMAIN resource: none of its ${this.#resources} ` +
        'resources is one. Does Io have the capability "iommu"?',
      { code: 'IXL_NO_DMA_DOMAIN' },
    );
  }
}
