/**
 * Options of `ixlInit` (F5.1 `Dev_cfg`), their checks and the interrupt modes that follow from them.
 */
import { L4Error } from '#common/ipc/errors';

/** Most queues of any supported NIC; e1000, igb and igc have exactly one each way. */
export const MAX_QUEUES = 64;

export interface DevCfg {
  /** Default 1. */
  readonly numRxQueues: number;
  /** Default 1. */
  readonly numTxQueues: number;
  /**
   * 0: no interrupts, the program polls. -1: the program gets the interrupt objects. Other values:
   * `rxBatchWait` waits, at most that many milliseconds if positive. Default 1000.
   */
  readonly irqTimeoutMs: number;
  /** Receive buffers of 2048 bytes; default 2048 (4 MiB of /dev/shm). */
  readonly rxBuffers: number;
  /** Transmit buffers in the same shared memory as the receive buffers (`IxlDevice.txPool`); default 0. */
  readonly txBuffers: number;
  /**
   * How long `ixlInit` waits for the link, at most 10,000; it is watched on in the background. Default 2000:
   * the original blocks for 10 s, and a switch and all its clients with it.
   */
  readonly linkTimeoutMs: number;
  /**
   * How long the machine may leave a register access unanswered before the NIC counts as gone; the program stands still
   * meanwhile. Default Infinity: as long as the machine lives.
   */
  readonly patienceMs: number;
}

export const DEFAULT_CFG: DevCfg = {
  numRxQueues: 1,
  numTxQueues: 1,
  irqTimeoutMs: 1000,
  rxBuffers: 2048,
  txBuffers: 0,
  linkTimeoutMs: 2000,
  patienceMs: Infinity,
};

export const NOTIFY = -1;
export const POLL = 0;

export type IrqMode = 'disable' | 'notify' | 'wait';

/** The mode that a value of `irqTimeoutMs` stands for. */
export function irqMode(irqTimeoutMs: number): IrqMode {
  if (irqTimeoutMs === POLL) return 'disable';
  return irqTimeoutMs === NOTIFY ? 'notify' : 'wait';
}

/** Fills in the defaults. Throws L4Error EINVAL for a value out of range. */
export function completeCfg(cfg: Partial<DevCfg>): DevCfg {
  const full = { ...DEFAULT_CFG, ...cfg };
  check('numRxQueues', full.numRxQueues, 1, MAX_QUEUES);
  check('numTxQueues', full.numTxQueues, 1, MAX_QUEUES);
  check('irqTimeoutMs', full.irqTimeoutMs, -(2 ** 31), 2 ** 31 - 1);
  check('rxBuffers', full.rxBuffers, 512, 65_536);
  check('txBuffers', full.txBuffers, 0, 65_536);
  check('linkTimeoutMs', full.linkTimeoutMs, 0, 10_000);
  if (full.patienceMs !== Infinity) check('patienceMs', full.patienceMs, 1, 2 ** 31 - 1);
  return full;
}

function check(name: keyof DevCfg, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new L4Error(
    'EINVAL',
    `Cannot start NIC as ${name} must be ${min}..${max}: current value is ${value}`,
  );
}
