/**
 * A hub for tests: many guests on one wire, as behind the virtual switch. Each gets what is for its MAC address or a group.
 */

import { isMulticast } from '#common/wire/ethernet';
import type { Wire, WireEnd } from '../../wire.ts';
import type { WireHost } from '../host.ts';
import { TestGuest } from './guest.ts';

export class Hub implements Wire {
  readonly kind = 'hub';
  readonly linkUp = true;
  readonly #host: WireHost;
  readonly #wire: Wire;
  readonly #guests: TestGuest[] = [];
  readonly #wakes: (() => void)[] = [];
  #open = 0;

  constructor(host: WireHost, wire: Wire) {
    this.#host = host;
    this.#wire = wire;
    wire.connect(
      { receive: (offset, length) => this.#receive(offset, length), linkChanged: () => undefined },
      () => {
        for (const wake of this.#wakes) wake();
      },
    );
  }

  /** One more guest; its MAC address ends in its number. The wire closes with the last guest. */
  plug(): TestGuest {
    const index = this.#guests.length;
    const guest = new TestGuest(this.#host, this, Uint8Array.of(0x52, 0x54, 0, 0, index >>> 8, index & 0xff));
    this.#guests.push(guest);
    return guest;
  }

  connect(_end: WireEnd, wake: () => void): void {
    this.#wakes.push(wake);
    this.#open += 1;
  }

  transmit(offset: number, length: number): void {
    this.#wire.transmit(offset, length);
  }

  poll(): boolean {
    return this.#wire.poll();
  }

  arm(): boolean {
    return this.#wire.arm();
  }

  close(): void {
    this.#open -= 1;
    if (this.#open === 0) this.#wire.close();
  }

  #receive(offset: number, length: number): boolean {
    const { u8 } = this.#host.arena;
    const group = isMulticast(u8, offset);
    const mac = u8.slice(offset, offset + 6);
    for (const guest of this.#guests) {
      if (group || Buffer.from(mac).equals(guest.mac)) guest.receive(offset, length);
    }
    return true;
  }
}
