/**
 * Interfaces from environment variables, as L4Re's lwip_ifconfig_env does before main: IFCONFIG_IP4_<interface>.
 *
 *     dhcp                      ask a DHCP server
 *     a.b.c.d/p via g.h.i.j     address, prefix length, default gateway
 *     a.b.c.d/p                 no gateway
 *     a.b.c.d                   prefix 32
 *
 * L4Re applies 0.0.0.0 when it cannot read the value and says nothing; here the program ends with a sentence.
 */
import { L4Error } from '#common/ipc/errors';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { netmaskOf } from './address.ts';

export const VARIABLE_PREFIX = 'IFCONFIG_IP4_';
export const TIMEOUT_VARIABLE = 'IFCONFIG_DHCP_TIMEOUT';
const DEFAULT_TIMEOUT_S = 60;

export type Ip4Setting =
  | { readonly kind: 'dhcp' }
  | { readonly kind: 'static'; readonly ip: number; readonly netmask: number; readonly gateway: number };

const FORM = /^([0-9.]+)(?:\/(\d+))?(?: via ([0-9.]+))?$/;

/** Reads one variable's value. Throws L4Error EINVAL naming variable, value and the forms. */
export function parseIp4Setting(variable: string, value: string): Ip4Setting {
  if (value === 'dhcp') return { kind: 'dhcp' };
  const match = FORM.exec(value);
  const ip = parseIpv4(match?.[1] ?? '');
  const gateway = match?.[3] === undefined ? 0 : parseIpv4(match[3]);
  // The gateway belongs to the form with a prefix.
  const complete = match?.[3] === undefined || match[2] !== undefined;
  if (ip === undefined || gateway === undefined || !complete) {
    throw new L4Error(
      'EINVAL',
      `Cannot configure the network as ${variable} must be "dhcp", "a.b.c.d/p via g.h.i.j", "a.b.c.d/p" or "a.b.c.d": current value is "${value}"`,
      { code: 'LWIP_IFCONFIG' },
    );
  }
  return { kind: 'static', ip, netmask: netmaskOf(Number(match?.[2] ?? 32)), gateway };
}

/** Seconds to wait for DHCP from IFCONFIG_DHCP_TIMEOUT; 0 = for ever, 60 when unset. Throws L4Error EINVAL. */
export function dhcpTimeout(environment: ReadonlyMap<string, string>): number {
  const value = environment.get(TIMEOUT_VARIABLE);
  if (value === undefined) return DEFAULT_TIMEOUT_S;
  const seconds = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isFinite(seconds)) return seconds;
  throw new L4Error(
    'EINVAL',
    `Cannot wait for DHCP as ${TIMEOUT_VARIABLE} must be a number of seconds (0 = for ever): current value is "${value}"`,
    { code: 'LWIP_IFCONFIG' },
  );
}

/** One warning for each IFCONFIG_IP4_* variable of an interface that does not exist. */
export function strayVariables(
  environment: ReadonlyMap<string, string>,
  interfaces: readonly string[],
): string[] {
  const have =
    interfaces.length === 0
      ? 'there is none, as no capability name starts with virtnet'
      : `there are ${interfaces.join(', ')}`;
  return [...environment.keys()]
    .filter(
      (key) => key.startsWith(VARIABLE_PREFIX) && !interfaces.includes(key.slice(VARIABLE_PREFIX.length)),
    )
    .map(
      (key) =>
        `Warning: ${key} is ignored as interface "${key.slice(VARIABLE_PREFIX.length)}" does not exist: ${have}`,
    );
}

/** The lines L4Re prints for a configured interface. */
export function configuredLines(
  name: string,
  how: 'via DHCP' | 'statically',
  { ip, netmask, gateway }: { readonly ip: number; readonly netmask: number; readonly gateway: number },
): string[] {
  return [
    `Interface '${name}' configured ${how}:`,
    `  IP address: ${formatIpv4(ip)}`,
    `  Netmask: ${formatIpv4(netmask)}`,
    `  Gateway: ${formatIpv4(gateway)}`,
  ];
}
