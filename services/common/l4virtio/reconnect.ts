/**
 * Waiting for the server of a device that has died to be started again, and setting the device up once more.
 *
 * Until the server is back nothing is lost but frames: capabilities, device addresses and all memory stay as they are. It is
 * over when ned says that the server has ended for good (unless the driver is patient), when the server came back without
 * the device, or when it has taken too long.
 */
import { L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';

/** `code` of errors of calls whose server has died. */
export const SERVER_DIED = 'IPC_SERVER_DIED';
const OBJECT_GONE = 'IPC_OBJECT_GONE';
/** How long a server may be away unless something else is said. */
export const WAIT_MS = 30_000;

export interface ReconnectOptions {
  /** How long the server may be away, in milliseconds; default 30 s. */
  readonly waitMs?: number;
  /** Waits even when ned says that the server has ended: others may start it again (TaskEnv.external). */
  readonly patient?: boolean;
  /** The server has died. The queues are of no use until `onBack`, or `onGone`. */
  onDown(): void;
  /**
   * The device runs again, with the same memory at the same device addresses and with new queues (`queue()`), which are
   * empty: what was with the dead device is the driver's again. `awayMs`: for how long it was away.
   */
  onBack(awayMs: number): void;
}

/** What the waiting needs of the driver. */
export interface Returning {
  readonly name: string;
  /** All steps; the first one waits for the server, at most that long. */
  setUp(deadlineMs: number): Promise<void>;
  /** Why ned says that there will be no server any more. */
  epitaph(): string | undefined;
}

/** Resolves when the device is set up again; rejects with the L4Error that says why it never will be. `death` began it. */
export async function untilBack(
  device: Returning,
  { waitMs = WAIT_MS, patient = false }: ReconnectOptions,
  death: L4Error,
): Promise<void> {
  const giveUp = performance.now() + waitMs;
  for (;;) {
    try {
      return await device.setUp(Math.max(giveUp - performance.now(), 1));
    } catch (thrown) {
      const err = toL4Error(thrown);
      const epitaph = patient ? undefined : device.epitaph();
      // It may have died once more while it was being set up.
      if (err.code === SERVER_DIED && epitaph === undefined && performance.now() < giveUp) continue;
      throw final(device.name, err, death, epitaph, waitMs);
    }
  }
}

/**
 * Opens a device, and again when its server dies meanwhile but may come back. `open` leaves nothing behind when it
 * rejects. `epitaph` as in Returning.
 */
export async function untilOpen<T>(
  open: () => Promise<T>,
  epitaph: Returning['epitaph'],
  { waitMs = WAIT_MS, patient = false }: Pick<ReconnectOptions, 'waitMs' | 'patient'>,
): Promise<T> {
  const giveUp = performance.now() + waitMs;
  for (;;) {
    try {
      return await open();
    } catch (thrown) {
      const over = performance.now() > giveUp || (!patient && epitaph() !== undefined);
      if (over || toL4Error(thrown).code !== SERVER_DIED) throw thrown;
    }
  }
}

function final(
  name: string,
  err: L4Error,
  death: L4Error,
  epitaph: string | undefined,
  waitMs: number,
): L4Error {
  const { errno, code } = err;
  const late = errno === L4_ERRNO.EIPC_RECV_TIMEOUT || (code === SERVER_DIED && epitaph === undefined);
  if (code === SERVER_DIED && epitaph !== undefined)
    return new L4Error(death.errno, `${death.message}: ${epitaph}`, { code, cause: err });
  if (late) {
    const why = `its server has ended and was not back within ${waitMs / 1000} s; start it again sooner, or with a restart policy`;
    return new L4Error('EIPC_NOT_EXISTENT', `Cannot use "${name}" any more as ${why}`, {
      code: SERVER_DIED,
      cause: err,
    });
  }
  if (code === OBJECT_GONE) {
    const why = 'its server was started again and has no such device any more; create it anew';
    return new L4Error(errno, `Cannot use "${name}" any more as ${why}`, { code, cause: err });
  }
  const why = `its server was started again, and then: ${err.message}`;
  return new L4Error(errno, `Cannot use "${name}" any more as ${why}`, { code, cause: err });
}
