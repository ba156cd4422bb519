/** Which driver serves which NIC (F5.2). Vendor Intel only. */
import { L4Error } from '#common/ipc/errors';
import { DEVICE_82540EM, VENDOR_INTEL } from '#common/nic/pci';
import type { Driver } from './driver.ts';
import { e1000Driver } from './e1000.ts';

interface Supported {
  readonly name: string;
  readonly family: 'e1000' | 'igb' | 'igc' | 'ixgbe';
}

/** The ids that the original accepts. */
const NICS: ReadonlyMap<number, Supported> = new Map([
  [DEVICE_82540EM, { name: '82540EM', family: 'e1000' }],
  [0x10c9, { name: '82576', family: 'igb' }],
  [0x1521, { name: 'I350', family: 'igb' }],
  [0x1533, { name: 'I210', family: 'igb' }],
  [0x1528, { name: 'X540T', family: 'ixgbe' }],
  [0x10b6, { name: '82598', family: 'ixgbe' }],
  [0x0d9f, { name: 'I225-IT', family: 'igc' }],
]);

const DRIVERS: { readonly [family: string]: Driver | undefined } = { e1000: e1000Driver };

/** The driver for a NIC. Throws L4Error ENODEV, code IXL_UNSUPPORTED, for a device nobody drives. */
export function driverFor(vendor: number, device: number): Driver {
  const hex = (value: number): string => value.toString(16).padStart(4, '0');
  if (vendor !== VENDOR_INTEL) {
    throw unsupported(`Unknown vendor ${hex(vendor)}. Only Intel (8086) is supported.`);
  }
  const nic = NICS.get(device);
  if (!nic) {
    const known = [...NICS].map(([id, { name }]) => `${hex(id)} ${name}`).join(', ');
    throw unsupported(
      `Unsupported device ${hex(device)} of vendor ${hex(vendor)}. No suitable driver found. Known: ${known}`,
    );
  }
  const driver = DRIVERS[nic.family];
  if (!driver) {
    throw unsupported(
      `Unsupported device ${hex(device)} of vendor ${hex(vendor)}. The ${nic.name} needs driver ${nic.family}, ` +
        'which this version of l4lab does not have.',
    );
  }
  return driver;
}

function unsupported(message: string): L4Error {
  return new L4Error('ENODEV', message, { code: 'IXL_UNSUPPORTED' });
}
