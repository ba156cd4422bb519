/** Attaching to a TAP interface and setting it up: ioctl(2) with struct ifreq [netdevice(7), linux/if_tun.h]. */

import { closeSync } from 'node:fs';
import type { Arena } from '#common/shm/arena';
import { ioctl, lastError, socket } from './libc.ts';

const TUNSETIFF = 0x400454ca;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const AF_INET = 2;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_UP = 0x1;

/** struct ifreq: a name of at most 15 characters, then a union: flags, or a struct sockaddr_in. */
const IFREQ = { NAME: 0, FLAGS: 16, FAMILY: 16, ADDRESS: 20, SIZE: 40 } as const;
const MAX_NAME = 15;

const REASON: Readonly<Record<string, string>> = {
  EPERM:
    'this process must have CAP_NET_ADMIN, or own an existing interface: run as root, or once ' +
    '"sudo ip tuntap add dev NAME mode tap user $USER" and then wire=tap:NAME; wire=user needs no rights',
  EBUSY: 'no other program may use the interface: "ip link show" tells which there are',
  EINVAL: 'the name must be free or that of a TAP interface',
};

/** An IPv4 address (32 bits) and the length of its network's prefix, 1..32. */
export interface InterfaceAddress {
  readonly ip: number;
  readonly prefix: number;
}

/** True for what Linux takes as the name of an interface. */
export function isInterfaceName(name: string): boolean {
  return /^[A-Za-z0-9_.-]{1,15}$/.test(name) && name !== '.' && name !== '..';
}

/** Runs `use` with a zeroed ifreq for `name` in the arena. */
function withIfreq<T>(arena: Arena, name: string, use: (at: number) => T): T {
  const at = arena.mapPrivate(IFREQ.SIZE);
  try {
    arena.u8.set(Buffer.from(name, 'latin1').subarray(0, MAX_NAME), at + IFREQ.NAME);
    return use(at);
  } finally {
    arena.unmap(at, IFREQ.SIZE);
  }
}

/** Binds the open /dev/net/tun to interface `name`, which is made if need be ('' : the kernel names it). Returns its name. */
export function attachTap(fd: number, name: string, arena: Arena): string {
  return withIfreq(arena, name, (at) => {
    arena.view.setUint16(at + IFREQ.FLAGS, IFF_TAP | IFF_NO_PI, true);
    if (ioctl(fd, TUNSETIFF, arena.address + at) < 0) {
      const errno = lastError();
      throw new Error(
        `Cannot make wire "tap${name === '' ? '' : `:${name}`}" as ${REASON[errno] ?? 'TUNSETIFF must work'} (${errno})`,
      );
    }
    const bytes = arena.u8.slice(at, at + MAX_NAME + 1);
    return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('latin1');
  });
}

/** Sets the interface up. Returns '' or the errno's name. */
export function bringUp(name: string, arena: Arena): string {
  const fd = socket();
  try {
    return withIfreq(arena, name, (at) => {
      const { view, address } = arena;
      if (ioctl(fd, SIOCGIFFLAGS, address + at) < 0) return lastError();
      const flags = view.getUint16(at + IFREQ.FLAGS, true);
      if (flags & IFF_UP) return '';
      view.setUint16(at + IFREQ.FLAGS, flags | IFF_UP, true);
      return ioctl(fd, SIOCSIFFLAGS, address + at) < 0 ? lastError() : '';
    });
  } finally {
    closeSync(fd);
  }
}

/** Gives the interface an address. Throws when Linux refuses. */
export function setAddress(name: string, { ip, prefix }: InterfaceAddress, arena: Arena): void {
  const mask = (0xffff_ffff << (32 - prefix)) >>> 0;
  const fd = socket();
  try {
    for (const [request, value] of [[SIOCSIFADDR, ip] as const, [SIOCSIFNETMASK, mask] as const]) {
      const done = withIfreq(arena, name, (at) => {
        arena.view.setUint16(at + IFREQ.FAMILY, AF_INET, true);
        arena.view.setUint32(at + IFREQ.ADDRESS, value, false);
        return ioctl(fd, request, arena.address + at) >= 0;
      });
      if (!done) {
        throw new Error(
          `Cannot give interface ${name} its address as that needs CAP_NET_ADMIN: ${lastError()}; leave "address=" out and use "ip addr add"`,
        );
      }
    }
  } finally {
    closeSync(fd);
  }
}
