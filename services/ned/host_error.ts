/** Errors on their way to Lua. */
import { toL4Error } from '#common/ipc/errors';
import type { HostError } from './engine/engine.ts';

export function toHostError(err: unknown): HostError {
  const { errno, code, message } = toL4Error(err);
  return { errno, code, message };
}
