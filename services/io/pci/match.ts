/**
 * The PCI part of Io's match syntax: `PCI/` and tokens joined by `&`, all of which must hold.
 */
import type { PciIdentity } from './function.ts';

/**
 * Usual names of PCI classes (`Io.Dt.PCI_cc`): `match()` puts the code in place of the name behind `PCI/`.
 */
export const PCI_CLASS_ALIASES: Readonly<Record<string, string>> = {
  storage: 'CC_01',
  scsi: 'CC_0100',
  ide: 'CC_0101',
  floppy: 'CC_0102',
  raid: 'CC_0104',
  ata: 'CC_0105',
  sata: 'CC_0106',
  sas: 'CC_0107',
  nvm: 'CC_0108',
  network: 'CC_02',
  ethernet: 'CC_0200',
  token_ring: 'CC_0201',
  fddi: 'CC_0202',
  atm: 'CC_0203',
  isdn: 'CC_0204',
  picmg: 'CC_0206',
  net_infiniband: 'CC_0207',
  fabric: 'CC_0208',
  network_nw: 'CC_0280',
  display: 'CC_03',
  vga: 'CC_0300',
  xga: 'CC_0301',
  media: 'CC_04',
  mm_video: 'CC_0400',
  mm_audio: 'CC_0401',
  // The original's table has the first spelling, its documentation the second.
  tekephony: 'CC_0402',
  telephony: 'CC_0402',
  audio: 'CC_0403',
  bridge: 'CC_06',
  br_host: 'CC_0600',
  br_isa: 'CC_0601',
  br_eisa: 'CC_0602',
  br_microchannel: 'CC_0603',
  br_pci: 'CC_0604',
  br_pcmcia: 'CC_0605',
  br_nubus: 'CC_0606',
  br_cardbus: 'CC_0607',
  br_raceway: 'CC_0608',
  br_semi_pci: 'CC_0609',
  br_infiniband_to_pci: 'CC_060a',
  com: 'CC_07',
  com_serial: 'CC_0700',
  com_parallel: 'CC_0701',
  com_multiport_ser: 'CC_0702',
  com_modem: 'CC_0703',
  com_gpib: 'CC_0704',
  com_smart_card: 'CC_0705',
  serial_bus: 'CC_0c',
  firewire: 'CC_0c00',
  access_bus: 'CC_0c01',
  ssa: 'CC_0c02',
  usb: 'CC_0c03',
  fibre_channel: 'CC_0c04',
  smbus: 'CC_0c05',
  bus_infiniband: 'CC_0c06',
  ipmi_smic: 'CC_0c07',
  sercos: 'CC_0c08',
  canbus: 'CC_0c09',
  wireless: 'CC_0d',
  bluetooth: 'CC_0d11',
  w_8021a: 'CC_0d20',
  w_8021b: 'CC_0d21',
};

const hexValue = (digits: string, count: number): number | undefined =>
  digits.length === count && /^[0-9a-fA-F]+$/.test(digits) ? Number.parseInt(digits, 16) : undefined;

function classMatches(digits: string, classCode: number): boolean {
  const value = [2, 4, 6].includes(digits.length) ? hexValue(digits, digits.length) : undefined;
  return value !== undefined && value === classCode >>> (24 - 4 * digits.length);
}

function addressMatches(text: string, pci: PciIdentity, onError: (message: string) => void): boolean {
  const hex = '([0-9a-fA-F]+)';
  const found = new RegExp(`^${hex}:${hex}:${hex}\\.${hex}`).exec(text);
  if (found === null) {
    onError(`error: PCI/ADR_xxxx:xx:xx.x format error: ADR_${text}`);
    return false;
  }
  const [segment, bus, device, fn] = found.slice(1).map((digits) => Number.parseInt(digits, 16));
  const { address } = pci;
  return (
    segment === address.segment && bus === address.bus && device === address.device && fn === address.function
  );
}

/**
 * True when `id` is `PCI/...` and every token holds for the function.
 *
 * As in the original, an empty token is skipped and nothing behind an `ADR_` token is looked at.
 * @param onError takes the message for an `ADR_` token of a wrong form
 */
export function pciMatches(id: string, pci: PciIdentity, onError: (message: string) => void): boolean {
  if (!id.startsWith('PCI/')) return false;
  for (const [start, token] of tokens(id.slice(4))) {
    if (token === '') continue;
    const split = token.indexOf('_') + 1;
    const [key, value] = [token.slice(0, split), token.slice(split)];
    if (key === 'ADR_') return addressMatches(id.slice(4 + start + 4), pci, onError);
    const holds =
      (key === 'CC_' && classMatches(value, pci.classCode)) ||
      (key === 'REV_' && hexValue(value, 2) === pci.revision) ||
      (key === 'VEN_' && hexValue(value, 4) === pci.vendor) ||
      (key === 'DEV_' && hexValue(value, 4) === pci.device) ||
      (key === 'SUBSYS_' && hexValue(value, 8) === pci.subsystem);
    if (!holds) return false;
  }
  return true;
}

function* tokens(text: string): Generator<[number, string]> {
  let start = 0;
  for (const token of text.split('&')) {
    yield [start, token];
    start += token.length + 1;
  }
}

/**
 * What is wrong with the form of a `PCI/` string, for the message when nothing matched; undefined when
 * every token is one that can match something.
 */
export function explainPciId(id: string): string | undefined {
  if (!id.startsWith('PCI/')) return undefined;
  const hex = '[0-9a-fA-F]';
  const form = new RegExp(
    `^(CC_(${hex}{2}){1,3}|REV_${hex}{2}|(VEN|DEV)_${hex}{4}|SUBSYS_${hex}{8}|ADR_${hex}+:${hex}+:${hex}+\\.${hex}+|)$`,
  );
  const odd = id
    .slice(4)
    .split('&')
    .find((token) => !form.test(token));
  if (odd === undefined) return undefined;
  return `"${odd}" is no token of the match syntax (CC_cc[ss[pp]], REV_rr, VEN_vvvv, DEV_dddd, SUBSYS_ssssssss, ADR_ssss:bb:dd.f, or a class name such as ethernet)`;
}
