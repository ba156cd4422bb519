/**
 * Ports whose senders wait for room instead of losing frames: those of NICs.
 *
 * A guest sends faster than any wire. What the wire cannot take yet stays in the guest's own queue, as with a NIC of its
 * own: its TCP notices by a full queue and not by loss, which lwIP needs 1.5 s to get over. Only guests wait, and
 * only for a NIC: nobody can be held up by another guest that does not take its frames. Those that wait stand in line, and the
 * first goes first, one frame at a time: who is looked at earlier, or sends less at a time, gets no more. A NIC that takes
 * nothing for PATIENCE_MS (its cable is out) is waited for no more until it takes something: its frames are lost at
 * once, and the guests' other traffic goes on.
 */
import type { Endpoint } from '#common/vnet/endpoint';
import { FRAME_TSO } from '#common/vnet/offload';
import type { SourceFrame } from '#common/vnet/source_frame';

/** Longer than a driver on a busy machine waits for its turn. */
export const PATIENCE_MS = 1000;
/** Who was not looked at for so long, though it is every millisecond, has nothing to send any more: its driver was reset. */
const GONE_MS = 10;
const NEVER = -1;

export class Uplinks {
  readonly #endpoints: readonly (Endpoint | undefined)[];
  readonly #clock: () => number;
  readonly #list: Int16Array;
  #count = 0;
  readonly #isUplink: Uint8Array;
  /** Descriptors that an uplink must have free before it is waited for again; 0: it is waited for. */
  readonly #givenUp: Int32Array;
  /** Guests that wait, whatever for, in the order in which they came. */
  readonly #line: Int16Array;
  #waiting = 0;
  /** What each of them waits for, when its frame was looked at last, and since when it is the first and finds no room. */
  readonly #goal: Int16Array;
  readonly #seen: Float64Array;
  readonly #since: Float64Array;

  /** `endpoints`: those of all ports, by number. */
  constructor(endpoints: readonly (Endpoint | undefined)[], clock: () => number) {
    const ports = endpoints.length;
    this.#endpoints = endpoints;
    this.#clock = clock;
    this.#list = new Int16Array(ports);
    this.#isUplink = new Uint8Array(ports);
    this.#givenUp = new Int32Array(ports);
    this.#line = new Int16Array(ports);
    this.#goal = new Int16Array(ports);
    this.#seen = new Float64Array(ports);
    this.#since = new Float64Array(ports).fill(NEVER);
  }

  add(port: number): void {
    this.#list[this.#count++] = port;
    this.#isUplink[port] = 1;
    this.#givenUp[port] = 0;
  }

  /** The port is gone, whether it is an uplink or a guest. */
  remove(port: number): void {
    this.#leave(port);
    if (this.#isUplink[port] === 0) return;
    this.#isUplink[port] = 0;
    const index = this.#list.indexOf(port);
    this.#list.copyWithin(index, index + 1, this.#count--);
  }

  /** Is anybody in line, or without room for this frame? Else nobody has to wait. Notes who has room again. */
  mayWait(frame: SourceFrame): boolean {
    if (this.#waiting > 0) return true;
    const wanted = descriptors(frame);
    let full = false;
    for (let n = 0; n < this.#count; n++) {
      const port = this.#list[n] as number;
      if (!this.#hasRoom(port, wanted)) full = true;
      else this.#isGivenUp(port);
    }
    return full;
  }

  /** Whether a frame from a guest for port `to`, -1 for several or none, has to wait. Behind `mayWait`. */
  waits(from: number, to: number, frame: SourceFrame): boolean {
    if (to >= 0 && this.#isUplink[to] === 1 && this.#mustWait(from, to, frame)) return true;
    this.#leave(from);
    return false;
  }

  #mustWait(from: number, to: number, frame: SourceFrame): boolean {
    if (this.#isGivenUp(to)) return false;
    const now = this.#clock();
    const isFirst = this.#isFirst(from, to, now);
    const wanted = descriptors(frame);
    if (isFirst && this.#hasRoom(to, wanted)) return false;
    this.#join(from, to, now);
    if (!isFirst) return true;
    if (this.#since[from] === NEVER) this.#since[from] = now;
    if (now - (this.#since[from] as number) < PATIENCE_MS) return true;
    this.#givenUp[to] = wanted;
    return false;
  }

  #isGivenUp(port: number): boolean {
    const wanted = this.#givenUp[port] as number;
    if (wanted > 0 && this.#hasRoom(port, wanted)) this.#givenUp[port] = 0;
    return this.#givenUp[port] !== 0;
  }

  #hasRoom(port: number, wanted: number): boolean {
    return this.#endpoints[port]?.hasRoom?.(wanted) !== false;
  }

  /** Is nobody else before it in line for that port? */
  #isFirst(from: number, to: number, now: number): boolean {
    for (let n = 0; n < this.#waiting; ) {
      const guest = this.#line[n] as number;
      if (guest === from) return true;
      if (now - (this.#seen[guest] as number) >= GONE_MS) this.#leave(guest);
      else if (this.#goal[guest] === to) return false;
      else n += 1;
    }
    return true;
  }

  #join(guest: number, to: number, now: number): void {
    if (this.#goal[guest] !== to) this.#leave(guest);
    this.#goal[guest] = to;
    this.#seen[guest] = now;
    if (this.#placeOf(guest) === this.#waiting) this.#line[this.#waiting++] = guest;
  }

  #leave(guest: number): void {
    const place = this.#placeOf(guest);
    if (place === this.#waiting) return;
    this.#line.copyWithin(place, place + 1, this.#waiting--);
    this.#since[guest] = NEVER;
  }

  /** Its place in line, or the first one behind. */
  #placeOf(guest: number): number {
    let place = 0;
    while (place < this.#waiting && this.#line[place] !== guest) place += 1;
    return place;
  }
}

/** What a frame takes of a receiver that does not segment. */
function descriptors(frame: SourceFrame): number {
  if (frame.kind !== FRAME_TSO) return 1;
  return Math.ceil(frame.length / Math.max(frame.offload.gsoSize, 1));
}
