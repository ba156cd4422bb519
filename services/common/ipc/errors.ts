/**
 * L4 error numbers and the one error class that crosses capabilities.
 *
 * Numbers and texts are those of L4Re (l4sys/err.h); on the wire they travel as positive numbers,
 * to Lua they are shown negative as on L4Re.
 */

export const L4_ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCESS: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EINVAL: 22,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EBADPROTO: 39,
  EADDRNOTAVAIL: 99,
  ENOREPLY: 1000,
  EMSGTOOSHORT: 1001,
  EMSGTOOLONG: 1002,
  EMSGMISSARG: 1003,
  /** IPC error base 2000 + L4_IPC_ENOT_EXISTENT: nobody is behind the capability any more. */
  EIPC_NOT_EXISTENT: 2004,
  /** IPC error base 2000 + L4_IPC_RETIMEOUT: no reply before the deadline. */
  EIPC_RECV_TIMEOUT: 2003,
  /** IPC error base 2000 + L4_IPC_SECANCELED: the caller abandoned the call. */
  EIPC_CANCELED: 2006,
} as const;

export type L4ErrorName = keyof typeof L4_ERRNO;

const TEXT: Partial<Record<L4ErrorName, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such object found',
  EIO: 'I/O error',
  EAGAIN: 'Try again',
  ENOMEM: 'Insufficient memory',
  EACCESS: 'Access not permitted',
  EFAULT: 'Invalid memory address',
  EBUSY: 'Function busy',
  EEXIST: 'Object exists',
  ENODEV: 'No such device',
  ENOTDIR: 'Not a directory',
  EINVAL: 'Invalid argument',
  ERANGE: 'Argument out of range',
  ENAMETOOLONG: 'Name too long',
  ENOSYS: 'Function not implemented',
  EBADPROTO: 'Invalid protocol',
  EADDRNOTAVAIL: 'Address not available',
  ENOREPLY: 'Do not reply',
  EMSGTOOSHORT: 'Message too short',
  EMSGTOOLONG: 'Message too long',
  EMSGMISSARG: 'Message is missing (an) argument(s)',
  EIPC_NOT_EXISTENT: 'Void capability invoked',
  EIPC_RECV_TIMEOUT: 'Receive timeout',
  EIPC_CANCELED: 'Send canceled',
};

const BY_NUMBER = new Map<number, string>(
  (Object.keys(TEXT) as L4ErrorName[]).map((name) => [L4_ERRNO[name], TEXT[name] as string]),
);

/** The text L4Re prints for a (positive) error number. */
export function errnoText(errno: number): string {
  return errno === 0 ? 'OK' : (BY_NUMBER.get(errno) ?? 'bad, unknown runtime error');
}

/** An L4 runtime error: number for scripts, stable code for programs, sentence for people. */
export class L4Error extends Error {
  override readonly name = 'L4Error';
  /** Positive L4 error number, e.g. 22. */
  readonly errno: number;
  /** Stable code, e.g. `L4_EINVAL` or a service's own (`VSWITCH_MAC_IN_USE`). */
  readonly code: string;

  constructor(name: L4ErrorName | number, message: string, options: { code?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.errno = typeof name === 'number' ? name : L4_ERRNO[name];
    this.code = options.code ?? (typeof name === 'number' ? `L4_${name}` : `L4_${name}`);
  }
}

/** Makes an L4Error of anything that was thrown; foreign errors become EIO with their message. */
export function toL4Error(thrown: unknown): L4Error {
  if (thrown instanceof L4Error) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new L4Error('EIO', message, { cause: thrown });
}
