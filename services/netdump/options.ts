/** The command line of netdump: as far as it goes, tcpdump's. */
import { parseArgs } from 'node:util';

export interface Options {
  /** A file of this machine, `-` for standard output, undefined for lines of text. */
  readonly file: string | undefined;
  /** Frames after which it ends; 0 = never. */
  readonly count: number;
  readonly help: boolean;
}

/** A mistake on the command line. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
  readonly code = 'NETDUMP_BAD_OPTION';
}

export const USAGE = `Usage: netdump [options]
  -w FILE    write pcapng to FILE of this machine, to standard output for '-'; without it a line for each frame
  -c COUNT   end after COUNT frames
  -h         this text`;

const SPEC = {
  write: { type: 'string', short: 'w' },
  count: { type: 'string', short: 'c' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Parses the arguments behind argv[0]. Throws OptionError. */
export function parseOptions(args: readonly string[]): Options {
  const { write, count, help } = parse(args);
  if (write === '') throw new OptionError("Cannot write frames as the file's name is empty");
  return { file: write, count: count === undefined ? 0 : parseCount(count), help };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: SPEC }).values;
  } catch (cause) {
    throw new OptionError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count > 0) return count;
  throw new OptionError(`Cannot count frames as their number must be at least 1: current value is '${text}'`);
}
