/**
 * The four interrupt lines that all slots share: level-triggered, asserted as long as any function
 * on the line asserts its pin.
 */

export class IntxLines {
  /** For each line the requester ids that assert it. */
  readonly #asserted = new Map<number, Set<number>>();
  readonly #onChange: (irq: number, asserted: boolean) => void;

  constructor(onChange: (irq: number, asserted: boolean) => void) {
    this.#onChange = onChange;
  }

  set(irq: number, requester: number, asserted: boolean): void {
    let who = this.#asserted.get(irq);
    if (!who) {
      who = new Set();
      this.#asserted.set(irq, who);
    }
    const before = who.size > 0;
    if (asserted) who.add(requester);
    else who.delete(requester);
    if (before !== who.size > 0) this.#onChange(irq, !before);
  }

  isAsserted(irq: number): boolean {
    return (this.#asserted.get(irq)?.size ?? 0) > 0;
  }
}
