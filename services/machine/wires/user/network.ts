/**
 * The addresses of a user network, those of QEMU's `-netdev user`, and their form in struct SlirpConfig.
 */

import type { Memory } from '#common/memory';
import type { Arena } from '#common/shm/arena';
import { put32 } from '#common/wire/bytes';
import { parseIpv6 } from '#common/wire/ipv6';
import { SLIRP_CONFIG } from './libslirp.ts';

/** IPv4 addresses as 32-bit numbers, IPv6 as 16 bytes. */
export interface UserNetwork {
  readonly network: number;
  readonly mask: number;
  readonly gateway: number;
  readonly dns: number;
  readonly dhcpStart: number;
  readonly prefix6: Uint8Array;
  readonly gateway6: Uint8Array;
  readonly dns6: Uint8Array;
  /** Host name that DHCP hands to the guest. */
  readonly hostName: string;
}

/** The documented network of the reference machine. */
export const DEFAULT_NETWORK: UserNetwork = {
  network: 0x0a000200,
  mask: 0xffffff00,
  gateway: 0x0a000202,
  dns: 0x0a000203,
  dhcpStart: 0x0a00020f,
  prefix6: address6('fec0::'),
  gateway6: address6('fec0::2'),
  dns6: address6('fec0::3'),
  hostName: 'l4lab',
};

function address6(text: string): Uint8Array {
  const bytes = parseIpv6(text);
  if (bytes === undefined) throw new Error(`"${text}" is no IPv6 address`);
  return bytes;
}

const HOST_NAME = SLIRP_CONFIG.SIZE;
const HOST_NAME_BYTES = 72;
/** Bytes that `writeConfig` needs: the structure and the text it points to. */
export const CONFIG_SIZE = HOST_NAME + HOST_NAME_BYTES;

/** Writes the structure at `at`; the memory is zero and stays while the instance lives. */
export function writeConfig(arena: Arena, at: number, network: UserNetwork, version: number): void {
  const { u8, view }: Memory = arena;
  view.setUint32(at + SLIRP_CONFIG.VERSION, version, true);
  u8[at + SLIRP_CONFIG.IN_ENABLED] = 1;
  put32(u8, at + SLIRP_CONFIG.VNETWORK, network.network);
  put32(u8, at + SLIRP_CONFIG.VNETMASK, network.mask);
  put32(u8, at + SLIRP_CONFIG.VHOST, network.gateway);
  u8[at + SLIRP_CONFIG.IN6_ENABLED] = 1;
  u8.set(network.prefix6, at + SLIRP_CONFIG.VPREFIX_ADDR6);
  u8[at + SLIRP_CONFIG.VPREFIX_LEN] = 64;
  u8.set(network.gateway6, at + SLIRP_CONFIG.VHOST6);
  put32(u8, at + SLIRP_CONFIG.VDHCP_START, network.dhcpStart);
  put32(u8, at + SLIRP_CONFIG.VNAMESERVER, network.dns);
  u8.set(network.dns6, at + SLIRP_CONFIG.VNAMESERVER6);
  const name = Buffer.from(network.hostName, 'latin1').subarray(0, HOST_NAME_BYTES - 1);
  u8.set(name, at + HOST_NAME);
  view.setBigUint64(at + SLIRP_CONFIG.VHOSTNAME, BigInt(arena.address + at + HOST_NAME), true);
}
