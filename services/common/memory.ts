/**
 * A block of memory seen through every view that the data plane uses, all over the same bytes.
 *
 * Data-plane code (rings, NIC models, drivers, the switch) takes a `Memory` and integer offsets, so
 * it runs over an `ArrayBuffer` in a unit test and over mapped shared memory (`Arena`) for real.
 * Offsets are bytes; a caller that indexes `u16`/`u32` shifts them itself.
 */
export class Memory {
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly view: DataView;

  constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.u32 = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
    this.i32 = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    this.u64 = new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8));
    this.view = new DataView(buffer);
  }

  /** For printers of objects: the bytes are no text, and reserved pages of an arena cannot be read at all. */
  toJSON(): string {
    return `${this.constructor.name} of ${this.buffer.byteLength} bytes`;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toJSON();
  }
}
