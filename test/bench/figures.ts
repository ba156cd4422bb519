/** What a benchmark reports, and how it is printed. */

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the figure is to be read against: a peer or a limit measured in the same run, or a target. */
  readonly compared?: { readonly name: string; readonly value: number; readonly unit: string };
}

export interface Benchmark {
  readonly name: string;
  readonly about: string;
  /** Name that stands for several of them. */
  readonly group?: string;
  run(): Promise<Figure[]>;
}

/** The one in the middle, the upper of two; 0: there are none. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function digits(value: number): string {
  const magnitude = Math.abs(value);
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2);
}

/** One line for people. */
export function formatFigure({ name, value, unit, compared }: Figure): string {
  const left = `${name.padEnd(44)} ${digits(value).padStart(9)} ${unit.padEnd(10)}`;
  return compared ? `${left} ${compared.name}: ${digits(compared.value)} ${compared.unit}` : left;
}
