/** Errors after which the program `ixl` cannot go on: one of its two peers is gone. */
import { L4Error, toL4Error } from '#common/ipc/errors';

const DEVICE_GONE = 'IXL_DEVICE_GONE';
const PORT_GONE = 'IXL_PORT_GONE';

export function deviceGone(): L4Error {
  return new L4Error(
    'EIO',
    'Cannot drive the NIC as it does not answer any more: is the machine gone, or does another driver use this NIC?',
    {
      code: DEVICE_GONE,
    },
  );
}

/** `cause`: how the last call to the port failed. */
export function portGone(cause: unknown): L4Error {
  const why = toL4Error(cause).message;
  return new L4Error('EIPC_NOT_EXISTENT', `Cannot serve the port as the switch does not answer: ${why}`, {
    code: PORT_GONE,
    cause,
  });
}

/** True when starting the port anew is no use. */
export function isFinal(error: L4Error): boolean {
  return error.code === DEVICE_GONE || error.code === PORT_GONE;
}
