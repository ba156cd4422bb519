/**
 * Virtual base address registers of a proxied function. [PCI 3.0 §6.2.5.1]
 *
 * They start with the physical addresses and behave like registers: writing all ones shows the size. The
 * physical registers never change, so a client that sizes or moves a BAR disturbs nobody.
 */
import {
  BAR_64BIT,
  BAR_IO,
  BAR_IO_FLAGS,
  BAR_MEMORY_FLAGS,
  BAR_PREFETCHABLE,
  PCI_BARS,
} from '#common/nic/pci';
import type { Bar } from '../pci/function.ts';

export class VirtualBars {
  readonly #value = new Uint32Array(PCI_BARS);
  /** Bits that a write changes. */
  readonly #writable = new Uint32Array(PCI_BARS);

  constructor(bars: readonly Bar[]) {
    for (const bar of bars) {
      const port = bar.kind === 'port';
      const flags = port ? BAR_IO : (bar.is64bit ? BAR_64BIT : 0) | (bar.prefetchable ? BAR_PREFETCHABLE : 0);
      const sizeMask = -bar.size % 2 ** 32;
      this.#value[bar.index] = (bar.base % 2 ** 32) + flags;
      this.#writable[bar.index] =
        (bar.size >= 2 ** 32 ? 0 : sizeMask) & ~(port ? BAR_IO_FLAGS : BAR_MEMORY_FLAGS);
      if (bar.is64bit) {
        this.#value[bar.index + 1] = Math.floor(bar.base / 2 ** 32);
        this.#writable[bar.index + 1] = bar.size > 2 ** 32 ? -(bar.size / 2 ** 32) : 0xffffffff;
      }
    }
  }

  /** @param index 0..5 */
  read(index: number): number {
    return this.#value[index] ?? 0;
  }

  /** Writes the bits of `mask`. */
  write(index: number, value: number, mask: number): void {
    const bits = mask & (this.#writable[index] ?? 0);
    this.#value[index] = (this.read(index) & ~bits) | (value & bits);
  }
}
