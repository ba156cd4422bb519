/** Who sends to a tunnel, and what those send who mean harm. */

import type { Random } from '#common/testing/random';
import { type IpAddress, type Network, parseIp, parseNetwork } from '#common/udp/address';

/** The ends of the tunnels of a world, in one address family. */
export interface Ends {
  /** What the tunnels are, as `--vxlan` has it: with the honest ends, with the enemy, with the group. */
  readonly tunnels: readonly (readonly string[])[];
  readonly honest: readonly [IpAddress, IpAddress];
  readonly enemy: IpAddress;
  readonly group: IpAddress;
  /** Who may send to the group, and which of these addresses is the switch's. */
  readonly members: Network;
  readonly own: Network;
  readonly strangers: readonly [string, ...string[]];
}

const ip = (text: string) => parseIp(text) as IpAddress;
const network = (text: string) => parseNetwork(text) as Network;

function ends(
  honest: [string, string],
  enemy: string,
  group: string,
  members: string,
  own: string,
): Omit<Ends, 'strangers'> {
  const host = (text: string) => (text.includes(':') ? `[${text}]` : text);
  return {
    tunnels: [
      ['vlan=access=7', 'vni=42', ...honest.map((end) => `remote=${host(end)}`)],
      ['vlan=access=8', 'vni=43', `remote=${host(enemy)}`],
      ['vlan=trunk=8,9', 'vni=44', `group=${group}`, 'dev=x', `allow=${members}`],
    ],
    honest: [ip(honest[0]), ip(honest[1])],
    enemy: ip(enemy),
    group: ip(group),
    members: network(members),
    own: network(own),
  };
}

export const ENDS: Readonly<Record<4 | 6, Ends>> = {
  4: {
    ...ends(['192.0.2.1', '192.0.2.2'], '192.0.2.66', '239.1.1.1', '10.0.0.0/8', '10.0.0.9'),
    strangers: ['192.0.2.3', '127.0.0.1', '0.0.0.0', '255.255.255.255', '239.1.1.1', '11.0.0.1'],
  },
  6: {
    ...ends(['2001:db8::1', '2001:db8::2'], '2001:db8::66', 'ff05::1', 'fd00::/8', 'fd00::9'),
    strangers: ['2001:db8::3', '::1', '::', 'ff05::1', 'fe80::1', '::ffff:10.0.0.1'],
  },
};

/** Bytes that frames of the evil are full of. */
export const EVIL = Buffer.from('e711e711deadf00d', 'hex');
const TPIDS: [number, ...number[]] = [0x8100, 0x8100, 0x88a8, 0x9100];
const IDS: [number, ...number[]] = [7, 8, 8, 9, 0, 4095];

/** The enemy, a member of the group, few or any; the switch itself; somebody else. Never one of the honest. */
export function evilSender(random: Random, { enemy, members, own, strangers }: Ends): IpAddress {
  const kind = random.below(8);
  if (kind < 3) return enemy;
  if (kind === 6) return own.address;
  if (kind === 7) return ip(random.pick(strangers));
  const address = members.address.slice();
  const some = kind === 3 ? random.below(4) : random.u32();
  for (let n = 1; n <= 3; n++) address[address.length - n] = some >>> (8 * n);
  return address;
}

/** A datagram: a header with a lie or none, a frame, and it may end anywhere. */
export function evilDatagram(random: Random): Buffer {
  const header = Buffer.alloc(8);
  header[0] = random.oneIn(16) ? random.u32() : 8;
  if (random.oneIn(4)) for (const at of [1, 2, 3, 7]) header[at] = random.u32();
  const vni = random.pick([42, 43, 43, 43, 44, 44, 44, random.u32() & 0xff_ffff]);
  header.writeUIntBE(vni, 4, 3);
  const lengths: [number, ...number[]] = [
    random.below(100),
    60,
    1514,
    random.below(1500),
    random.below(9600),
  ];
  const length = random.oneIn(64) ? random.below(20_000) : random.pick(lengths);
  const datagram = Buffer.concat([header, evilFrame(random, length)]);
  return random.oneIn(8) ? datagram.subarray(0, random.below(datagram.length + 1)) : datagram;
}

/** A frame to anybody from anybody, with tags in tags. */
export function evilFrame(random: Random, length: number): Buffer {
  const frame = Buffer.alloc(Math.max(length, 64), EVIL);
  for (const at of [0, 6]) {
    const kind = random.below(8);
    if (kind === 0) frame.fill(0xff, at, at + 6);
    else if (kind === 1) for (let n = 0; n < 6; n++) frame[at + n] = random.u32();
    // Stations of the honest and of each other, with group addresses among them.
    else
      frame.set([random.oneIn(16) ? 3 : 2, 0, 0, 0, 1, random.pick([0, 1, 100, 101, 7, random.u32()])], at);
  }
  let at = 12;
  for (let tags = random.pick([0, 0, 0, 1, 1, 2, 12]); tags > 0; tags--) {
    frame.writeUInt16BE(random.pick(TPIDS), at);
    frame.writeUInt16BE(random.pick(IDS) | (random.u32() & 0xf000), at + 2);
    at += 4;
  }
  frame.writeUInt16BE(random.pick([0x0800, 0x0806, 0x86dd, 0, 46, random.below(65_536)]), at);
  return frame.subarray(0, length);
}
