/**
 * The switch's log lines and the verbosity of its components.
 *
 * A verbosity is a mask of levels, cumulative by construction: quiet 0, warn 1, info 3, debug 7, trace 15. Errors
 * are always printed. Hot code asks `enabled()` before it makes a string.
 */

export const COMPONENTS = ['core', 'virtio', 'port', 'request', 'queue', 'packet'] as const;
export type Component = (typeof COMPONENTS)[number];

/** Masks by the names that `-D` takes. */
export const LEVELS = { quiet: 0, warn: 1, info: 3, debug: 7, trace: 15 } as const;
export type LevelName = keyof typeof LEVELS;

const WARN = 1;
const INFO = 2;
const DEBUG = 4;
const TRACE = 8;

/** Where a line goes: `out` is stdout, `err` stderr. */
export interface Sink {
  out(line: string): void;
  err(line: string): void;
}

export const CONSOLE: Sink = { out: (line) => console.log(line), err: (line) => console.error(line) };

export class Log {
  readonly #sink: Sink;
  readonly #levels: Record<Component, number>;

  constructor(sink: Sink, levels?: Readonly<Record<Component, number>>) {
    this.#sink = sink;
    this.#levels = levels ? { ...levels } : uniformLevels(LEVELS.warn);
  }

  /** A line without prefix. */
  plain(line: string): void {
    this.#sink.out(line);
  }

  /** A line that is printed whatever the verbosity. */
  always(text: string): void {
    this.#sink.out(`SWI: ${text}`);
  }

  /** A request was refused or a client misbehaved; the switch goes on. */
  error(text: string): void {
    this.#sink.err(`VSwitch: ERROR: ${text}`);
  }

  /** The switch ends. */
  fatal(text: string): void {
    this.#sink.err(`VSwitch: FATAL: ${text}`);
  }

  warn(component: Component, text: string): void {
    this.#print(component, WARN, text);
  }

  info(component: Component, text: string): void {
    this.#print(component, INFO, text);
  }

  debug(component: Component, text: string): void {
    this.#print(component, DEBUG, text);
  }

  trace(component: Component, text: string): void {
    this.#print(component, TRACE, text);
  }

  /** Would `info` of that component print anything? */
  infoEnabled(component: Component): boolean {
    return (this.#levels[component] & INFO) !== 0;
  }

  /** Would `trace` of that component print anything? */
  traceEnabled(component: Component): boolean {
    return (this.#levels[component] & TRACE) !== 0;
  }

  #print(component: Component, level: number, text: string): void {
    if ((this.#levels[component] & level) === 0) return;
    this.#sink.out(component === 'core' ? `SWI: ${text}` : `SWI[${component}]: ${text}`);
  }
}

/** The same verbosity for every component. */
export function uniformLevels(mask: number): Record<Component, number> {
  return { core: mask, virtio: mask, port: mask, request: mask, queue: mask, packet: mask };
}
