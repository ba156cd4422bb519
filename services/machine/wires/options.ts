/**
 * Command-line forms of the wires: `--host NAME=IP`, `--guest-forward IP:PORT=HOST:PORT`, `--host-forward PORT=IP:PORT` and
 * comma-separated keys.
 *
 * Every error names the option, the rule, the value and how to mend it.
 */

import { encodeName } from '#common/wire/dns_name';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { parseIpv6 } from '#common/wire/ipv6';

/** A guest-side address that leads to a host address; addresses as 32-bit numbers. */
export interface GuestForward {
  readonly guestIp: number;
  readonly guestPort: number;
  readonly hostIp: number;
  readonly hostPort: number;
  /** Set: `hostIp` is still to be looked up (`resolveForwards`). */
  readonly hostName?: string;
}

/** A port of the host that leads to a guest; addresses as 32-bit numbers. */
export interface HostForward {
  readonly udp: boolean;
  readonly hostIp: number;
  readonly hostPort: number;
  readonly guestIp: number;
  readonly guestPort: number;
}

/** A value of an option is not what it must be. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
  readonly code = 'MACHINE_BAD_OPTION';
}

const LOOPBACK = 0x7f000001;

/**
 * `NAME=IP`: adds the address to the name's list in `hosts`. An address is an IPv4 or IPv6 literal; the option may
 * be repeated for one name. Throws `OptionError`.
 */
export function parseHost(text: string, hosts: Map<string, string[]>): void {
  const refuse = (rule: string, value: string): never => {
    throw new OptionError(
      `Cannot use --host ${text} as ${rule}: current value is "${value}"; write e.g. --host www.example.org=10.0.2.100`,
    );
  };
  const equals = text.indexOf('=');
  if (equals < 0) refuse('it must be NAME=IP', text);
  const name = text.slice(0, equals);
  const address = text.slice(equals + 1);
  if (name === '') refuse('the name must not be empty', name);
  try {
    encodeName(name);
  } catch (err) {
    refuse('the name must be a host name', `${name} (${err instanceof Error ? err.message : err})`);
  }
  if (parseIpv4(address) === undefined && parseIpv6(address) === undefined) {
    refuse('the address must be an IPv4 or IPv6 address', address);
  }
  hosts.set(name, [...(hosts.get(name) ?? []), address]);
}

/**
 * `IP:PORT=HOST:PORT`. IP is the guest-side IPv4 address; HOST an IPv4 address of the outside, a name that this host
 * knows, or `localhost`, which is 127.0.0.1. Throws `OptionError`.
 */
export function parseGuestForward(text: string): GuestForward {
  const refuse = (rule: string, value: string): never => {
    throw new OptionError(
      `Cannot use --guest-forward ${text} as ${rule}: current value is "${value}"; ` +
        'write e.g. --guest-forward 10.0.2.100:80=localhost:8080',
    );
  };
  const match = /^([^=]*):([^:=]*)=(.*):([^:]*)$/.exec(text);
  if (match === null) return refuse('it must be IP:PORT=HOST:PORT', text);
  const [, guest = '', guestPort = '', host = '', hostPort = ''] = match;
  const guestIp = parseIpv4(guest) ?? refuse('the guest-side address must be an IPv4 address', guest);
  const hostIp = host === 'localhost' ? LOOPBACK : parseIpv4(host);
  if (hostIp === undefined && !isHostName(host)) refuse('the host must be an IPv4 address or a name', host);
  return {
    guestIp,
    guestPort: portOf(guestPort, 'the guest-side port', refuse),
    hostIp: hostIp ?? 0,
    hostPort: portOf(hostPort, "the host's port", refuse),
    ...(hostIp === undefined ? { hostName: host } : {}),
  };
}

/**
 * `[udp:][HOST:]PORT=IP:PORT`. HOST is an IPv4 address of this host or `localhost`, the default; IP is the guest's. Throws
 * `OptionError`.
 */
export function parseHostForward(text: string): HostForward {
  const refuse = (rule: string, value: string): never => {
    throw new OptionError(
      `Cannot use --host-forward ${text} as ${rule}: current value is "${value}"; ` +
        'write e.g. --host-forward 8080=10.0.2.15:80',
    );
  };
  const match = /^(udp:|tcp:)?(?:([^=:]*):)?([^=:]*)=([^=:]*):([^=:]*)$/.exec(text);
  if (match === null) return refuse('it must be [udp:][HOST:]PORT=IP:PORT', text);
  const [, protocol, host = 'localhost', hostPort = '', guest = '', guestPort = ''] = match;
  return {
    udp: protocol === 'udp:',
    hostIp:
      host === 'localhost'
        ? LOOPBACK
        : (parseIpv4(host) ?? refuse('the host must be an IPv4 address or localhost', host)),
    hostPort: portOf(hostPort, "the host's port", refuse),
    guestIp: parseIpv4(guest) ?? refuse('the guest must be an IPv4 address', guest),
    guestPort: portOf(guestPort, "the guest's port", refuse),
  };
}

/** A name, not a mistyped address. */
function isHostName(text: string): boolean {
  return (
    /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?$/i.test(text) &&
    !/^[\d.]+$/.test(text)
  );
}

/** Looks up the names in forwards, in order. Throws `OptionError` for one that `lookup` does not know. */
export async function resolveForwards(
  forwards: readonly GuestForward[],
  lookup: (name: string) => Promise<string>,
): Promise<GuestForward[]> {
  const resolved: GuestForward[] = [];
  for (const { hostName, ...forward } of forwards) {
    if (hostName === undefined) {
      resolved.push(forward);
      continue;
    }
    const address = await lookup(hostName).catch((err: NodeJS.ErrnoException) => {
      throw new OptionError(
        `Cannot use --guest-forward ${formatIpv4(forward.guestIp)}:${forward.guestPort}=${hostName}:${forward.hostPort} as ` +
          `this host must know an IPv4 address of "${hostName}": ${err.code ?? err.message}`,
      );
    });
    resolved.push({ ...forward, hostIp: parseIpv4(address) ?? 0 });
  }
  return resolved;
}

/** How a host-forward is written, for messages. */
export function formatHostForward({ udp, hostIp, hostPort, guestIp, guestPort }: HostForward): string {
  return `${udp ? 'udp:' : ''}${formatIpv4(hostIp)}:${hostPort}=${formatIpv4(guestIp)}:${guestPort}`;
}

function portOf(text: string, what: string, refuse: (rule: string, value: string) => never): number {
  const port = /^\d{1,5}$/.test(text) ? Number.parseInt(text, 10) : 0;
  return port >= 1 && port <= 65535 ? port : refuse(`${what} must be 1..65535`, text);
}

/**
 * Splits `e1000,mac=52:54:00:12:34:56,wire=user` into its first word and its keys. `context` names the option in errors.
 * A key given twice, or without a value, is refused with `OptionError`; which keys mean something is the caller's.
 */
export function splitKeys(
  text: string,
  context: string,
): { readonly head: string; readonly keys: Map<string, string> } {
  const [head = '', ...parts] = text.split(',');
  const keys = new Map<string, string>();
  for (const part of parts) {
    const equals = part.indexOf('=');
    const key = equals < 0 ? part : part.slice(0, equals);
    const value = equals < 0 ? '' : part.slice(equals + 1);
    if (key === '' || value === '') {
      throw new OptionError(
        `Cannot use ${context} ${text} as each part behind a comma must be KEY=VALUE: current value is "${part}"`,
      );
    }
    if (keys.has(key)) {
      throw new OptionError(
        `Cannot use ${context} ${text} as each key must be given once: current value is "${key}", twice`,
      );
    }
    keys.set(key, value);
  }
  return { head, keys };
}
