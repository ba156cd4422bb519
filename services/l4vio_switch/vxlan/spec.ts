/**
 * What a VXLAN port is: `vni=42`, `remote=ADDRESS[:PORT]` (repeatable), `local=ADDRESS`, `port=N`, as arguments of
 * `create(0, "type=vxlan", ...)` and parts of the option `--vxlan`.
 */
import { L4Error } from '#common/ipc/errors';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { MAX_VNI, VXLAN_PORT } from './header.ts';

/** Another tunnel end point. Addresses are IPv4, as 32-bit numbers. */
export interface Remote {
  readonly address: number;
  readonly port: number;
}

export interface VxlanSpec {
  /** VXLAN network identifier, 0 to 2^24 - 1. */
  readonly vni: number;
  /** Where frames for everybody go, and the only senders that are listened to. */
  readonly remotes: readonly Remote[];
  /** Our own address; 0: any. */
  readonly local: number;
  /** UDP port that we listen on. */
  readonly port: number;
}

/** What has been said of a VXLAN port so far. */
export interface VxlanDraft {
  vni?: number;
  remotes: Remote[];
  local: number;
  port: number;
}

/** Most tunnel end points of one port. */
export const MAX_REMOTES = 256;
/** Keys that belong to VXLAN ports only. */
export const VXLAN_KEYS = ['vni', 'remote', 'local', 'port'] as const;

export function newDraft(): VxlanDraft {
  return { remotes: [], local: 0, port: VXLAN_PORT };
}

/** Takes one `key=value`. Throws L4Error EINVAL. */
export function setVxlan(draft: VxlanDraft, key: string, value: string): void {
  if (key === 'vni') draft.vni = number(value, 0, MAX_VNI, `Invalid VXLAN id '${value}'`);
  else if (key === 'port') draft.port = number(value, 1, 65535, `Invalid VXLAN port '${value}'`);
  else if (key === 'local') draft.local = addressOf(value, `Invalid local address '${value}'`);
  else draft.remotes.push(parseRemote(value, draft.remotes));
}

/** The finished description. Throws L4Error EINVAL for what is missing. */
export function finishVxlan({ vni, remotes, local, port }: VxlanDraft): VxlanSpec {
  if (vni === undefined)
    throw refuse('A VXLAN port needs an id: add vni=N, the same at all ends of the network');
  if (remotes.length === 0)
    throw refuse('A VXLAN port needs another end: add remote=ADDRESS, once for each of the other switches');
  return { vni, remotes, local, port };
}

export function formatRemote({ address, port }: Remote): string {
  return `${formatIpv4(address)}:${port}`;
}

function parseRemote(text: string, others: readonly Remote[]): Remote {
  const [host = '', port, ...rest] = text.split(':');
  const what = `Invalid VXLAN remote '${text}'`;
  if (rest.length > 0) throw refuse(`${what}: it must be ADDRESS[:PORT] with an IPv4 address`);
  const remote = {
    address: addressOf(host, what),
    port: port === undefined ? VXLAN_PORT : number(port, 1, 65535, what),
  };
  if (remote.address === 0) throw refuse(`${what}: it must be the address of one host`);
  if (others.some(({ address }) => address === remote.address))
    throw refuse(`${what}: each remote needs an address of its own`);
  if (others.length === MAX_REMOTES) throw refuse(`${what}: a port has at most ${MAX_REMOTES} remotes`);
  return remote;
}

function addressOf(text: string, what: string): number {
  const address = parseIpv4(text);
  if (address === undefined) throw refuse(`${what}: it must be an IPv4 address`);
  // Multicast groups would need IGMP: every remote is named instead.
  if (address >>> 28 === 0xe) throw refuse(`${what}: multicast groups are not supported, name every remote`);
  return address >>> 0;
}

function number(text: string, low: number, high: number, what: string): number {
  const value = /^\d{1,8}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  throw refuse(`${what}: it must be ${low}..${high}`);
}

function refuse(message: string): L4Error {
  return new L4Error('EINVAL', message, { code: 'VSWITCH_VXLAN' });
}
