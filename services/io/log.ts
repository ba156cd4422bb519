/**
 * Io's messages. The verbosity starts at 1 (errors) and each `-v` adds one.
 */

const LEVEL_ERROR = 1;
const LEVEL_WARN = 2;
const LEVEL_INFO = 3;
export const LEVEL_DEBUG = 4;

const MAX_TOLD = 100;

export class Log {
  readonly level: number;
  readonly #write: (line: string) => void;
  readonly #told = new Set<string>();

  /** @param write takes one line, which may contain line breaks but ends without one */
  constructor(level: number, write: (line: string) => void) {
    this.level = level;
    this.#write = write;
  }

  /** Printed whatever the verbosity: what the user must see. */
  always(line: string): void {
    this.#write(line);
  }

  error(line: string): void {
    this.#at(LEVEL_ERROR, line);
  }

  /** An error that is found anew for every device: told once. Clients can cause it: no more than so many are told. */
  errorOnce(line: string): void {
    if (this.#told.has(line) || this.#told.size >= MAX_TOLD) return;
    this.#told.add(line);
    this.error(line);
  }

  warn(line: string): void {
    this.#at(LEVEL_WARN, line);
  }

  info(line: string): void {
    this.#at(LEVEL_INFO, line);
  }

  debug(line: string): void {
    this.#at(LEVEL_DEBUG, line);
  }

  #at(level: number, line: string): void {
    if (this.level >= level) this.#write(line);
  }
}
