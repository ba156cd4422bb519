/** Waiting for the end of a device: a call that is pending as long as the device is there. */
import type { Capability } from '#common/ipc/capability';
import { L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import { L4virtio } from '../../../proto/gen/services.js';
import { DEVICE_CLOSED } from './driver_options.ts';

/** The longest deadline that a timer can have. */
const NO_LIMIT_MS = 2 ** 31 - 1;

/**
 * Resolves with the reason when the device has ended: its server has died, or has given it up (DEVICE_CLOSED). With undefined
 * when `signal` came first, and for a device that does not know this call: nobody watches that. Never rejects.
 */
export async function endOfDevice(
  ipc: Pick<Ipc, 'client'>,
  cap: Capability,
  name: string,
  signal: AbortSignal,
): Promise<L4Error | undefined> {
  try {
    await ipc.client(L4virtio, cap).watch({}, { signal, deadlineMs: NO_LIMIT_MS });
  } catch (cause) {
    const { errno, code, message } = toL4Error(cause);
    if (errno !== L4_ERRNO.EIPC_NOT_EXISTENT || signal.aborted) return undefined;
    return new L4Error(errno, `Cannot use "${name}" any more: ${message}`, { code, cause });
  }
  if (signal.aborted) return undefined;
  const why = `Cannot use "${name}" any more as its server has given it up`;
  return new L4Error('EIPC_NOT_EXISTENT', why, { code: DEVICE_CLOSED });
}
