/** A reusable list of buffers for `DriverQueue.addChain`: device addresses, so that nothing is allocated per frame. */
export class Pieces {
  count = 0;
  /** Device addresses; exact up to 2^53. */
  readonly address: Float64Array;
  readonly len: Uint32Array;
  readonly writable: Uint8Array;

  constructor(capacity: number) {
    this.address = new Float64Array(capacity);
    this.len = new Uint32Array(capacity);
    this.writable = new Uint8Array(capacity);
  }

  clear(): this {
    this.count = 0;
    return this;
  }

  /** Appends a buffer. Pieces that the device reads come before those that it writes [VIRTIO 1.2 §2.7.4.2]. */
  push(address: number, len: number, writable: boolean): this {
    if (this.count === this.len.length)
      throw new RangeError(`Cannot add piece as at most ${this.len.length} fit`);
    this.address[this.count] = address;
    this.len[this.count] = len;
    this.writable[this.count] = writable ? 1 : 0;
    this.count += 1;
    return this;
  }
}
