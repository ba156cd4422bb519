import { describe, expect, it } from 'vitest';
import { REG } from '#common/nic/e1000';
import {
  CAP_PCI_X,
  CAP_POWER_MANAGEMENT,
  COMMAND_INTX_DISABLE,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  PCI,
  STATUS_CAPABILITIES,
  STATUS_INTERRUPT,
} from '#common/nic/pci';
import { nicMachine } from '../testing/nic_machine.ts';
import { routeIrq } from './host.ts';

const NIC = { device: 3 };

describe('PciHost', () => {
  it('cfgRead() does find host bridge and NIC, and all ones where nothing is', () => {
    const { pci } = nicMachine();
    expect(pci.cfgRead({}, PCI.VENDOR_ID, 32)).toBe(0x12378086);
    expect(pci.cfgRead(NIC, PCI.VENDOR_ID, 32)).toBe(0x100e8086);
    expect(pci.cfgRead(NIC, PCI.REVISION, 32) >>> 16).toBe(0x0200);
    expect(pci.cfgRead({ device: 4 }, PCI.VENDOR_ID, 32)).toBe(0xffff_ffff);
    expect(pci.cfgRead({ device: 3, function: 1 }, PCI.VENDOR_ID, 16)).toBe(0xffff);
    expect(pci.cfgRead({ bus: 1, device: 3 }, PCI.VENDOR_ID, 8)).toBe(0xff);
    expect(pci.cfgRead(NIC, 0x100, 32)).toBe(0xffff_ffff);
  });

  it('cfgWrite() does size a BAR when all ones are written, and restore it', () => {
    const { pci } = nicMachine();
    expect(pci.cfgRead(NIC, PCI.BAR0, 32)).toBe(0xfebc_0000);
    expect(pci.cfgRead(NIC, PCI.BAR0 + 4, 32)).toBe(0xc001);
    for (const [bar, mask] of [
      [0, 0xfffe_0000],
      [1, 0xffff_ffc1],
      [2, 0],
    ] as const) {
      const before = pci.cfgRead(NIC, PCI.BAR0 + 4 * bar, 32);
      pci.cfgWrite(NIC, PCI.BAR0 + 4 * bar, 32, 0xffff_ffff);
      expect(pci.cfgRead(NIC, PCI.BAR0 + 4 * bar, 32)).toBe(mask);
      pci.cfgWrite(NIC, PCI.BAR0 + 4 * bar, 32, before);
      expect(pci.cfgRead(NIC, PCI.BAR0 + 4 * bar, 32)).toBe(before);
    }
  });

  it('cfgWrite() does change only what software may change', () => {
    const { pci } = nicMachine();
    pci.cfgWrite(NIC, PCI.VENDOR_ID, 32, 0);
    pci.cfgWrite(NIC, PCI.SUBSYSTEM_VENDOR, 32, 0);
    pci.cfgWrite(NIC, PCI.INTERRUPT_PIN, 8, 0);
    expect(pci.cfgRead(NIC, PCI.VENDOR_ID, 32)).toBe(0x100e8086);
    expect(pci.cfgRead(NIC, PCI.SUBSYSTEM_VENDOR, 32)).toBe(0x001e8086);
    expect(pci.cfgRead(NIC, PCI.INTERRUPT_PIN, 8)).toBe(1);
    pci.cfgWrite(NIC, PCI.COMMAND, 32, 0xffff_ffff);
    expect(pci.cfgRead(NIC, PCI.COMMAND, 16)).toBe(0x0557);
    expect(pci.cfgRead(NIC, PCI.STATUS, 16)).toBe(STATUS_CAPABILITIES);
  });

  it('cfgRead() does list power management and PCI-X, and no MSI', () => {
    const { pci } = nicMachine();
    const list: number[] = [];
    let at = pci.cfgRead(NIC, PCI.CAPABILITIES, 8);
    for (; at !== 0 && list.length < 8; at = pci.cfgRead(NIC, at + 1, 8))
      list.push(pci.cfgRead(NIC, at, 8), at);
    expect(list).toEqual([CAP_POWER_MANAGEMENT, 0xdc, CAP_PCI_X, 0xe4]);
  });

  it.each([
    [0, 24],
    [1, 32],
    [2, 32],
    [1, 16],
    [4096, 8],
  ])('cfgRead() does throw EINVAL when offset %i and width %i make no bus cycle', (offset, width) => {
    expect(() => nicMachine().pci.cfgRead(NIC, offset, width)).toThrow(/must be 8, 16 or 32/);
  });

  it('route() does give line 19 for slot 3, and ENOENT for a pin or function that is not there', () => {
    const { pci } = nicMachine();
    expect(pci.route(NIC, 0)).toBe(19);
    expect(pci.cfgRead(NIC, PCI.INTERRUPT_LINE, 8)).toBe(19);
    expect([4, 5, 6, 7].map((device) => routeIrq(device, 0))).toEqual([16, 17, 18, 19]);
    expect(() => pci.route(NIC, 1)).toThrow(/pin 0 \(INTA\)/);
    expect(() => pci.route({ device: 9 }, 0)).toThrow(/00:09.0/);
  });

  it('findMemory() does find a BAR where it is, also after it was moved', () => {
    const { pci } = nicMachine();
    expect(pci.findMemory(0xfebc_1000, 0x1000)).toMatchObject({ bar: 0, offset: 0x1000 });
    expect(pci.findMemory(0xfebd_f000, 0x2000)).toBeUndefined();
    expect(pci.findMemory(0xc000, 4)).toBeUndefined();
    pci.cfgWrite(NIC, PCI.BAR0, 32, 0xe000_0000);
    expect(pci.findMemory(0xfebc_0000, 4)).toBeUndefined();
    expect(pci.findMemory(0xe000_0000, 0x20000)).toMatchObject({ offset: 0 });
  });
});

describe('NicFunction', () => {
  it('read32() does give all ones when memory decode is off or the function sleeps in D3hot', () => {
    const { pci, registers } = nicMachine();
    expect(registers.read32(REG.STATUS.offset)).not.toBe(0xffff_ffff);
    pci.cfgWrite(NIC, PCI.COMMAND, 16, 0);
    expect(registers.read32(REG.STATUS.offset)).toBe(0xffff_ffff);
    pci.cfgWrite(NIC, PCI.COMMAND, 16, COMMAND_MEMORY);
    registers.write32(REG.RDLEN.offset, 0x1000);
    pci.cfgWrite(NIC, 0xe0, 8, 3);
    expect(registers.read32(REG.STATUS.offset)).toBe(0xffff_ffff);
    pci.cfgWrite(NIC, 0xe0, 8, 0);
    expect(registers.read32(REG.RDLEN.offset)).toBe(0);
  });

  it('bus mastering does follow bit 2 of the command register', () => {
    const { pci, nic } = nicMachine();
    expect(nic.dma.enabled).toBe(false);
    pci.cfgWrite(NIC, PCI.COMMAND, 16, COMMAND_MASTER);
    expect(nic.dma.enabled).toBe(true);
  });

  it('the interrupt line does follow the pin unless INTx is disabled, status bit 3 always', () => {
    const { pci, registers, irqs } = nicMachine();
    registers.write32(REG.IMS.offset, 1);
    registers.write32(REG.ICS.offset, 1);
    expect(irqs).toEqual([[19, true]]);
    expect(pci.cfgRead(NIC, PCI.STATUS, 16) & STATUS_INTERRUPT).toBe(STATUS_INTERRUPT);
    pci.cfgWrite(NIC, PCI.COMMAND, 16, COMMAND_MEMORY | COMMAND_INTX_DISABLE);
    expect(irqs.at(-1)).toEqual([19, false]);
    expect(pci.cfgRead(NIC, PCI.STATUS, 16) & STATUS_INTERRUPT).toBe(STATUS_INTERRUPT);
    pci.cfgWrite(NIC, PCI.COMMAND, 16, COMMAND_MEMORY);
    expect(irqs.at(-1)).toEqual([19, true]);
  });

  it('the interrupt line is low while the function sleeps in D3hot', () => {
    const { pci, registers, irqs } = nicMachine();
    registers.write32(REG.IMS.offset, 1);
    registers.write32(REG.ICS.offset, 1);
    pci.cfgWrite(NIC, 0xe0, 8, 3);
    expect(irqs).toEqual([
      [19, true],
      [19, false],
    ]);
  });

  it('detach() does wake the function, its decoders and its pin for the next driver, who finds bus mastering as it is', () => {
    const { nic, pci, registers, irqs } = nicMachine();
    pci.cfgWrite(NIC, PCI.COMMAND, 16, COMMAND_MASTER | COMMAND_INTX_DISABLE);
    pci.cfgWrite(NIC, 0xe0, 8, 3);
    nic.detach();
    expect(registers.read32(REG.STATUS.offset)).not.toBe(0xffff_ffff);
    registers.write32(REG.IMS.offset, 1);
    registers.write32(REG.ICS.offset, 1);
    expect(irqs).toEqual([[19, true]]);
    // The next driver may have switched it on already.
    expect(nic.dma.enabled).toBe(true);
  });

  it('detach() does reset the NIC, lower the line and end DMA when the driver is gone', () => {
    const { nic, registers, irqs } = nicMachine();
    registers.write32(REG.IMS.offset, 1);
    registers.write32(REG.ICS.offset, 1);
    registers.write32(REG.RCTL.offset, 2);
    nic.detach();
    expect(irqs.at(-1)).toEqual([19, false]);
    expect(registers.read32(REG.RCTL.offset)).toBe(0);
    expect(nic.dma.space).toBeUndefined();
  });
});

describe('IntxLines', () => {
  it('set() does keep a shared line asserted until the last function lets go', () => {
    const { machine, irqs } = nicMachine(5); // slots 3 and 7 share line 19
    const [first, , , , fifth] = machine.nics;
    machine.lines.set(19, first?.requester ?? 0, true);
    machine.lines.set(19, fifth?.requester ?? 0, true);
    machine.lines.set(19, first?.requester ?? 0, false);
    expect(irqs).toEqual([[19, true]]);
    machine.lines.set(19, fifth?.requester ?? 0, false);
    expect(irqs).toEqual([
      [19, true],
      [19, false],
    ]);
  });
});
