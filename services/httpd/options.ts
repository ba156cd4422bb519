/** The command line of httpd. */
import { parseArgs } from 'node:util';

export interface Options {
  /** Path of what is served; its first part names a capability. */
  readonly root: string;
  readonly port: number;
  /** Connections at a time; those above it are reset. */
  readonly connections: number;
  /** No line for each request. */
  readonly quiet: boolean;
  readonly help: boolean;
}

/** A mistake on the command line. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
  readonly code = 'HTTPD_BAD_OPTION';
}

const DEFAULTS = { root: 'rom', port: 80, connections: 256 } as const;
const MAX_CONNECTIONS = 10_000;

export const USAGE = `Usage: httpd [options] [DIRECTORY]
  DIRECTORY              what is served; its first part is a capability (default ${DEFAULTS.root})
  -p, --port N           TCP port (default ${DEFAULTS.port})
  -c, --connections N    at most N connections at a time (1..${MAX_CONNECTIONS}, default ${DEFAULTS.connections})
  -q, --quiet            no line for each request
  -h, --help             this text`;

const SPEC = {
  port: { type: 'string', short: 'p', default: String(DEFAULTS.port) },
  connections: { type: 'string', short: 'c', default: String(DEFAULTS.connections) },
  quiet: { type: 'boolean', short: 'q', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Parses the arguments behind argv[0]. Throws OptionError. */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parse(args);
  if (positionals.length > 1) {
    throw new OptionError(
      `Cannot serve '${positionals.join("' and '")}' as there must be one directory: -h shows how`,
    );
  }
  return {
    root: positionals[0]?.replace(/^\/+|\/+$/g, '') || DEFAULTS.root,
    port: inRange('listen', 'the port', values.port, 65535),
    connections: inRange('bound connections', 'their number', values.connections, MAX_CONNECTIONS),
    quiet: values.quiet,
    help: values.help,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: SPEC, allowPositionals: true });
  } catch (cause) {
    throw new OptionError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function inRange(action: string, what: string, text: string, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= max) return value;
  throw new OptionError(`Cannot ${action} as ${what} must be 1..${max}: current value is '${text}'`);
}
