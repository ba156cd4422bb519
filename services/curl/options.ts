/**
 * curl's command line: one table of options and the parser over it.
 *
 * An option is a row: what it is called, whether it takes a value, what it does to the configuration.
 * More of curl is more rows. [curl(1)]
 */
import { CurlError, EXIT } from './exit_codes.ts';

/** Where one URL's body goes. */
export type Destination =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'remote-name' };

export interface Config {
  urls: string[];
  /** -o and -O in the order given; the n-th belongs to the n-th URL. */
  destinations: Destination[];
  silent: boolean;
  showError: boolean;
  verbose: boolean;
  /** -i: response headers precede the body in the output. */
  include: boolean;
  /** -I: HEAD, headers are the output. */
  head: boolean;
  failOnError: boolean;
  followRedirects: boolean;
  /** --max-redirs; -1 = no limit. */
  maxRedirects: number;
  /** -w */
  writeOut: string;
  /** -m, milliseconds; 0 = no limit. */
  maxTimeMs: number;
  /** --connect-timeout, milliseconds. curl's own default is five minutes. */
  connectTimeoutMs: number;
  /** --no-keepalive: false. */
  keepAlive: boolean;
  /** --keepalive-time: idle time before the first probe and time between probes, milliseconds. */
  keepAliveMs: number;
  /** --keepalive-cnt: probes without an answer. */
  keepAliveCount: number;
  /** --retry: further attempts. */
  retries: number;
  /** --retry-delay, milliseconds; 0 = 1 s, then twice as long each time. */
  retryDelayMs: number;
  retryConnRefused: boolean;
  retryAllErrors: boolean;
  /** -A */
  userAgent: string;
  /** -H, as given. */
  headers: string[];
  action: 'transfer' | 'version' | 'help';
}

interface Row {
  readonly short?: string;
  readonly long: string;
  readonly value?: string;
  readonly help: string;
  /** Boolean rows get `on` false for `--no-<long>`. */
  readonly apply: (config: Config, value: string, on: boolean) => void;
}

const CONNECT_TIMEOUT_MS = 300_000;
/** curl's own. */
const KEEPALIVE_MS = 60_000;
const KEEPALIVE_COUNT = 9;
/** What a timer of Node can wait at most, 24 days: it would take more for nothing. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export function defaultConfig(version: string): Config {
  return {
    urls: [],
    destinations: [],
    silent: false,
    showError: false,
    verbose: false,
    include: false,
    head: false,
    failOnError: false,
    followRedirects: false,
    maxRedirects: 50,
    writeOut: '',
    maxTimeMs: 0,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveMs: KEEPALIVE_MS,
    keepAliveCount: KEEPALIVE_COUNT,
    retries: 0,
    retryDelayMs: 0,
    retryConnRefused: false,
    retryAllErrors: false,
    userAgent: `curl/${version}`,
    headers: [],
    action: 'transfer',
  };
}

/** Milliseconds of a number of seconds, with a fraction, as curl takes it. */
function milliseconds(option: string, text: string): number {
  if (!/^\d+(\.\d*)?$|^\.\d+$/.test(text)) {
    throw new CurlError(EXIT.FAILED_INIT, `option ${option}: expected a proper numerical parameter`);
  }
  return Math.min(Math.round(Number(text) * 1000), MAX_DELAY_MS);
}

export const OPTIONS: readonly Row[] = [
  {
    long: 'connect-timeout',
    value: '<seconds>',
    help: 'Maximum time allowed to connect',
    apply: (c, v) => (c.connectTimeoutMs = milliseconds('--connect-timeout', v) || CONNECT_TIMEOUT_MS),
  },
  {
    short: 'f',
    long: 'fail',
    help: 'Fail fast with no output on HTTP errors',
    apply: (c, _v, on) => (c.failOnError = on),
  },
  { short: 'h', long: 'help', help: 'Get help for commands', apply: (c) => (c.action = 'help') },
  { short: 'I', long: 'head', help: 'Show document info only', apply: (c, _v, on) => (c.head = on) },
  {
    short: 'H',
    long: 'header',
    value: '<header>',
    help: 'Pass custom header to server',
    apply: (c, v) => c.headers.push(v),
  },
  {
    short: 'i',
    long: 'include',
    help: 'Include response headers in output',
    apply: (c, _v, on) => (c.include = on),
  },
  { long: 'show-headers', help: 'Same as --include', apply: (c, _v, on) => (c.include = on) },
  { long: 'keepalive', help: 'TCP keepalive on the connection', apply: (c, _v, on) => (c.keepAlive = on) },
  {
    long: 'keepalive-cnt',
    value: '<integer>',
    help: 'Maximum number of keepalive probes',
    apply: (c, v) => (c.keepAliveCount = count('--keepalive-cnt', v) || KEEPALIVE_COUNT),
  },
  {
    long: 'keepalive-time',
    value: '<seconds>',
    help: 'Interval time for keepalive probes',
    apply: (c, v) => (c.keepAliveMs = count('--keepalive-time', v) * 1000 || KEEPALIVE_MS),
  },
  { short: 'L', long: 'location', help: 'Follow redirects', apply: (c, _v, on) => (c.followRedirects = on) },
  {
    long: 'max-redirs',
    value: '<num>',
    help: 'Maximum number of redirects allowed',
    apply: (c, v) => (c.maxRedirects = redirects(v)),
  },
  {
    short: 'm',
    long: 'max-time',
    value: '<seconds>',
    help: 'Maximum time allowed for transfer',
    apply: (c, v) => (c.maxTimeMs = milliseconds('--max-time', v)),
  },
  {
    short: 'o',
    long: 'output',
    value: '<file>',
    help: 'Write to file instead of stdout',
    apply: (c, v) => c.destinations.push(v === '-' ? { kind: 'stdout' } : { kind: 'file', path: v }),
  },
  {
    short: 'O',
    long: 'remote-name',
    help: 'Write output to file named as remote file',
    apply: (c) => c.destinations.push({ kind: 'remote-name' }),
  },
  {
    long: 'retry',
    value: '<num>',
    help: 'Retry request if transient problems occur',
    apply: (c, v) => (c.retries = count('--retry', v)),
  },
  {
    long: 'retry-all-errors',
    help: 'Retry all errors (with --retry)',
    apply: (c, _v, on) => (c.retryAllErrors = on),
  },
  {
    long: 'retry-connrefused',
    help: 'Retry on connection refused (with --retry)',
    apply: (c, _v, on) => (c.retryConnRefused = on),
  },
  {
    long: 'retry-delay',
    value: '<seconds>',
    help: 'Wait time between retries',
    apply: (c, v) => (c.retryDelayMs = milliseconds('--retry-delay', v)),
  },
  {
    short: 'S',
    long: 'show-error',
    help: 'Show error even when -s is used',
    apply: (c, _v, on) => (c.showError = on),
  },
  { short: 's', long: 'silent', help: 'Silent mode', apply: (c, _v, on) => (c.silent = on) },
  { long: 'url', value: '<url>', help: 'URL to work with', apply: (c, v) => c.urls.push(v) },
  {
    short: 'A',
    long: 'user-agent',
    value: '<name>',
    help: 'Send User-Agent <name> to server',
    apply: (c, v) => (c.userAgent = v),
  },
  {
    short: 'v',
    long: 'verbose',
    help: 'Make the operation more talkative',
    apply: (c, _v, on) => (c.verbose = on),
  },
  { short: 'V', long: 'version', help: 'Show version number and quit', apply: (c) => (c.action = 'version') },
  {
    short: 'w',
    long: 'write-out',
    value: '<format>',
    help: 'Output FORMAT after completion',
    apply: (c, v) => (c.writeOut = v),
  },
];

function count(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new CurlError(EXIT.FAILED_INIT, `option ${option}: expected a proper numerical parameter`);
  return Number(text);
}

function redirects(text: string): number {
  if (!/^-?\d+$/.test(text))
    throw new CurlError(EXIT.FAILED_INIT, 'option --max-redirs: expected a proper numerical parameter');
  return Math.max(-1, Number(text));
}

const BY_SHORT = new Map(OPTIONS.flatMap((row) => (row.short ? [[row.short, row] as const] : [])));
const BY_LONG = new Map(OPTIONS.map((row) => [row.long, row] as const));

/** Parses everything behind argv[0]. Throws CurlError 2 as curl does. */
export function parseOptions(args: readonly string[], config: Config): Config {
  let onlyUrls = false;
  for (let n = 0; n < args.length; n++) {
    const arg = args[n] as string;
    const next = () => {
      n += 1;
      const value = args[n];
      if (value === undefined) throw new CurlError(EXIT.FAILED_INIT, `option ${arg}: requires parameter`);
      return value;
    };
    if (onlyUrls || arg === '-' || !arg.startsWith('-')) config.urls.push(arg);
    else if (arg === '--') onlyUrls = true;
    else if (arg.startsWith('--')) parseLong(arg, next, config);
    else parseShort(arg, next, config);
  }
  if (config.action === 'transfer' && config.urls.length === 0) {
    throw new CurlError(EXIT.FAILED_INIT, '(2) no URL specified');
  }
  return config;
}

function parseLong(arg: string, next: () => string, config: Config): void {
  const negated = arg.startsWith('--no-');
  const row = BY_LONG.get(arg.slice(2)) ?? (negated ? BY_LONG.get(arg.slice(5)) : undefined);
  if (!row || (negated && row.value)) throw new CurlError(EXIT.FAILED_INIT, `option ${arg}: is unknown`);
  row.apply(config, row.value ? next() : '', !(negated && row.long === arg.slice(5)));
}

/** A bundle such as `-sSo file` or `-ofile`: the rest behind a letter with a value is its value. */
function parseShort(arg: string, next: () => string, config: Config): void {
  for (let at = 1; at < arg.length; at++) {
    const row = BY_SHORT.get(arg[at] as string);
    if (!row) throw new CurlError(EXIT.FAILED_INIT, `option ${arg}: is unknown`);
    if (row.value) {
      row.apply(config, at + 1 < arg.length ? arg.slice(at + 1) : next(), true);
      return;
    }
    row.apply(config, '', true);
  }
}

/** The text of `--help`. */
export function helpText(): string {
  const rows = OPTIONS.map(
    (row) => `${row.short ? ` -${row.short},` : '    '} --${row.long}${row.value ? ` ${row.value}` : ''}`,
  );
  const width = Math.max(...rows.map((row) => row.length)) + 2;
  return [
    'Usage: curl [options...] <url>',
    ...rows.map((row, n) => row.padEnd(width) + (OPTIONS[n] as Row).help),
    '',
  ].join('\n');
}
