/**
 * resolv.conf as L4Re's libc reads it: lines of at most 127 characters, `nameserver`, `search`/`domain` (the last one wins),
 * `options timeout:N attempts:N ndots:N`; everything else is skipped.
 */
import { isIP } from 'node:net';

export interface ResolvConf {
  /** Addresses in order; an IPv6 one may carry a zone (`fe80::2%vn0`). */
  readonly servers: readonly string[];
  readonly search: readonly string[];
  readonly timeoutMs: number;
  readonly attempts: number;
  /** Names with fewer dots try the search list first. */
  readonly ndots: number;
  /** What was not understood, one sentence each. */
  readonly warnings: readonly string[];
}

const MAX_LINE = 127;
const DEFAULTS = { timeoutMs: 5000, attempts: 3, ndots: 1 } as const;
/** What libcs accept at most. */
const LIMITS = { timeout: 60, attempts: 10, ndots: 15 } as const;

/** Parses the file's text. */
export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  const warnings: string[] = [];
  const options: { timeoutMs: number; attempts: number; ndots: number } = { ...DEFAULTS };
  let search: string[] = [];
  text.split('\n').forEach((whole, i) => {
    if (whole.length > MAX_LINE) {
      warnings.push(
        `resolv.conf:${i + 1}: the line is cut after ${MAX_LINE} characters: it has ${whole.length}`,
      );
    }
    const line = whole.slice(0, MAX_LINE).replace(/[#;].*/, '');
    const [keyword = '', ...rest] = line.trim().split(/\s+/);
    if (keyword === 'nameserver') {
      const [server = ''] = rest;
      if (isIP(server) !== 0) servers.push(server);
      else
        warnings.push(`resolv.conf:${i + 1}: nameserver must be an IP address: current value is "${server}"`);
    } else if (keyword === 'search' || keyword === 'domain') {
      search = rest;
    } else if (keyword === 'options') {
      for (const option of rest) readOption(option, options);
    }
  });
  return { servers, search, ...options, warnings };
}

function readOption(text: string, options: { timeoutMs: number; attempts: number; ndots: number }): void {
  const match = /^(timeout|attempts|ndots):(\d+)$/.exec(text);
  if (match === null) return;
  const name = match[1] as 'timeout' | 'attempts' | 'ndots';
  const value = Math.min(Number(match[2]), LIMITS[name]);
  if (name === 'timeout') options.timeoutMs = Math.max(1, value) * 1000;
  else if (name === 'attempts') options.attempts = Math.max(1, value);
  else options.ndots = value;
}
