/**
 * What can go wrong on a socket, with Node's codes: programs written for `node:net` understand them.
 *
 * lwIP reports an `err_t` (err.h) without saying which call or peer it belongs to; the sentence is made
 * here, where both are known.
 */
import { constants } from 'node:os';

/** err_t, lwip/err.h. */
export const ERR = {
  OK: 0,
  MEM: -1,
  BUF: -2,
  TIMEOUT: -3,
  RTE: -4,
  INPROGRESS: -5,
  VAL: -6,
  WOULDBLOCK: -7,
  USE: -8,
  ALREADY: -9,
  ISCONN: -10,
  CONN: -11,
  IF: -12,
  ABRT: -13,
  RST: -14,
  CLSD: -15,
  ARG: -16,
} as const;

export type NetErrorCode =
  | 'EADDRINUSE'
  | 'EADDRNOTAVAIL'
  | 'EAI_AGAIN'
  | 'ECANCELED'
  | 'ECONNABORTED'
  | 'ECONNREFUSED'
  | 'ECONNRESET'
  | 'EHOSTUNREACH'
  | 'EINVAL'
  | 'EMSGSIZE'
  | 'ENETDOWN'
  | 'ENETUNREACH'
  | 'ENOBUFS'
  | 'ENOTCONN'
  | 'ENOTFOUND'
  | 'EPIPE'
  | 'ETIMEDOUT';

export interface NetErrorDetails {
  /** `connect`, `read`, `write`, `listen`, `bind`, `send`, `getaddrinfo`. */
  readonly syscall?: string;
  readonly address?: string;
  readonly port?: number;
  readonly hostname?: string;
  readonly cause?: unknown;
}

/** An error of a socket or name look-up: fields as Node's own system errors have them. */
export class NetError extends Error {
  override readonly name = 'NetError';
  readonly code: NetErrorCode;
  /** Negative, as in Node; undefined for name look-up errors. */
  readonly errno: number | undefined;
  readonly syscall: string | undefined;
  readonly address: string | undefined;
  readonly port: number | undefined;
  readonly hostname: string | undefined;

  constructor(code: NetErrorCode, message: string, details: NetErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    const errno = (constants.errno as Record<string, number | undefined>)[code];
    this.errno = errno === undefined ? undefined : -errno;
    this.syscall = details.syscall;
    this.address = details.address;
    this.port = details.port;
    this.hostname = details.hostname;
  }
}

/** `10.0.2.2:80`, `[fe80::1]:80`. */
export function endpointText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

const CODE_OF: Record<number, NetErrorCode> = {
  [ERR.MEM]: 'ENOBUFS',
  [ERR.BUF]: 'ENOBUFS',
  [ERR.TIMEOUT]: 'ETIMEDOUT',
  [ERR.RTE]: 'ENETUNREACH',
  [ERR.VAL]: 'EINVAL',
  [ERR.USE]: 'EADDRINUSE',
  [ERR.CONN]: 'ENOTCONN',
  [ERR.IF]: 'ENETDOWN',
  [ERR.ABRT]: 'ETIMEDOUT',
  [ERR.RST]: 'ECONNRESET',
  [ERR.CLSD]: 'ENOTCONN',
  [ERR.ARG]: 'EINVAL',
};

/** Node's code for an `err_t` of an established connection or a plain call. */
export function codeOf(err: number): NetErrorCode {
  return CODE_OF[err] ?? 'ECONNABORTED';
}
