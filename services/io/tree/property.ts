/**
 * Properties that a configuration file may set on a device: `Property.num_msis = 25`.
 *
 * A device registers what it knows with a kind and a range. Setting an unknown one or a value that does
 * not fit is refused with a reason; the caller prints it and goes on, as Io does.
 */

interface Slot {
  readonly kind: 'integer' | 'string';
  readonly min: number;
  readonly max: number;
  value: number | string | undefined;
}

/** What became of a `set`. */
export type SetResult = 'ok' | { readonly reason: 'unknown' | 'refused'; readonly detail: string };

export class Properties {
  readonly #slots = new Map<string, Slot>();

  /** Registers a whole number within [min, max]. */
  integer(name: string, initial: number | undefined, min = 0, max = Number.MAX_SAFE_INTEGER): void {
    this.#slots.set(name, { kind: 'integer', min, max, value: initial });
  }

  string(name: string): void {
    this.#slots.set(name, { kind: 'string', min: 0, max: 0, value: undefined });
  }

  get names(): string[] {
    return [...this.#slots.keys()];
  }

  number(name: string): number | undefined {
    const value = this.#slots.get(name)?.value;
    return typeof value === 'number' ? value : undefined;
  }

  text(name: string): string | undefined {
    const value = this.#slots.get(name)?.value;
    return typeof value === 'string' ? value : undefined;
  }

  /**
   * Sets a property.
   * @param index -1 for a scalar, 1.. for an element of a list; no property here takes a list.
   */
  set(name: string, index: number, value: unknown): SetResult {
    const slot = this.#slots.get(name);
    if (slot === undefined) {
      const known = this.names.length === 0 ? 'this device has none' : `known here: ${this.names.join(', ')}`;
      return { reason: 'unknown', detail: known };
    }
    const refuse = (detail: string): SetResult => ({ reason: 'refused', detail });
    if (index !== -1) return refuse(`takes one ${slot.kind}, not a table`);
    if (typeof value !== (slot.kind === 'integer' ? 'number' : 'string')) {
      return refuse(
        `must be ${slot.kind === 'integer' ? 'an integer' : 'a string'}: current value is ${value}`,
      );
    }
    if (typeof value === 'number' && (!Number.isInteger(value) || value < slot.min || value > slot.max)) {
      return refuse(`must be an integer within ${slot.min}..${slot.max}: current value is ${value}`);
    }
    slot.value = value as number | string;
    return 'ok';
  }
}
