/**
 * The hardware tree: the system bus, discovered PCI functions, and devices that a configuration describes.
 */
import type { Log } from '../log.ts';
import { formatIdentity, type PciFunction } from '../pci/function.ts';
import { pciMatches } from '../pci/match.ts';
import type { FoundFunction } from '../pci/scan.ts';
import { Device } from './device.ts';
import { globMatches } from './glob.ts';
import type { Resource } from './resource.ts';

/** Values of `Property.flags` of a hardware device. */
export const DF_DMA_SUPPORTED = 1;
export const DF_MULTI_VBUS = 2;

/** Driver types that `Io.Hw.<Type>` knows. Only `Device` and the ECAM bridge mean something on this machine. */
export const HW_TYPES = [
  'Device',
  'Arm_dma_device',
  'Ecam_pcie_bridge',
  'Pcie_imx8qm',
  'Pcie_tegra194',
  'Rcar3_pcie_bridge',
  'Gpio_bcm2835_chip',
  'Gpio_imx_chip',
  'Gpio_imx8qm_chip',
  'Gpio_omap35x_chip',
  'Gpio_omap44x_chip',
  'Gpio_omap54x_chip',
  'Gpio_qcom_chip',
  'Scm_omap',
  'I2c_imx8mp_ctrl',
  'Spi_imx8mp_ctrl',
  'Iomuxc_imx8mp',
  'Scu_imx8qm',
  'Optee_memory',
] as const;

const ECAM_MANDATORY = ['regs_base', 'regs_size', 'cfg_base', 'cfg_size', 'mmio_base', 'mmio_size'];
const ECAM_OPTIONAL = [
  'ioport_base',
  'ioport_size',
  'mmio_base_64',
  'mmio_size_64',
  'int_a',
  'int_b',
  'int_c',
  'int_d',
];

export class HwDevice extends Device {
  readonly type: string;
  /** Set for a function of the machine's PCI bus. */
  readonly pci: PciFunction | undefined;
  /** Virtual devices that stand for this one, on whatever bus. */
  readonly claims: Device[] = [];
  readonly #resources: Resource[] = [];
  readonly #log: Log;

  constructor(type: string, log: Log, pci?: PciFunction) {
    super();
    this.type = type;
    this.pci = pci;
    this.#log = log;
    if (pci !== undefined) this.#resources.push(...pci.resources);
    this.properties.string('hid');
    this.properties.integer('adr', pci && (pci.address.device << 16) | pci.address.function, 0, 0xffffffff);
    this.properties.integer('flags', pci ? DF_DMA_SUPPORTED : 0, 0, 0xffffffff);
    if (type === 'Ecam_pcie_bridge') {
      for (const name of [...ECAM_MANDATORY, ...ECAM_OPTIONAL]) this.properties.integer(name, undefined);
    }
  }

  override get hid(): string | undefined {
    return this.properties.text('hid');
  }

  override get adr(): number | undefined {
    return this.properties.number('adr');
  }

  override get resources(): readonly Resource[] {
    return this.#resources;
  }

  override addResource(resource: Resource): void {
    this.#resources.push(resource);
  }

  get multiVbus(): boolean {
    return ((this.properties.number('flags') ?? 0) & DF_MULTI_VBUS) !== 0;
  }

  override matches(id: string): boolean {
    if (globMatches(id, this.hid ?? '') || this.compatible.includes(id)) return true;
    return this.pci !== undefined && pciMatches(id, this.pci, (message) => this.#log.errorOnce(message));
  }

  override describe(): string {
    if (this.pci !== undefined) return `PCI device ${formatIdentity(this.pci)}`;
    return `${this.type} '${this.name}'${this.hid === undefined ? '' : ` (${this.hid})`}`;
  }

  /** Called when the device becomes part of the hardware tree. */
  plugin(): void {
    if (this.type !== 'Ecam_pcie_bridge') return;
    const missing = ECAM_MANDATORY.filter((name) => this.properties.number(name) === undefined);
    if (missing.length > 0) {
      this.#log.error(
        `error: ${this.origin}: Ecam_pcie_bridge '${this.name}' lacks mandatory properties: ${missing.join(', ')}`,
      );
    }
    this.#log.info(
      `${this.origin}: PCI bridge '${this.name}' is not scanned: the machine has one PCI host, which Io finds by itself`,
    );
  }
}

/** The root of the hardware tree (`Io.system_bus()`), filled with the functions that the scan found. */
export function createHardwareTree(functions: readonly FoundFunction[], log: Log): HwDevice {
  const root = new HwDevice('System bus', log);
  root.name = 'System bus';
  const add = (parent: Device, { pci, behind }: FoundFunction): void => {
    const device = new HwDevice('PCI device', log, pci);
    device.name = 'PCI device';
    parent.addChild(device);
    for (const next of behind) add(device, next);
  };
  for (const found of functions) add(root, found);
  return root;
}

/** The PCI functions of the machine, in scan order. */
export function pciDevices(root: HwDevice): (HwDevice & { readonly pci: PciFunction })[] {
  const isPci = (device: Device): device is HwDevice & { readonly pci: PciFunction } =>
    device instanceof HwDevice && device.pci !== undefined;
  return [...root.walk()].filter(isPci);
}
