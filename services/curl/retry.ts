/** --retry: which failures may pass, and how long to wait for it. [curl(1)] */
import { type CurlError, EXIT } from './exit_codes.ts';
import type { Config } from './options.ts';

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 600_000;
const TRANSIENT_STATUS = new Set([408, 429, 500, 502, 503, 504]);

/** Why the transfer is worth another try, in curl's words; undefined when it is not. */
export function retryReason(config: Config, status: number, failure?: CurlError): string | undefined {
  const exit = failure?.exit ?? EXIT.OK;
  if (exit === EXIT.OPERATION_TIMEDOUT || exit === EXIT.COULDNT_RESOLVE_HOST) return 'timeout';
  if (config.retryConnRefused && isRefused(failure)) return 'connection refused';
  const answered = exit === EXIT.OK || exit === EXIT.HTTP_RETURNED_ERROR;
  if (answered && TRANSIENT_STATUS.has(status)) return 'HTTP error';
  return exit !== EXIT.OK && config.retryAllErrors ? '(retrying all errors)' : undefined;
}

function isRefused(failure: CurlError | undefined): boolean {
  return (failure?.cause as { code?: unknown } | undefined)?.code === 'ECONNREFUSED';
}

/** Milliseconds before retry `n` (from 0): --retry-delay, or 1 s and twice as long each time, up to ten minutes. */
export function retryDelay(config: Config, n: number): number {
  return config.retryDelayMs > 0 ? config.retryDelayMs : Math.min(FIRST_DELAY_MS * 2 ** n, LONGEST_DELAY_MS);
}

/** The line that announces it. */
export function retryWarning(reason: string, delayMs: number, left: number): string {
  const seconds = delayMs / 1000;
  const plural = seconds === 1 ? '' : 's';
  return `Warning: Problem: ${reason}. Will retry in ${seconds} second${plural}. ${left} ${left === 1 ? 'retry' : 'retries'} left.\n`;
}
