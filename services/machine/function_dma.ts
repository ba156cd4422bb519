/**
 * DMA of one PCI function: only while bus mastering is on, only into the DMA space it is assigned to.
 *
 * Everything else is a DMA fault: counted, logged (a few lines a second, then a sum), never performed.
 * A faulting read gets all ones, as from a PCI host that aborts the cycle.
 */
import type { DmaSpace } from './dma_space.ts';
import { DMA_MAX, type Dma } from './nic_model.ts';

const LINES_PER_SECOND = 5;
const SECOND_US = 1_000_000;

export interface FunctionDmaOptions {
  /** Who faults, e.g. `00:03.0 e1000`. */
  readonly name: string;
  /** Arena offset of DMA_MAX bytes of 0xff that nobody writes. */
  readonly ones: number;
  readonly now: () => number;
  readonly log: (text: string) => void;
}

export class FunctionDma implements Dma {
  enabled = false;
  /** DMA faults so far. */
  faults = 0;
  readonly #options: FunctionDmaOptions;
  #space: DmaSpace | undefined;
  #windowEnd = 0;
  #linesLeft = LINES_PER_SECOND;
  #suppressed = 0;

  constructor(options: FunctionDmaOptions) {
    this.#options = options;
  }

  get space(): DmaSpace | undefined {
    return this.#space;
  }

  /** Puts the function into a space; undefined: into none, every access faults. */
  assign(space: DmaSpace | undefined): void {
    this.#space = space;
  }

  read(address: number, length: number): number {
    const at = this.#translate(address, length, false);
    return at < 0 ? this.#options.ones : at;
  }

  write(address: number, length: number): number {
    return this.#translate(address, length, true);
  }

  #translate(address: number, length: number, write: boolean): number {
    if (this.#space !== undefined && this.enabled && length <= DMA_MAX) {
      const at = this.#space.translate(address, length, write);
      if (at >= 0) return at;
    }
    this.#fault(address, length, write);
    return -1;
  }

  #fault(address: number, length: number, write: boolean): void {
    this.faults++;
    const now = this.#options.now();
    if (now >= this.#windowEnd) {
      if (this.#suppressed > 0)
        this.#options.log(`${this.#options.name}: ${this.#suppressed} more DMA faults`);
      this.#windowEnd = now + SECOND_US;
      this.#linesLeft = LINES_PER_SECOND;
      this.#suppressed = 0;
    }
    if (this.#linesLeft-- <= 0) {
      this.#suppressed++;
      return;
    }
    this.#options.log(
      `${this.#options.name}: DMA fault: cannot ${write ? 'write' : 'read'} ${length} bytes at 0x${address.toString(16)} as ${this.#reason()}`,
    );
  }

  #reason(): string {
    if (!this.enabled) return 'bus mastering is off: set bit 2 of the PCI command register';
    if (!this.#space) return 'the function is in no DMA space: assign its DMA domain first';
    return 'its driver has not mapped that range so for DMA';
  }
}
