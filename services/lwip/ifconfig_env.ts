/**
 * Interfaces from environment variables, as L4Re's lwip_ifconfig_env does before main: IFCONFIG_IP4_<interface>.
 *
 *     dhcp                      ask a DHCP server
 *     a.b.c.d/p via g.h.i.j     address, prefix length, default gateway
 *     a.b.c.d/p                 no gateway
 *     a.b.c.d                   prefix 32
 *
 * and IFCONFIG_VLAN_<interface>, which L4Re has not: a VLAN id, for a trunk port of a switch.
 *
 * L4Re applies 0.0.0.0 when it cannot read the value and says nothing; here the program ends with a sentence.
 */
import { L4Error } from '#common/ipc/errors';
import { formatIpv4, parseIpv4 } from '#common/wire/ipv4';
import { netmaskOf } from './address.ts';

export const VARIABLE_PREFIX = 'IFCONFIG_IP4_';
export const VLAN_PREFIX = 'IFCONFIG_VLAN_';
export const TIMEOUT_VARIABLE = 'IFCONFIG_DHCP_TIMEOUT';
const DEFAULT_TIMEOUT_S = 60;
const MAX_VLAN = 4094;

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

/** The VLAN of an interface from IFCONFIG_VLAN_<interface>; undefined when unset. Throws L4Error EINVAL. */
export function vlanOf(environment: ReadonlyMap<string, string>, name: string): number | undefined {
  const variable = VLAN_PREFIX + name;
  const value = environment.get(variable);
  if (value === undefined) return undefined;
  const id = /^\d{1,4}$/.test(value) ? Number(value) : 0;
  if (id >= 1 && id <= MAX_VLAN) return id;
  throw new L4Error(
    'EINVAL',
    `Cannot configure the network as ${variable} must be a VLAN id 1..${MAX_VLAN}: current value is "${value}"`,
    { code: 'LWIP_IFCONFIG' },
  );
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

/** One warning for each variable of an interface that does not exist. */
export function strayVariables(
  environment: ReadonlyMap<string, string>,
  interfaces: readonly string[],
): string[] {
  const have =
    interfaces.length === 0
      ? 'there is none, as no capability name starts with virtnet'
      : `there are ${interfaces.join(', ')}`;
  return [...environment.keys()].flatMap((key) => {
    const prefix = [VARIABLE_PREFIX, VLAN_PREFIX].find((each) => key.startsWith(each));
    const name = prefix === undefined ? '' : key.slice(prefix.length);
    if (prefix === undefined || interfaces.includes(name)) return [];
    return [`Warning: ${key} is ignored as interface "${name}" does not exist: ${have}`];
  });
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
