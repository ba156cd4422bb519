/** The command line of l4vio_net_p2p. Mistakes throw OptionError; what the original ignored comes back as a warning. */
import { parseArgs } from 'node:util';

export interface Options {
  /** Most entries of a virtqueue. */
  readonly queueSize: number;
  /** Microseconds between two looks at the queues; undefined: drivers notify. */
  readonly pollUs: number | undefined;
  /** Names of capabilities; when there are any, clients may register only these dataspaces. */
  readonly trustedDataspaces: readonly string[];
  readonly help: boolean;
  /** What was ignored, one sentence each. */
  readonly warnings: readonly string[];
}

/** A mistake on the command line; the link does not start. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
  readonly code = 'P2P_BAD_OPTION';
}

const DEFAULT_QUEUE_SIZE = 256;
const MAX_QUEUE_SIZE = 32768;
/** What a timer can wait. */
const MAX_POLL_US = 2 ** 31 - 1;

export const USAGE = `Usage: l4vio_net_p2p [options]
  -s, --size N           at most N entries per virtqueue (power of two, default ${DEFAULT_QUEUE_SIZE})
  -p, --poll USEC        look at the queues every USEC microseconds instead of being notified
  -d, --register-ds CAP  clients may share only the dataspaces named so (repeatable)
  -h, --help             this text`;

const SPEC = {
  size: { type: 'string', short: 's' },
  poll: { type: 'string', short: 'p' },
  'register-ds': { type: 'string', short: 'd' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Parses the arguments behind argv[0]. Throws OptionError. */
export function parseOptions(args: readonly string[]): Options {
  const { tokens } = parseArgs({
    args: [...args],
    options: SPEC,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const trustedDataspaces: string[] = [];
  const warnings: string[] = [];
  let queueSize = DEFAULT_QUEUE_SIZE;
  let pollUs: number | undefined;
  let help = false;
  for (const token of tokens) {
    if (token.kind === 'positional')
      warnings.push(`Ignoring argument '${token.value}' as there are options only`);
    if (token.kind !== 'option') continue;
    if (token.name === 'help') help = true;
    else if (!(token.name in SPEC))
      warnings.push(`Ignoring unknown option '${token.rawName}'; -h shows which there are`);
    else if (token.value === undefined) throw new OptionError(`Option '${token.rawName}' needs a value`);
    else if (token.name === 'size') queueSize = parseSize(token.value);
    else if (token.name === 'poll') pollUs = parsePoll(token.value);
    else trustedDataspaces.push(token.value);
  }
  return { queueSize, pollUs, trustedDataspaces, help, warnings };
}

function parseSize(text: string): number {
  const size = decimal(text);
  if (size >= 1 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0) return size;
  throw new OptionError(
    `Max number of virtqueue buffers must be power of 2 between 1 and ${MAX_QUEUE_SIZE}. Invalid value: ${text}`,
  );
}

function parsePoll(text: string): number {
  const us = decimal(text);
  if (us > 0 && us <= MAX_POLL_US) return us;
  throw new OptionError(`Bad poll interval '${text}' usec. Must be greater than 0.`);
}

function decimal(text: string): number {
  return /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
}
