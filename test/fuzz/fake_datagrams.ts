/** A socket of a tunnel without a kernel: datagrams of anybody come in, what is sent goes to a judge. */
import type { Memory } from '#common/memory';
import type { IpAddress } from '#common/udp/address';
import { SOCKADDR_SLOT, sockaddrIp, sockaddrPort, writeSockaddr } from '#common/udp/sockaddr';
import { type Datagrams, RECEIVE_SLOTS, type SendLosses, SLOT_BYTES } from '#common/udp/socket';

const SEND_SLOTS = 64;
const PEERS_AT = (RECEIVE_SLOTS + SEND_SLOTS) * SLOT_BYTES;
/** Bytes of memory of one socket. */
export const DATAGRAMS_BYTES = PEERS_AT + RECEIVE_SLOTS * SOCKADDR_SLOT;

/** A datagram as it leaves. */
export interface Sent {
  readonly bytes: Buffer;
  readonly to: IpAddress;
  readonly port: number;
}

export class FakeDatagrams implements Datagrams {
  readonly losses: SendLosses = { tooLong: 0, full: 0, refused: 0 };
  /** Datagrams that have been taken. */
  taken = 0;
  closed = false;
  readonly groups: IpAddress[] = [];
  readonly #memory: Memory;
  readonly #at: number;
  readonly #judge: (sent: Sent) => void;
  readonly #inbox: { readonly bytes: Buffer; readonly from: IpAddress; readonly port: number }[] = [];
  readonly #lengths = new Int32Array(RECEIVE_SLOTS);
  #slots = 0;

  constructor(memory: Memory, at: number, judge: (sent: Sent) => void) {
    this.#memory = memory;
    this.#at = at;
    this.#judge = judge;
  }

  /** A datagram arrives. */
  arrive(bytes: Buffer, from: IpAddress, port: number): void {
    this.#inbox.push({ bytes, from, port });
  }

  get waiting(): number {
    return this.#inbox.length;
  }

  /** What lies behind a datagram in its buffer is an earlier one's. */
  receive(max: number): number {
    const batch = this.#inbox.splice(0, Math.min(max, RECEIVE_SLOTS));
    for (const [n, { bytes, from, port }] of batch.entries()) {
      this.#memory.u8.set(bytes.subarray(0, SLOT_BYTES), this.offset(n));
      this.#lengths[n] = bytes.length > SLOT_BYTES ? -1 : bytes.length;
      writeSockaddr(this.#memory, this.peer(n), from, port);
    }
    this.taken += batch.length;
    return batch.length;
  }

  offset(n: number): number {
    return this.#at + (SEND_SLOTS + n) * SLOT_BYTES;
  }

  length(n: number): number {
    return this.#lengths[n] as number;
  }

  peer(n: number): number {
    return this.#at + PEERS_AT + n * SOCKADDR_SLOT;
  }

  slot(): number {
    if (this.#slots === SEND_SLOTS) this.flush();
    return this.#at + this.#slots++ * SLOT_BYTES;
  }

  send(slot: number, bytes: number, peer: number): void {
    if (bytes > SLOT_BYTES || slot !== this.#at + (this.#slots - 1) * SLOT_BYTES)
      throw new Error(`a datagram of ${bytes} bytes at ${slot} is not in its slot`);
    const copy = Buffer.from(this.#memory.u8.slice(slot, slot + bytes));
    this.#judge({ bytes: copy, to: sockaddrIp(this.#memory, peer), port: sockaddrPort(this.#memory, peer) });
  }

  flush(): void {
    this.#slots = 0;
  }

  join(group: IpAddress): void {
    this.groups.push(group);
  }

  leave(group: IpAddress): void {
    const at = this.groups.findIndex((each) => String(each) === String(group));
    if (at < 0) throw new Error('a group is left that was not joined');
    this.groups.splice(at, 1);
  }

  listen(): void {}

  unlisten(): void {}

  close(): void {
    if (this.closed) throw new Error('a socket is closed twice');
    this.closed = true;
  }
}
