/**
 * What a VXLAN port is, as arguments of `create(0, "type=vxlan", ...)` and parts of the option `--vxlan`: `vni=42`, and the
 * other ends as `remote=ADDRESS[:PORT]` (repeatable) or `group=ADDRESS`; `local=ADDRESS`, `port=N`, `dev=NAME`, `allow=NETWORK`
 * (repeatable), `ttl=N`.
 */
import { L4Error } from '#common/ipc/errors';
import {
  type Family,
  familyOf,
  formatHost,
  formatIp,
  type IpAddress,
  isBroadcast,
  isLinkLocal,
  isMapped,
  isMulticast,
  isUnspecified,
  type Network,
  parseIp,
  parseNetwork,
  sameIp,
} from '#common/udp/address';
import { MAX_VNI, VXLAN_PORT } from './header.ts';

/** Another tunnel end point. */
export interface Remote {
  readonly address: IpAddress;
  readonly port: number;
}

/** The other ends are who has joined a multicast group. */
export interface Group {
  readonly address: IpAddress;
  /** Hops that frames to the group may take. */
  readonly ttl: number;
  /** Networks whose hosts are listened to; empty: those that the interface has an address of. */
  readonly allow: readonly Network[];
}

export interface VxlanSpec {
  /** VXLAN network identifier, 0 to 2^24 - 1. */
  readonly vni: number;
  readonly family: Family;
  /** Where frames for everybody go, and the only senders that are listened to; none with a group. */
  readonly remotes: readonly Remote[];
  readonly group?: Group;
  /** Our own address; undefined: any. */
  readonly local?: IpAddress;
  /** UDP port that we listen on, and the other members of a group. */
  readonly port: number;
  /** Interface to use, and no other; undefined: any. */
  readonly device?: string;
}

/** What has been said of a VXLAN port so far. */
export interface VxlanDraft {
  vni?: number;
  remotes: Remote[];
  local?: IpAddress;
  port: number;
  device?: string;
  group?: IpAddress;
  ttl?: number;
  allow: Network[];
}

/** Most tunnel end points of one port. */
export const MAX_REMOTES = 256;
/** Most networks of `allow=`: each is looked at when a new end is heard of. */
const MAX_ALLOW = 16;
/** Keys that belong to VXLAN ports only. */
export const VXLAN_KEYS = ['vni', 'remote', 'group', 'local', 'port', 'dev', 'allow', 'ttl'] as const;
/** As Linux has it: one link. */
const DEFAULT_TTL = 1;
/** IFNAMSIZ of Linux is 16, with the zero at the end. */
const DEVICE = /^[^/\s:]{1,15}$/;

const SETTERS: Readonly<Record<string, (draft: VxlanDraft, value: string) => void>> = {
  vni: (draft, value) => {
    draft.vni = number(value, 0, MAX_VNI, `Invalid VXLAN id '${value}'`);
  },
  port: (draft, value) => {
    draft.port = number(value, 1, 65535, `Invalid VXLAN port '${value}'`);
  },
  remote: (draft, value) => {
    draft.remotes.push(parseRemote(value, draft.remotes));
  },
  local: (draft, value) => {
    draft.local = addressOf(value, `Invalid local address '${value}'`);
  },
  group: (draft, value) => {
    draft.group = groupOf(value, `Invalid VXLAN group '${value}'`);
  },
  dev: (draft, value) => {
    if (!DEVICE.test(value) || value === '.' || value === '..')
      throw refuse(`Invalid interface '${value}': it must be a name of "ip link", 1 to 15 characters`);
    draft.device = value;
  },
  allow: (draft, value) => {
    draft.allow.push(networkOf(value, draft.allow.length));
  },
  ttl: (draft, value) => {
    draft.ttl = number(value, 1, 255, `Invalid number of hops '${value}'`);
  },
};

export function newDraft(): VxlanDraft {
  return { remotes: [], port: VXLAN_PORT, allow: [] };
}

/** Takes one `key=value`. Throws L4Error EINVAL. */
export function setVxlan(draft: VxlanDraft, key: string, value: string): void {
  SETTERS[key]?.(draft, value);
}

/** The finished description. Throws L4Error EINVAL for what is missing or does not go together. */
export function finishVxlan(draft: VxlanDraft): VxlanSpec {
  const { vni, remotes, group, local, port, device, ttl = DEFAULT_TTL, allow } = draft;
  if (vni === undefined)
    throw refuse('A VXLAN port needs an id: add vni=N, the same at all ends of the network');
  checkEnds(draft);
  const first = group ?? (remotes[0] as Remote).address;
  const family = familyOf(first);
  for (const address of [...remotes.map((remote) => remote.address), ...(local ? [local] : [])])
    if (familyOf(address) !== family) throw mixed(first, address);
  for (const { address } of allow) if (familyOf(address) !== family) throw mixed(first, address);
  for (const { address, port: to } of remotes) {
    if (local && sameIp(local, address) && to === port)
      throw refuse(`Invalid VXLAN remote '${formatHost(address)}:${to}': that is this port itself`);
    if (isLinkLocal(address)) needsDevice(device, `remote '${formatIp(address)}' is a link-local address`);
  }
  if (local && isLinkLocal(local)) needsDevice(device, `'${formatIp(local)}' is a link-local address`);
  return {
    vni,
    family,
    remotes,
    port,
    ...(group && { group: { address: group, ttl, allow } }),
    ...(local && { local }),
    ...(device !== undefined && { device }),
  };
}

export function formatRemote({ address, port }: Remote): string {
  return `${formatHost(address)}:${port}`;
}

/** Where the other ends are, for people. */
export function formatEnds({ remotes, group, device }: VxlanSpec): string {
  return group ? `group ${formatIp(group.address)} on ${device}` : remotes.map(formatRemote).join(', ');
}

function checkEnds({ remotes, group, device, ttl, allow }: VxlanDraft): void {
  if (group) {
    if (remotes.length > 0) {
      throw refuse(
        'A VXLAN port has either a group or remotes: leave out remote= (members of the group are found by themselves), or group=',
      );
    }
    needsDevice(device, `group=${formatIp(group)} means something on one interface only`);
    return;
  }
  if (remotes.length === 0) {
    throw refuse(
      'A VXLAN port needs another end: add remote=ADDRESS, once for each of the other switches, or group=ADDRESS',
    );
  }
  const odd = ttl !== undefined ? 'ttl=' : allow.length > 0 ? 'allow=' : undefined;
  if (odd)
    throw refuse(`Cannot use ${odd} without a group as each remote is named: leave it out, or add group=`);
}

function needsDevice(device: string | undefined, why: string): void {
  if (device === undefined) throw refuse(`A VXLAN port needs an interface as ${why}: add dev=NAME`);
}

function mixed(one: IpAddress, other: IpAddress): L4Error {
  return refuse(
    `A VXLAN port is over IPv4 or over IPv6: ${formatIp(one)} and ${formatIp(other)} do not go together`,
  );
}

/** `192.0.2.1`, `192.0.2.1:4789`, `[2001:db8::1]`, `[2001:db8::1]:4789`. */
function parseRemote(text: string, others: readonly Remote[]): Remote {
  const what = `Invalid VXLAN remote '${text}'`;
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined)
    throw refuse(`${what}: it must be ADDRESS[:PORT], an IPv6 address in brackets: [2001:db8::1]:4789`);
  const remote = {
    address: addressOf(host, what),
    port: port === undefined ? VXLAN_PORT : number(port, 1, 65535, what),
  };
  if (isUnspecified(remote.address) || isBroadcast(remote.address))
    throw refuse(`${what}: it must be the address of one host`);
  if (others.some(({ address }) => sameIp(address, remote.address)))
    throw refuse(`${what}: each remote needs an address of its own`);
  if (others.length === MAX_REMOTES) throw refuse(`${what}: a port has at most ${MAX_REMOTES} remotes`);
  return remote;
}

/** With or without brackets. */
function anyAddress(text: string, what: string): IpAddress {
  const address = parseIp(/^\[(.*:.*)\]$/.exec(text)?.[1] ?? text);
  if (!address) throw refuse(`${what}: it must be an IPv4 or IPv6 address`);
  if (isMapped(address)) throw refuse(`${what}: write it as the IPv4 address that it is`);
  return address;
}

function addressOf(text: string, what: string): IpAddress {
  const address = anyAddress(text, what);
  if (isMulticast(address)) throw refuse(`${what}: it is a multicast group, which is named with group=`);
  return address;
}

function groupOf(text: string, what: string): IpAddress {
  const address = anyAddress(text, what);
  if (!isMulticast(address))
    throw refuse(`${what}: it must be a multicast address, 224.0.0.0/4 or ff00::/8; one host is a remote=`);
  return address;
}

function networkOf(text: string, others: number): Network {
  const network = parseNetwork(text);
  if (!network) {
    throw refuse(
      `Invalid network '${text}': it must be ADDRESS/BITS, as in allow=192.0.2.0/24 or allow=2001:db8::/32`,
    );
  }
  if (others === MAX_ALLOW)
    throw refuse(`Cannot allow '${text}' as a port has at most ${MAX_ALLOW} networks`);
  return network;
}

function number(text: string, low: number, high: number, what: string): number {
  const value = /^\d{1,8}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  throw refuse(`${what}: it must be ${low}..${high}`);
}

function refuse(message: string): L4Error {
  return new L4Error('EINVAL', message, { code: 'VSWITCH_VXLAN' });
}
