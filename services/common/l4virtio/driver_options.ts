/** What a driver of an L4virtio device is made of, and what it is told. */
import type { L4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import type { Memory } from '#common/memory';
import type { SharedMemories } from '#common/shm/dataspace';
import type { Doorbells } from '#common/shm/doorbell';
import type { ReconnectOptions } from './reconnect.ts';

/** `code` of the error when the device's server has given it up in order. */
export const DEVICE_CLOSED = 'L4VIRTIO_CLOSED';

/** The parts of a task's environment that a driver needs. */
export interface DriverEnv {
  readonly ipc: Pick<Ipc, 'client' | 'epitaph'>;
  readonly arena: Memory;
  readonly memories: Pick<SharedMemories, 'create' | 'open'>;
  readonly doorbells: Pick<Doorbells, 'create' | 'open'>;
}

export interface DriverOptions {
  /** Name of the capability, for messages. */
  readonly name: string;
  /** Default 1, network. */
  readonly deviceId?: number;
  /** Queues that the driver needs; default 2. */
  readonly queues?: number;
  /** The device has used something, or says so. From the event loop. */
  onInterrupt(): void;
  /** DEVICE_NEEDS_RESET: the queues do not work any more; `reset()` or `close()`. */
  onNeedsReset?(error: L4Error): void;
  /**
   * The device is gone for good: its server has ended (code IPC_SERVER_DIED), or has given it up (DEVICE_CLOSED).
   * Default: `onNeedsReset`.
   */
  onGone?(error: L4Error): void;
  /** A server that has died may come back with the device: `onGone` only when it does not. Default: it is gone at once. */
  readonly reconnect?: ReconnectOptions;
  /** The device config has changed. */
  onConfigChange?(): void;
  /** Abandons calls in progress. */
  readonly signal?: AbortSignal;
}

/** Memory that the device sees: byte `where` of the arena is device address `address`. */
export interface DeviceMemory {
  readonly where: number;
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}
