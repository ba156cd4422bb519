/** The host bridge at 00:00.0: there so that a bus scan finds what it expects on a PC; it does nothing. */
import { VENDOR_INTEL } from '#common/nic/pci';
import type { PciIdentity } from './config_space.ts';

export const HOST_BRIDGE: PciIdentity = {
  vendor: VENDOR_INTEL,
  // 440FX, the north bridge of QEMU's `pc` machine.
  device: 0x1237,
  revision: 2,
  classCode: 0x060000,
  subsystemVendor: 0,
  subsystem: 0,
  bars: [],
  interruptPin: 0,
  capabilities: [],
};
