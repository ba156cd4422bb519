/**
 * One descriptor chain as the device half sees it: a list of pieces of our own memory.
 *
 * Filled by `DeviceQueue.pop`, which has checked every piece: it lies inside registered memory, and
 * if `writable`, that memory may be written. Walk it without an object per piece:
 *
 *   for (let i = 0; i < chain.count; i++) {
 *     const at = chain.where[i] as number;    // offset in the Memory, in bytes
 *     const bytes = chain.len[i] as number;   // may be 0
 *     if (chain.writable[i] === 1) ...        // write only here: other pieces may be mapped read-only
 *   }
 *
 * The contents are valid until the next `pop` into the same chain; the bytes belong to the driver, who
 * may change them at any time: read a field once, check it, use it.
 */
export class Chain {
  /** Number of the chain's first descriptor: what `push` wants back. */
  head = 0;
  /** Number of pieces, at least 1 after a successful `pop`. */
  count = 0;
  /** Bytes of all pieces together, at most 2^32. */
  bytes = 0;
  readonly where: Int32Array;
  readonly len: Int32Array;
  readonly writable: Uint8Array;

  /** Room for `capacity` pieces; a longer chain is refused by `pop`. Use the queue's size. */
  constructor(capacity: number) {
    this.where = new Int32Array(capacity);
    this.len = new Int32Array(capacity);
    this.writable = new Uint8Array(capacity);
  }

  get capacity(): number {
    return this.where.length;
  }

  /** Empties it for the chain that starts with descriptor `head`. */
  begin(head: number): void {
    this.head = head;
    this.count = 0;
    this.bytes = 0;
  }
}
