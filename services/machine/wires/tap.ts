/**
 * The wire `tap[:IFNAME][,address=IP/PREFIX]`: a Linux network interface is the far end [Documentation/networking/tuntap.rst].
 *
 * Frames are read straight into the ring that the NIC takes them from, and written straight from the NIC's memory. While the
 * NIC is full nothing is read: the kernel's queue of the interface fills up.
 */

import { closeSync, constants, openSync } from 'node:fs';
import type { Arena } from '#common/shm/arena';
import { formatIpv4 } from '#common/wire/ipv4';
import type { Wire, WireEnd } from '../wire.ts';
import { FdWatch } from './fd_watch.ts';
import { FrameRing, MAX_SLOT_FRAME } from './frame_ring.ts';
import type { WireHost } from './host.ts';
import { isTransient, lastError, read, write } from './libc.ts';
import { attachTap, bringUp, type InterfaceAddress, setAddress } from './tap_interface.ts';

const SLOTS = 256;
/** Frames per turn, so that one busy cable does not starve the others. */
const BATCH = 64;

export class TapWire implements Wire {
  readonly kind = 'tap';
  /** Name of the interface. */
  readonly interfaceName: string;
  readonly #arena: Arena;
  readonly #host: WireHost;
  readonly #ring: FrameRing;
  readonly #fd: number;
  readonly #watch: FdWatch;
  #end: WireEnd | undefined;
  #wake: () => void = () => undefined;
  #refused = 0;
  /** A frame that was too long has been told of. */
  #long = false;
  /** The interface was deleted: the descriptor is readable for ever and gives nothing. */
  #gone = false;

  /** `name` '' lets the kernel choose. Throws with what is missing and what to do about it. */
  constructor(name: string, address: InterfaceAddress | undefined, host: WireHost) {
    this.#arena = host.arena;
    this.#host = host;
    this.#fd = openTun();
    try {
      this.interfaceName = attachTap(this.#fd, name, host.arena);
      if (address) setAddress(this.interfaceName, address, host.arena);
    } catch (err) {
      closeSync(this.#fd);
      throw err;
    }
    const failure = bringUp(this.interfaceName, host.arena);
    host.log(
      failure === '' ? 'info' : 'warn',
      failure === '' && address
        ? `Wire "tap" is interface ${this.interfaceName} with ${formatIpv4(address.ip)}/${address.prefix}`
        : failure === ''
          ? `Wire "tap" is interface ${this.interfaceName}; give it an address with "ip addr add 10.0.2.2/24 dev ${this.interfaceName}"`
          : `Cannot set interface ${this.interfaceName} up (${failure}): run "ip link set ${this.interfaceName} up"`,
    );
    this.#ring = new FrameRing(host.arena, SLOTS);
    this.#watch = new FdWatch(this.#fd, () => this.#wake());
  }

  get linkUp(): boolean {
    return !this.#gone;
  }

  connect(end: WireEnd, wake: () => void): void {
    this.#end = end;
    this.#wake = wake;
  }

  transmit(offset: number, length: number): void {
    if (this.#gone || write(this.#fd, this.#arena.address + offset, length) >= 0) return;
    this.#refused += 1;
    if (this.#refused > 1) return;
    this.#host.log(
      'warn',
      `Interface ${this.interfaceName} refuses frames (${lastError()}): is it up? "ip link set ${this.interfaceName} up"`,
    );
  }

  poll(): boolean {
    this.#watch.stop();
    if (this.#end === undefined) return false;
    let worked = this.#ring.deliver(this.#end);
    if (this.#ring.count > 0 || this.#gone) return worked;
    for (let n = 0; n < BATCH; n++) {
      const length = read(this.#fd, this.#arena.address + this.#ring.slot(), MAX_SLOT_FRAME);
      if (length < 0 && !isTransient()) this.#lose(this.#end);
      if (length <= 0) break;
      worked = true;
      // What fills the slot may have been longer: the kernel cuts and does not tell.
      if (length < MAX_SLOT_FRAME) this.#ring.commit(length);
      else this.#dropLong();
    }
    this.#ring.deliver(this.#end);
    return worked;
  }

  #dropLong(): void {
    if (this.#long) return;
    this.#long = true;
    this.#host.log(
      'warn',
      `Interface ${this.interfaceName} sends frames above ${MAX_SLOT_FRAME - 1} bytes, which are dropped: ` +
        `"ip link set ${this.interfaceName} mtu 1500"`,
    );
  }

  /** The cable is pulled out, as the driver sees it. */
  #lose(end: WireEnd): void {
    this.#gone = true;
    this.#host.log(
      'error',
      `Interface ${this.interfaceName} is gone: was it deleted? The NIC's link stays down until the lab is started again`,
    );
    end.linkChanged(false);
  }

  arm(): boolean {
    // The NIC was full a moment ago: its driver wakes the machine when it has made room.
    if (this.#ring.count === 0 && !this.#gone) this.#watch.start();
    return false;
  }

  close(): void {
    this.#watch.close();
    closeSync(this.#fd);
    this.#ring.close();
  }
}

function openTun(): number {
  try {
    return openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `Cannot make wire "tap" as /dev/net/tun must be there and open to this user: ${reason}; ` +
        'try "modprobe tun" (in a container: --device /dev/net/tun --cap-add NET_ADMIN), or wire=user',
      { cause },
    );
  }
}
