/**
 * lwIP's own list of TCP connections that are alive, those that no program has any more included: a program that has
 * closed leaves its last data and the FIN to lwIP.
 */
import type { Memory } from '#common/memory';
import { ERR } from './errors.ts';
import type { Ffi } from './ffi.ts';
import { TCP_PCB, TCP_STATE } from './layout.ts';

/**
 * Connections whose handshake is not done: the oldest of more are given up. Not the new one: a client that means it is done
 * with its handshake long before as many strangers have come. Each costs some 400 bytes, and each frame a walk over all.
 */
export const MAX_HALF_OPEN = 1024;
/** What has come in between two looks at how many there are; a SYN counts for more, as others seldom are one in disguise. */
const LOOK_AFTER = 4096;
const SYN_WEIGHT = 32;

/** What the walk needs of the stack's memory. */
interface Place extends Memory {
  readonly address: number;
}

export class ActivePcbs {
  readonly #ffi: Ffi;
  readonly #memory: Place;
  /** Offset of TCP_PCB.SIZE bytes to look at a pcb in. */
  readonly #at: number;
  readonly #head: BigUint64Array;
  readonly #list: number[] = [];
  /** Connection that is first in the next `output`, so that none is always last. */
  #outputFrom = 0;
  /** Connections that `ask` has asked, while there are more; -1 when it is through. */
  #asked = -1;

  /** Frames since the last look at half-open connections, by their weight. */
  #heard = 0;

  constructor(ffi: Ffi, memory: Place, at: number) {
    this.#ffi = ffi;
    this.#memory = memory;
    this.#at = at;
    this.#head = new BigUint64Array(ffi.view(ffi.symbol('tcp_active_pcbs'), 8));
  }

  /** Before lwIP sees a frame, which `opens` a connection for all that one sees: there is a bound to those that only begin. */
  heard(opens: boolean): void {
    this.#heard += opens ? SYN_WEIGHT : 1;
    if (this.#heard < LOOK_AFTER) return;
    this.#heard = 0;
    let count = 0;
    // The newest comes first. Nobody is told: who has forged its address has not asked for a RST either.
    for (const pcb of this.#look())
      if (this.#state(pcb) === TCP_STATE.SYN_RCVD && ++count > MAX_HALF_OPEN) this.#ffi.tcp_abandon(pcb, 0);
  }

  /**
   * Before lwIP's clock ticks: the timer that asks whether a peer's window is still closed ends where there is nothing to
   * send, or an answer to wait for. lwIP leaves it running when data that was sent before a time-out is acknowledged
   * behind it by a peer whose window is closed, and ends the process by an assertion when it finds it so.
   */
  endVainProbes(): void {
    const { address, u8 } = this.#memory;
    const backoff = this.#at + TCP_PCB.PERSIST_BACKOFF;
    for (let pcb = Number(this.#head[0]); pcb !== 0; ) {
      const { view } = this.#read(pcb);
      const waits = view.getBigUint64(this.#at + TCP_PCB.UNACKED, true) !== 0n;
      const vain = waits || view.getBigUint64(this.#at + TCP_PCB.UNSENT, true) === 0n;
      if (vain && u8[backoff] !== 0) {
        u8[backoff] = 0;
        this.#ffi.memcpy(pcb + TCP_PCB.PERSIST_BACKOFF, address + backoff, 1);
      }
      pcb = Number(view.getBigUint64(this.#at + TCP_PCB.NEXT, true));
    }
  }

  /** There is room for frames again: sends what is left of `ask`, and what every connection has. */
  output(): void {
    if (this.#asked >= 0 && !this.#askOn()) return;
    const pcbs = this.#look();
    for (let n = 0; n < pcbs.length; n++) {
      const index = (this.#outputFrom + n) % pcbs.length;
      if (this.#ffi.tcp_output(pcbs[index] as number) === ERR.OK) continue;
      this.#outputFrom = index;
      return;
    }
  }

  /**
   * Asks the peers of all who wait for an acknowledgement to repeat it, with the segment of a keep-alive. One that was
   * lost behind all data in flight comes no second time by itself, and lwIP sends again after 1.5 s at the earliest.
   */
  ask(): void {
    this.#asked = 0;
    this.#askOn();
  }

  /** False when there was no room for all questions. */
  #askOn(): boolean {
    const pcbs = this.#look();
    for (; this.#asked < pcbs.length; this.#asked++) {
      const pcb = pcbs[this.#asked] as number;
      if (this.#waits(pcb) && this.#ffi.tcp_keepalive(pcb) !== ERR.OK) return false;
    }
    this.#asked = -1;
    return true;
  }

  #waits(pcb: number): boolean {
    const { view } = this.#read(pcb);
    return (
      view.getUint32(this.#at + TCP_PCB.STATE, true) >= TCP_STATE.ESTABLISHED &&
      view.getUint16(this.#at + TCP_PCB.SND_QUEUELEN, true) > 0
    );
  }

  #state(pcb: number): number {
    return this.#read(pcb).view.getUint32(this.#at + TCP_PCB.STATE, true);
  }

  #look(): readonly number[] {
    this.#list.length = 0;
    for (let pcb = Number(this.#head[0]); pcb !== 0; ) {
      this.#list.push(pcb);
      pcb = Number(this.#read(pcb).view.getBigUint64(this.#at + TCP_PCB.NEXT, true));
    }
    return this.#list;
  }

  #read(pcb: number): Place {
    this.#ffi.memcpy(this.#memory.address + this.#at, pcb, TCP_PCB.SIZE);
    return this.#memory;
  }
}
