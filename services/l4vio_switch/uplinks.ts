/**
 * Ports whose senders wait for room instead of losing frames: those of NICs.
 *
 * A guest sends faster than any wire. What the wire cannot take yet stays in the guest's own queue, as with a NIC of its
 * own: its TCP notices by a full queue and not by loss, which lwIP needs 1.5 s to get over. Only guests wait, and
 * only for a NIC: nobody can be held up by another guest. A NIC that takes nothing for PATIENCE_MS (its cable is out) is
 * waited for no more until it takes something: its frames are lost at once, and the guests' other traffic goes on.
 */
import type { Endpoint } from '#common/vnet/endpoint';
import { FRAME_TSO } from '#common/vnet/offload';
import type { SourceFrame } from '#common/vnet/source_frame';

/** Longer than a driver on a busy machine waits for its turn. */
export const PATIENCE_MS = 1000;
/** `#fullSince` of a port that had room when we looked last. */
const NEVER = -1;

export class Uplinks {
  readonly #endpoints: readonly (Endpoint | undefined)[];
  readonly #clock: () => number;
  readonly #list: Int16Array;
  #count = 0;
  readonly #fullSince: Float64Array;

  /** `endpoints`: those of all ports, by number. */
  constructor(endpoints: readonly (Endpoint | undefined)[], clock: () => number) {
    this.#endpoints = endpoints;
    this.#clock = clock;
    this.#list = new Int16Array(endpoints.length);
    this.#fullSince = new Float64Array(endpoints.length).fill(NEVER);
  }

  add(port: number): void {
    this.#list[this.#count++] = port;
    this.#fullSince[port] = NEVER;
  }

  remove(port: number): void {
    const index = this.#list.subarray(0, this.#count).indexOf(port);
    if (index >= 0) this.#list.copyWithin(index, index + 1, this.#count--);
  }

  /** Is there any without room for this frame? Notes who has room again. */
  anyFull(frame: SourceFrame): boolean {
    let full = false;
    for (let n = 0; n < this.#count; n++) {
      const port = this.#list[n] as number;
      if (this.#endpoints[port]?.hasRoom?.(descriptors(frame)) === false) full = true;
      else this.#fullSince[port] = NEVER;
    }
    return full;
  }

  /** Whether a frame for `port` has to wait. Behind `anyFull`. */
  waitsFor(port: number, frame: SourceFrame): boolean {
    if (port < 0 || this.#endpoints[port]?.hasRoom?.(descriptors(frame)) !== false) return false;
    if (!this.#list.subarray(0, this.#count).includes(port)) return false;
    const now = this.#clock();
    const since = this.#fullSince[port] as number;
    if (since === NEVER) this.#fullSince[port] = now;
    return since === NEVER || now - since < PATIENCE_MS;
  }
}

/** What a frame takes of a receiver that does not segment. */
function descriptors(frame: SourceFrame): number {
  if (frame.kind !== FRAME_TSO) return 1;
  return Math.ceil(frame.length / Math.max(frame.offload.gsoSize, 1));
}
