/** What every wire gets from the machine. */

import type { Arena } from '#common/shm/arena';

export type LogLevel = 'info' | 'warn' | 'error';

export interface WireHost {
  /** Where frames lie; wires map private memory in it for frames of their own. */
  readonly arena: Arena;
  /** One line for the log, without a newline. */
  readonly log: (level: LogLevel, text: string) => void;
}
