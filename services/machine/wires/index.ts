/**
 * Wires by name: what stands behind `wire=` on the command line, and how it becomes a `Wire`. See README.md.
 */

import { parseIpv4 } from '#common/wire/ipv4';
import type { Wire } from '../wire.ts';
import type { WireHost } from './host.ts';
import { NoneWire } from './none.ts';
import {
  type GuestForward,
  type HostForward,
  OptionError,
  parseGuestForward,
  parseHost,
  parseHostForward,
  splitKeys,
} from './options.ts';
import { RecordingWire } from './recording.ts';
import { ReplayWire } from './replay.ts';
import { TapWire } from './tap.ts';
import { type InterfaceAddress, isInterfaceName } from './tap_interface.ts';
import { UserWire } from './user/user_wire.ts';

export type { LogLevel, WireHost } from './host.ts';
export { type GuestForward, OptionError, resolveForwards, splitKeys } from './options.ts';

export type WireKind = 'user' | 'none' | 'pcap' | 'replay' | 'tap';

/** A wire as written, checked as far as that goes without making it. */
export interface WireSpec {
  readonly kind: WireKind;
  /** What follows the colon: a file, an interface, or ''. */
  readonly target: string;
  readonly linkUp: boolean;
  readonly originalTiming: boolean;
  readonly startNow: boolean;
  /** How often a replay runs; Infinity: for ever. */
  readonly loops: number;
  /** Capture file of everything that passes, or ''. */
  readonly record: string;
  /** What a TAP interface gets as its address; undefined: none. */
  readonly address?: InterfaceAddress;
}

/** Fixed names and forwards of the lab: user wires take them. */
export interface WireOptions {
  readonly hosts: ReadonlyMap<string, readonly string[]>;
  readonly forwards: readonly GuestForward[];
  /** Ports of the host lead to the first user wire: the others are made without. */
  readonly hostForwards?: readonly HostForward[];
}

/** Keys that each kind takes, and whether it wants something behind a colon. */
const KINDS: Readonly<
  Record<WireKind, { readonly keys: readonly string[]; readonly target: 'no' | 'file' | 'interface' }>
> = {
  user: { keys: ['record'], target: 'no' },
  none: { keys: ['record', 'link'], target: 'no' },
  pcap: { keys: [], target: 'file' },
  replay: { keys: ['record', 'timing', 'start', 'loop'], target: 'file' },
  tap: { keys: ['record', 'address'], target: 'interface' },
};

function isKind(word: string): word is WireKind {
  return Object.hasOwn(KINDS, word);
}

/** Parses `user,record=x.pcapng` or `tap:tap0`: what follows `wire=`. Throws `OptionError`. */
export function parseWire(text: string): WireSpec {
  const { head, keys } = splitKeys(text, 'wire');
  const colon = head.indexOf(':');
  const kind = colon < 0 ? head : head.slice(0, colon);
  const target = colon < 0 ? '' : head.slice(colon + 1);
  const refuse = (rule: string, value: string): never => {
    throw new OptionError(`Cannot use wire ${text} as ${rule}: current value is "${value}"`);
  };
  if (!isKind(kind)) return refuse(`it must be one of ${Object.keys(KINDS).join(', ')}`, kind);
  const wants = KINDS[kind];
  if (wants.target === 'no' && colon >= 0) refuse(`"${kind}" takes nothing behind a colon`, target);
  if (wants.target === 'file' && target === '') refuse(`it must name a file (${kind}:FILE)`, target);
  if (wants.target === 'interface' && colon >= 0 && !isInterfaceName(target)) {
    refuse('the interface must be 1..15 letters, digits, "_", "." or "-"', target);
  }
  for (const key of keys.keys()) {
    const known = wants.keys.length > 0 ? `one of ${wants.keys.join(', ')}` : 'left out';
    if (!wants.keys.includes(key)) refuse(`a key of wire "${kind}" must be ${known}`, key);
  }
  return {
    kind,
    target,
    linkUp: choice(keys, 'link', ['up', 'down'], refuse) === 'up',
    originalTiming: choice(keys, 'timing', ['fast', 'original'], refuse) === 'original',
    startNow: choice(keys, 'start', ['tx', 'now'], refuse) === 'now',
    loops: loopsOf(keys.get('loop') ?? '1', refuse),
    record: keys.get('record') ?? '',
    ...addressOf(keys.get('address'), refuse),
  };
}

function addressOf(text: string | undefined, refuse: Refuse): { address?: InterfaceAddress } {
  if (text === undefined) return {};
  const [, ip = '', bits = ''] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const [value, prefix] = [parseIpv4(ip), Number(bits)];
  if (value === undefined || prefix < 1 || prefix > 32) {
    return refuse('address must be IPv4 with the length of its prefix, e.g. 10.0.2.2/24', text);
  }
  return { address: { ip: value, prefix } };
}

type Refuse = (rule: string, value: string) => never;

/** The key's value, which must be one of `values`; the first when it is not given. */
function choice(
  keys: ReadonlyMap<string, string>,
  key: string,
  values: readonly [string, ...string[]],
  refuse: Refuse,
): string {
  const value = keys.get(key) ?? values[0];
  return values.includes(value) ? value : refuse(`${key} must be ${values.join(' or ')}`, value);
}

function loopsOf(text: string, refuse: Refuse): number {
  if (text === 'forever') return Number.POSITIVE_INFINITY;
  return /^[1-9]\d{0,8}$/.test(text)
    ? Number.parseInt(text, 10)
    : refuse('loop must be 1..999999999 or forever', text);
}

/** Parses the values of all `--host`, `--guest-forward` and `--host-forward` options. Throws `OptionError`. */
export function parseWireOptions(
  hosts: readonly string[],
  forwards: readonly string[],
  hostForwards: readonly string[] = [],
): WireOptions {
  const names = new Map<string, string[]>();
  for (const text of hosts) parseHost(text, names);
  const parsed = forwards.map(parseGuestForward);
  for (const [n, { guestIp, guestPort }] of parsed.entries()) {
    const first = parsed.findIndex((other) => other.guestIp === guestIp && other.guestPort === guestPort);
    if (first < n) {
      throw new OptionError(
        `Cannot use --guest-forward ${forwards[n]} as each guest address and port leads to one place: ${forwards[first]} is there already`,
      );
    }
  }
  return { hosts: names, forwards: parsed, hostForwards: distinct(hostForwards) };
}

/** Parses host-forwards, of which no two may listen at the same port of the same address. */
function distinct(texts: readonly string[]): HostForward[] {
  const parsed = texts.map(parseHostForward);
  for (const [n, forward] of parsed.entries()) {
    const first = parsed.findIndex((other) => sharePort(other, forward));
    if (first === n) continue;
    throw new OptionError(
      `Cannot use --host-forward ${texts[n]} as each port of the host leads to one place: ${texts[first]} is there already`,
    );
  }
  return parsed;
}

/** 0.0.0.0 is every address. */
function sharePort(a: HostForward, b: HostForward): boolean {
  const sameAddress = a.hostIp === b.hostIp || a.hostIp === 0 || b.hostIp === 0;
  return a.udp === b.udp && a.hostPort === b.hostPort && sameAddress;
}

/** Makes the wire. Throws, with nothing left behind, when the host lacks something it needs. */
export function createWire(spec: WireSpec, options: WireOptions, host: WireHost): Wire {
  const wire = bareWire(spec, options, host);
  const record = spec.kind === 'pcap' ? spec.target : spec.record;
  if (record === '') return wire;
  try {
    return new RecordingWire(wire, record, host);
  } catch (err) {
    wire.close();
    throw err;
  }
}

function bareWire(spec: WireSpec, options: WireOptions, host: WireHost): Wire {
  switch (spec.kind) {
    case 'user':
      return new UserWire(options, host);
    case 'none':
      return new NoneWire(spec.linkUp);
    case 'pcap':
      return new NoneWire(true);
    case 'replay':
      return new ReplayWire({ ...spec, path: spec.target }, host);
    case 'tap':
      return new TapWire(spec.target, spec.address, host);
  }
}
