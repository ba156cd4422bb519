/**
 * Received bytes of one connection on their way from pbufs to the program.
 *
 * What arrives within one turn is gathered into chunks of up to 64 KiB, so that the stream's cost per chunk does not
 * matter; the rest of a chunk's memory serves the next turn. At most one TCP window lies here.
 */
import { PBUF } from './layout.ts';
import type { Stack } from './stack.ts';

const CHUNK_BYTES = 65536;
/** A fresh chunk is taken when less than this is left. */
const MIN_LEFT = 4096;
const TWO_32 = 2 ** 32;

export class ReceiveBuffer {
  readonly #stack: Stack;
  #ready: Buffer[] = [];
  #chunk: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** Bytes not yet taken. */
  length = 0;

  constructor(stack: Stack) {
    this.#stack = stack;
  }

  /** Takes the data of a pbuf chain (native address) and frees the chain. Returns the number of bytes. */
  takeChain(pbuf: number): number {
    const { address } = this.#stack.memory;
    const before = this.length;
    // The bound is lwIP's own: 64 KiB of window in frames of at least one byte.
    for (let p = pbuf, n = 0; p !== 0 && n < CHUNK_BYTES; n++) {
      const owner = this.#stack.ownerOf(p);
      if (owner === undefined) {
        p = this.#takeForeign(p);
        continue;
      }
      const at = p - address;
      const next = this.#pointer(at + PBUF.NEXT);
      const { u8, u16 } = this.#stack.memory;
      this.#copy(this.#pointer(at + PBUF.PAYLOAD) - address, u16[(at + PBUF.LEN) >>> 1] as number);
      if (u8[at + PBUF.REF] === 1) owner.recycle(p);
      else this.#stack.ffi.pbuf_free(p);
      p = next;
    }
    return this.length - before;
  }

  /** A pbuf from lwIP's heap (the netif had to copy, or a reassembled packet). */
  #takeForeign(p: number): number {
    const { ffi, memory, scratch } = this.#stack;
    const base = memory.address;
    ffi.memcpy(base + scratch.pbuf, p, PBUF.SIZE);
    const next = this.#pointer(scratch.pbuf + PBUF.NEXT);
    const length = memory.u16[(scratch.pbuf + PBUF.LEN) >>> 1] as number;
    ffi.memcpy(base + scratch.stage, this.#pointer(scratch.pbuf + PBUF.PAYLOAD), length);
    this.#copy(scratch.stage, length);
    // Cut it off the chain: pbuf_free would go on to the rest.
    ffi.memcpy(p + PBUF.NEXT, base + scratch.zero, 8);
    ffi.pbuf_free(p);
    return next;
  }

  #copy(from: number, length: number): void {
    const { bytes } = this.#stack;
    this.length += length;
    for (let at = from, left = length; left > 0; ) {
      if (this.#end === this.#chunk.length) this.#renew();
      const n = Math.min(left, this.#chunk.length - this.#end);
      bytes.copy(this.#chunk, this.#end, at, at + n);
      this.#end += n;
      at += n;
      left -= n;
    }
  }

  #renew(): void {
    this.#seal();
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.#start = 0;
    this.#end = 0;
  }

  #seal(): void {
    if (this.#end === this.#start) return;
    this.#ready.push(this.#chunk.subarray(this.#start, this.#end));
    this.#start = this.#end;
    // Short messages share a chunk; a nearly full one is given up.
    if (this.#chunk.length - this.#end < MIN_LEFT) this.#start = this.#end = this.#chunk.length;
  }

  /** The oldest bytes, up to 64 KiB; undefined when there are none. */
  shift(): Buffer | undefined {
    if (this.#ready.length === 0) this.#seal();
    const chunk = this.#ready.shift();
    if (chunk !== undefined) this.length -= chunk.length;
    return chunk;
  }

  #pointer(at: number): number {
    const { u32 } = this.#stack.memory;
    return (u32[at >>> 2] as number) + (u32[(at >>> 2) + 1] as number) * TWO_32;
  }
}
