import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import type { PciIdentity } from './function.ts';
import { explainPciId, PCI_CLASS_ALIASES, pciMatches } from './match.ts';

const NIC: PciIdentity = {
  address: { segment: 0, bus: 0, device: 0x1a, function: 3 },
  vendor: 0x8086,
  device: 0x100e,
  classCode: 0x0200a5,
  revision: 0x0b,
  subsystem: 0x11001af4,
};

function match(id: string): { matches: boolean; errors: string[] } {
  const errors: string[] = [];
  return { matches: pciMatches(id, NIC, (message) => errors.push(message)), errors };
}

describe('pciMatches()', () => {
  const cases: [id: string, matches: boolean][] = [
    ['PCI/', true],
    ['PCI', false],
    ['pci/', false],
    ['PCI/CC_02', true],
    ['PCI/CC_0200', true],
    ['PCI/CC_0200a5', true],
    ['PCI/CC_0200A5', true],
    ['PCI/CC_0280', false],
    ['PCI/CC_020', false],
    ['PCI/CC_0200a500', false],
    ['PCI/CC_', false],
    ['PCI/CC_zz', false],
    ['PCI/REV_0b', true],
    ['PCI/REV_b', false],
    ['PCI/REV_00b', false],
    ['PCI/VEN_8086', true],
    ['PCI/VEN_8087', false],
    ['PCI/VEN_086', false],
    ['PCI/DEV_100e', true],
    ['PCI/DEV_100E', true],
    ['PCI/DEV_100e1', false],
    ['PCI/SUBSYS_11001af4', true],
    ['PCI/SUBSYS_1100', false],
    ['PCI/VEN_8086&DEV_100e', true],
    ['PCI/VEN_8086&DEV_100f', false],
    ['PCI/VEN_8086&&DEV_100e&', true],
    ['PCI/&', true],
    ['PCI/ADR_0000:00:1a.3', true],
    ['PCI/ADR_0:0:1A.3', true],
    ['PCI/ADR_0000:00:1a.2', false],
    ['PCI/ADR_0000:01:1a.3', false],
    ['PCI/ADR_0001:00:1a.3', false],
    // Tokens behind the address are not looked at.
    ['PCI/ADR_0:0:1a.3&VEN_ffff', true],
    ['PCI/VEN_ffff&ADR_0:0:1a.3', false],
    ['PCI/VEN_8086&ADR_0:0:1a.3', true],
    ['PCI/ethernet', false],
    ['PCI/ven_8086', false],
    ['PCI/CC_02&junk', false],
  ];
  it.each(cases)('%s is %s', (id, matches) => {
    expect(match(id)).toEqual({ matches, errors: [] });
  });

  it('reports a malformed address and does not match', () => {
    expect(match('PCI/ADR_0:1a.3')).toEqual({
      matches: false,
      errors: ['error: PCI/ADR_xxxx:xx:xx.x format error: ADR_0:1a.3'],
    });
  });

  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const identity = fc.record({
    address: fc.record({
      segment: fc.nat(0xffff),
      bus: fc.nat(255),
      device: fc.nat(31),
      function: fc.nat(7),
    }),
    vendor: fc.nat(0xffff),
    device: fc.nat(0xffff),
    classCode: fc.nat(0xffffff),
    revision: fc.nat(0xff),
    subsystem: fc.nat(0xffffffff),
  });

  it('matches every function by tokens made of its own identity, and not once one digit is another', () => {
    fc.assert(
      fc.property(identity, fc.constantFrom(2, 4, 6), (pci, digits) => {
        const { segment, bus, device, function: fn } = pci.address;
        const id = `PCI/CC_${hex(pci.classCode, 6).slice(0, digits)}&REV_${hex(pci.revision, 2)}&VEN_${hex(pci.vendor, 4)}&DEV_${hex(pci.device, 4)}&SUBSYS_${hex(pci.subsystem, 8)}`;
        const address = `&ADR_${hex(segment, 4)}:${hex(bus, 2)}:${hex(device, 2)}.${fn}`;
        const fail = (): never => expect.fail('no format error is expected');
        expect(pciMatches(id + address, pci, fail)).toBe(true);
        expect(pciMatches(id, { ...pci, vendor: pci.vendor ^ 1 }, fail)).toBe(false);
        expect(pciMatches(id, { ...pci, classCode: pci.classCode ^ 0x800000 }, fail)).toBe(false);
        expect(
          pciMatches(`PCI/${address}`, { ...pci, address: { ...pci.address, bus: bus ^ 1 } }, fail),
        ).toBe(false);
      }),
    );
  });

  it('takes any text', () => {
    fc.assert(fc.property(fc.string(), (text) => void match(`PCI/${text}`)));
  });
});

describe('explainPciId()', () => {
  it('is silent about what can match', () => {
    for (const code of Object.values(PCI_CLASS_ALIASES)) expect(explainPciId(`PCI/${code}`)).toBeUndefined();
    for (const id of ['PCI/', 'PNP0303', 'PCI/VEN_8086&&DEV_100E', 'PCI/ADR_0:0:3.0'])
      expect(explainPciId(id)).toBeUndefined();
  });

  it.each(['PCI/CC_020', 'PCI/netwrk', 'PCI/VEN_8086&dev_100e', 'PCI/CC_02_nw'])(
    'names the odd token of %s',
    (id) => {
      expect(explainPciId(id)).toMatch(
        /^"(CC_020|netwrk|dev_100e|CC_02_nw)" is no token of the match syntax/,
      );
    },
  );
});
