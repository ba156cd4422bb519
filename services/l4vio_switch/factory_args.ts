/**
 * Arguments of `create(0, ...)`: strings `key=value` in any order.
 *
 * The sentences start with the words of the original, then say the rule and the value. A repeated key overrides the
 * earlier one, `vlan=trunk=` lists add up.
 */
import { L4Error } from '#common/ipc/errors';
import { parseMac } from './mac_address.ts';
import type { VlanSpec } from './vlan.ts';

/** What a script asked for; checks against the ports that exist are the port list's. */
export interface PortSpec extends VlanSpec {
  /** At most 19 characters; empty: the switch makes one up. */
  readonly name: string;
  readonly dsMax: number;
  readonly monitor: boolean;
  readonly mac?: Uint8Array;
}

/** One argument as FactoryArgument of factory.proto carries it. */
export interface Argument {
  readonly text?: string | null;
  readonly nil?: boolean | null;
}

export const DEFAULT_DS_MAX = 2;
export const MAX_DS_MAX = 80;
export const MAX_NAME = 19;
const MIN_VLAN = 1;
const MAX_VLAN = 4094;
/** Number that the first argument behind the object type has in messages. */
const FIRST_ARGUMENT = 2;
/** Anything shorter cannot be a key with a value. */
const MIN_LENGTH = 5;

interface Draft {
  name: string;
  dsMax: number;
  monitor: boolean;
  mac?: Uint8Array;
  access?: number;
  trunk?: number[] | 'all';
}

const KEYS: readonly (readonly [string, (draft: Draft, value: string) => void])[] = [
  ['ds-max=', setDsMax],
  ['name=', setName],
  ['type=', setType],
  ['vlan=', setVlan],
  ['mac=', setMac],
];

/** Parses the arguments behind the object type. Throws L4Error EINVAL with the sentence for log and caller. */
export function parsePortArguments(args: readonly Argument[]): PortSpec {
  const draft: Draft = { name: '', dsMax: DEFAULT_DS_MAX, monitor: false };
  for (const [index, { text, nil }] of args.entries()) {
    // Scripts' argument lists end in a nil, which stands for nothing.
    if (nil) continue;
    if (typeof text !== 'string') {
      throw refuse(
        'VSWITCH_ARGUMENT_TYPE',
        `Unexpected type for argument ${index + FIRST_ARGUMENT}: it must be a string`,
      );
    }
    const entry = KEYS.find(([key]) => text.startsWith(key));
    if (text.length < MIN_LENGTH || entry === undefined) {
      const known =
        'ds-max=N, name=S, type=monitor, vlan=access=ID, vlan=trunk=ID,..., mac=xx:xx:xx:xx:xx:xx';
      throw refuse('VSWITCH_UNKNOWN_OPTION', `Unknown option '${text}': it must be one of ${known}`);
    }
    const [key, set] = entry;
    set(draft, text.slice(key.length));
  }
  return draft;
}

function refuse(code: string, message: string): L4Error {
  return new L4Error('EINVAL', message, { code });
}

function decimal(text: string): number {
  return /^-?\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

function isVlan(id: number): boolean {
  return id >= MIN_VLAN && id <= MAX_VLAN;
}

function setDsMax(draft: Draft, value: string): void {
  const count = decimal(value);
  if (Number.isNaN(count)) {
    throw refuse(
      'VSWITCH_DS_MAX',
      `Bad parameter 'ds-max='. Invalid number specified. It must be 1..${MAX_DS_MAX}: current value is '${value}'`,
    );
  }
  if (count < 1 || count > MAX_DS_MAX) {
    throw refuse(
      'VSWITCH_DS_MAX',
      `Bad parameter 'ds-max='. It must be 1..${MAX_DS_MAX}: current value is ${value}`,
    );
  }
  draft.dsMax = count;
}

function setName(draft: Draft, value: string): void {
  draft.name = value.slice(0, MAX_NAME);
}

function setType(draft: Draft, value: string): void {
  if (value !== 'monitor' && value !== 'none') {
    throw refuse('VSWITCH_UNKNOWN_TYPE', `Unknown type '${value}': it must be monitor or none`);
  }
  draft.monitor = value === 'monitor';
}

function setVlan(draft: Draft, value: string): void {
  if (value.startsWith('access=')) setAccess(draft, value.slice('access='.length));
  else if (value.startsWith('trunk=')) setTrunk(draft, value.slice('trunk='.length));
  else {
    throw refuse(
      'VSWITCH_VLAN',
      `Invalid VLAN specification.. It must be access=ID, trunk=ID[,ID...] or trunk=all: current value is '${value}'`,
    );
  }
}

function setAccess(draft: Draft, value: string): void {
  const id = decimal(value);
  if (!isVlan(id)) {
    throw refuse(
      'VSWITCH_VLAN',
      `Invalid VLAN access port id '${value}': it must be ${MIN_VLAN}..${MAX_VLAN}`,
    );
  }
  draft.access = id;
}

function setTrunk(draft: Draft, value: string): void {
  if (value === 'all') {
    draft.trunk = 'all';
    return;
  }
  // A trailing comma is tolerated, as in the original.
  const ids = value.replace(/,$/, '').split(',').map(decimal);
  if (!ids.every(isVlan)) {
    throw refuse(
      'VSWITCH_VLAN',
      `Invalid VLAN trunk port spec '${value}': it must be 'all' or ids of ${MIN_VLAN}..${MAX_VLAN} with commas, without blanks`,
    );
  }
  if (draft.trunk !== 'all') draft.trunk = [...(draft.trunk ?? []), ...ids];
}

function setMac(draft: Draft, value: string): void {
  const mac = parseMac(value);
  if (!mac) {
    throw refuse(
      'VSWITCH_BAD_MAC',
      `Invalid mac address '${value}': it must be xx:xx:xx:xx:xx:xx with hexadecimal digits`,
    );
  }
  draft.mac = mac;
}
