/**
 * Arguments of `create(0, ...)`: strings `key=value` in any order.
 *
 * The sentences start with the words of the original, then say the rule and the value. A repeated key overrides the
 * earlier one, `vlan=trunk=` lists add up.
 */
import { L4Error } from '#common/ipc/errors';
import { MAX_MTU, MIN_MTU } from '#common/vnet/net_config';
import type { ForwardSpec } from './forward.ts';
import { addStorm, parseFilter, parseRate } from './limit_args.ts';
import type { RateLimit, StormLimit } from './limits.ts';
import { parseMac } from './mac_address.ts';
import {
  finishVxlan,
  newDraft,
  setVxlan,
  VXLAN_KEYS,
  type VxlanDraft,
  type VxlanSpec,
} from './vxlan/spec.ts';

/** What a script asked for; checks against the ports that exist are the port list's. */
export interface PortSpec extends ForwardSpec {
  /** At most 19 characters; empty: the switch makes one up. */
  readonly name: string;
  readonly dsMax: number;
  readonly monitor: boolean;
  /** Names of the ports whose frames this port gets copies of: it is a mirror then. */
  readonly mirror?: readonly string[];
  readonly mac?: Uint8Array;
  /** MTU to offer, in bytes behind the Ethernet header. */
  readonly mtu?: number;
  /** No client, but the same network in other switches. */
  readonly vxlan?: VxlanSpec;
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
/** Anything longer has no sense, but costs: lists are looked at for each port or frame, and errors repeat what was said. */
const MAX_LENGTH = 4096;

/** How the unknown option's message shows each key. */
const HINTS: Readonly<Record<string, string>> = {
  'ds-max=': 'ds-max=N',
  'name=': 'name=S',
  'type=': 'type=monitor, type=mirror, type=vxlan',
  'vlan=': 'vlan=access=ID, vlan=trunk=ID,...',
  'mac=': 'mac=xx:xx:xx:xx:xx:xx',
  'mirror=': 'mirror=NAME,...',
  'rate-in=': 'rate-in=BITS',
  'rate-out=': 'rate-out=BITS',
  'storm=': 'storm=FRAMES',
  'filter=': 'filter=TYPE,...',
  'mtu=': 'mtu=BYTES',
  'vni=': 'vni=N',
  'remote=': 'remote=ADDRESS[:PORT]',
  'group=': 'group=ADDRESS',
  'local=': 'local=ADDRESS',
  'port=': 'port=N',
  'dev=': 'dev=INTERFACE',
  'allow=': 'allow=NETWORK',
  'ttl=': 'ttl=HOPS',
};

interface Draft {
  name: string;
  dsMax: number;
  monitor: boolean;
  /** `type=mirror`; the names make it one. */
  isMirror?: boolean;
  mirror?: string[];
  mac?: Uint8Array;
  mtu?: number;
  access?: number;
  trunk?: number[] | 'all';
  rateIn?: RateLimit;
  rateOut?: RateLimit;
  storm?: StormLimit;
  filter?: readonly number[];
  /** `type=vxlan`; the keys for it may come before it. */
  isVxlan?: boolean;
  tunnel?: VxlanDraft;
}

const KEYS: readonly (readonly [string, (draft: Draft, value: string) => void])[] = [
  ['ds-max=', setDsMax],
  ['name=', setName],
  ['type=', setType],
  ['vlan=', setVlan],
  ['mac=', setMac],
  ['mirror=', setMirror],
  ['rate-in=', setRateIn],
  ['rate-out=', setRateOut],
  ['storm=', setStorm],
  ['filter=', setFilter],
  ['mtu=', setMtu],
  ...VXLAN_KEYS.map((key) => [`${key}=`, vxlanSetter(key)] as const),
];
/** What the port of a NIC can have: the NIC brings its own address, and its driver its dataspaces. */
const NIC_KEYS = ['name=', 'vlan=', 'rate-in=', 'rate-out=', 'storm='];
/** What a port of `--vxlan` can have. */
const TUNNEL_KEYS = [...NIC_KEYS, ...VXLAN_KEYS.map((key) => `${key}=`)];

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
    apply(draft, text, KEYS);
  }
  return finish(draft);
}

/** Parses what is said of a NIC's port, in the words of `create(0, ...)`. Throws L4Error EINVAL. */
export function parseNicArguments(texts: readonly string[]): PortSpec {
  return parseOnly(NIC_KEYS, { name: '', dsMax: DEFAULT_DS_MAX, monitor: false }, texts);
}

/** Parses what `--vxlan` says of a port without a client. Throws L4Error EINVAL. */
export function parseTunnelArguments(texts: readonly string[]): PortSpec {
  return parseOnly(TUNNEL_KEYS, { name: '', dsMax: DEFAULT_DS_MAX, monitor: false, isVxlan: true }, texts);
}

function parseOnly(names: readonly string[], draft: Draft, texts: readonly string[]): PortSpec {
  const keys = KEYS.filter(([key]) => names.includes(key));
  for (const text of texts) apply(draft, text, keys);
  return finish(draft);
}

function apply(draft: Draft, text: string, keys: typeof KEYS): void {
  const entry = keys.find(([key]) => text.startsWith(key));
  if (text.length > MAX_LENGTH) {
    const key = entry?.[0] ?? text.slice(0, MAX_NAME);
    throw refuse(
      'VSWITCH_ARGUMENT_TYPE',
      `Bad parameter '${key}'. It must have at most ${MAX_LENGTH} characters: it has ${text.length}`,
    );
  }
  if (text.length < MIN_LENGTH || entry === undefined) {
    const known = keys.map(([key]) => HINTS[key] ?? key).join(', ');
    throw refuse('VSWITCH_UNKNOWN_OPTION', `Unknown option '${text}': it must be one of ${known}`);
  }
  const [key, set] = entry;
  set(draft, text.slice(key.length));
}

/** What belongs together must be there together. */
function finish({ isMirror, isVxlan, tunnel, ...spec }: Draft): PortSpec {
  if (isVxlan) {
    // It has no client whose device these could be about, and it has frames of its own.
    const odd = (['mac', 'mtu', 'mirror', 'filter'] as const).find((key) => spec[key] !== undefined);
    if (odd)
      throw refuse('VSWITCH_VXLAN', `Cannot use ${odd}= for a VXLAN port as it has no client: leave it out`);
    return { ...spec, vxlan: finishVxlan(tunnel ?? newDraft()) };
  }
  if (tunnel) {
    throw refuse(
      'VSWITCH_VXLAN',
      `Cannot make a tunnel as ${VXLAN_KEYS.join('=, ')}= are for ports with type=vxlan: add 'type=vxlan'`,
    );
  }
  if (isMirror && !spec.mirror) {
    throw refuse(
      'VSWITCH_MIRROR',
      "Cannot make a mirror as type=mirror needs the ports to look at: add 'mirror=NAME[,NAME...]'",
    );
  }
  if (!isMirror && spec.mirror) {
    throw refuse(
      'VSWITCH_MIRROR',
      `Cannot mirror '${spec.mirror.join(',')}' as mirror= is for ports with type=mirror: add 'type=mirror'`,
    );
  }
  if (!isMirror && !spec.monitor && spec.filter) {
    throw refuse(
      'VSWITCH_FILTER',
      "Cannot filter as filter= is for ports that look at others: add 'type=monitor' or 'type=mirror'",
    );
  }
  return spec;
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
  if (value !== 'monitor' && value !== 'mirror' && value !== 'vxlan' && value !== 'none') {
    throw refuse(
      'VSWITCH_UNKNOWN_TYPE',
      `Unknown type '${value}': it must be monitor, mirror, vxlan or none`,
    );
  }
  draft.monitor = value === 'monitor';
  draft.isMirror = value === 'mirror';
  draft.isVxlan = value === 'vxlan';
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

function setMirror(draft: Draft, value: string): void {
  const names = value.split(',').map((name) => name.slice(0, MAX_NAME));
  if (names.includes('')) {
    throw refuse(
      'VSWITCH_MIRROR',
      `Invalid ports to mirror '${value}': they must be names of ports with commas, without blanks`,
    );
  }
  draft.mirror = names;
}

function setRateIn(draft: Draft, value: string): void {
  draft.rateIn = limit('rate-in=', value, parseRate);
}

function setRateOut(draft: Draft, value: string): void {
  draft.rateOut = limit('rate-out=', value, parseRate);
}

function setFilter(draft: Draft, value: string): void {
  draft.filter = limit('filter=', value, parseFilter, 'VSWITCH_FILTER');
}

function setStorm(draft: Draft, value: string): void {
  draft.storm = limit('storm=', value, (text) => addStorm(draft.storm, text), 'VSWITCH_STORM');
}

/** Parses the value of a limit; a rule that it breaks is said as for the other arguments. */
function limit<T>(key: string, value: string, parse: (value: string) => T, code = 'VSWITCH_RATE'): T {
  try {
    return parse(value);
  } catch (cause) {
    throw refuse(code, `Bad parameter '${key}'. ${(cause as Error).message}: current value is '${value}'`);
  }
}

function vxlanSetter(key: string): (draft: Draft, value: string) => void {
  return (draft, value) => {
    draft.tunnel ??= newDraft();
    setVxlan(draft.tunnel, key, value);
  };
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

function setMtu(draft: Draft, value: string): void {
  const mtu = decimal(value);
  if (!(mtu >= MIN_MTU && mtu <= MAX_MTU)) {
    throw refuse(
      'VSWITCH_MTU',
      `Bad parameter 'mtu='. It must be ${MIN_MTU}..${MAX_MTU}: current value is '${value}'`,
    );
  }
  draft.mtu = mtu;
}
