/** An interface whose frames a test writes and reads itself, in memory; nobody else is there, and the clock is the test's. */
import { Arena } from '#common/shm/arena';
import { NETIF } from '../layout.ts';
import { Netif } from '../netif.ts';
import { Stack } from '../stack.ts';

const ARENA_BYTES = 2 ** 26;
const SLOT = 2048;

export interface BareOptions {
  readonly rxBuffers?: number;
  /** False: there is no room for a frame of lwIP now. */
  readonly room?: () => boolean;
  readonly sent: (u8: Uint8Array, at: number, length: number) => void;
}

/** One arena for one lwIP. */
let arena: Arena | undefined;

export class BareNetif implements Disposable {
  readonly stack: Stack;
  readonly netif: Netif;
  readonly rxBuffers: number;
  readonly #base: number;
  readonly #free: number[];

  /** vn0 with 10.0.2.15/24 via 10.0.2.2. */
  constructor({ rxBuffers = 64, room = () => true, sent }: BareOptions) {
    arena ??= new Arena(ARENA_BYTES);
    this.stack = Stack.open(arena);
    this.rxBuffers = rxBuffers;
    this.#base = arena.mapPrivate(rxBuffers * SLOT);
    this.#free = Array.from({ length: rxBuffers }, (_, i) => i);
    const slot = arena.mapPrivate(SLOT);
    this.netif = new Netif(this.stack, {
      mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56),
      mtu: 1500,
      rxBuffers,
      start: () => {},
      txSlot: () => (room() ? slot : -1),
      txCommit: (length) => sent(this.stack.memory.u8, slot, length),
      flush: () => {},
      rxRelease: (index) => void this.#free.push(index),
      close: () => {},
    });
    this.netif.setAddress(0x0a00020f, 0xffffff00, 0x0a000202);
  }

  /** Receive buffers that lwIP does not have. */
  get free(): number {
    return this.#free.length;
  }

  /** Its IPv6 address on the link. */
  ip6(): Uint8Array {
    const at = this.netif.address - this.stack.memory.address + NETIF.IP6;
    return this.stack.memory.u8.slice(at, at + 16);
  }

  /** A frame comes; `write` puts it at the offset that it is given and returns its length. Ends no batch. */
  receive(write: (at: number) => number): void {
    const index = this.#free.pop();
    if (index === undefined) throw new Error('lwIP has all receive buffers');
    const at = this.#base + index * SLOT;
    this.netif.receive(index, at, write(at));
  }

  [Symbol.dispose](): void {
    this.netif.close();
    this.stack.timers.stop();
  }
}
