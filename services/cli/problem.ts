/** Problems that the user can mend: the command line prints the sentence, without a stack. */

import { larger } from '#common/shm/space';

/** A problem with its sentence: the action, the object, the rule, the value, the hint. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** True for what a system call reported, e.g. that there is no space left. */
export function isSystemError(err: unknown): err is NodeJS.ErrnoException {
  return err instanceof Error && typeof (err as NodeJS.ErrnoException).syscall === 'string';
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: `end labs (l4lab stop), remove files there or make it larger (${larger()})`,
  EROFS:
    'labs need a tmpfs (in a container: --tmpfs /run/l4lab), or set L4LAB_RUN_BASE to a directory on one',
  EMFILE: 'raise the limit (ulimit -n)',
  EAGAIN: 'end other processes or raise the limit (ulimit -u)',
  ENOMEM: 'end other processes',
};

/** Of a failed system call: what was done to which path, why it failed, and how to mend it. */
export function systemProblem(err: NodeJS.ErrnoException): string {
  const { code = '', syscall = 'use', path } = err;
  const object = path === undefined ? '' : ` ${path}`;
  const hint = HINTS[code] === undefined ? '' : `; ${HINTS[code]}`;
  return `${syscall}${object} failed: ${systemReason(err)}${hint}`;
}

/** Why a system call failed. Node's own messages are `CODE: reason, syscall 'path'`. */
export function systemReason({ code = '', message }: NodeJS.ErrnoException): string {
  const reason = /^[A-Z0-9]+: (.*?), /.exec(message)?.[1];
  return reason === undefined ? message || code : `${reason} (${code})`;
}
