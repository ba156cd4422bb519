/** What this host says of an interface: which networks it is in, and which addresses are our own. */
import { networkInterfaces } from 'node:os';
import { L4Error } from '#common/ipc/errors';
import { parseIp, parseNetwork } from '#common/udp/address';
import type { Senders } from './remotes.ts';
import type { VxlanSpec } from './spec.ts';

/** Whose frames a port with a group takes. Throws L4Error ENODEV: the interface has no address of the family. */
export function sendersOf(
  { family, group, device = '' }: Pick<VxlanSpec, 'family' | 'group' | 'device'>,
  interfaces = networkInterfaces(),
): Senders | undefined {
  if (!group) return undefined;
  const own = (interfaces[device] ?? []).filter((each) => each.family === `IPv${family}`);
  const networks =
    group.allow.length > 0
      ? group.allow
      : own.map(({ cidr }) => parseNetwork(cidr ?? '')).filter((network) => network !== undefined);
  if (networks.length === 0) {
    throw new L4Error(
      'ENODEV',
      `interface "${device}" must be up and have an IPv${family} address, whose network may send: choose another with dev=NAME, or say who may with allow=NETWORK`,
      { code: 'VSWITCH_VXLAN' },
    );
  }
  const addresses = own.map(({ address }) => parseIp(address)).filter((address) => address !== undefined);
  return { networks, own: addresses.map((address) => ({ address, bits: address.length * 8 })) };
}
