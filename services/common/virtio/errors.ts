/**
 * The two errors of the virtio layer. Pure: nothing here knows of capabilities; `l4virtio/` turns a
 * `VirtioError` into the L4Error of the same name.
 */

export type RingErrorCode =
  /** The peer's ring index ran further than the ring allows. */
  | 'VIRTIO_INDEX'
  /** A descriptor index or a used id that does not exist, or that is not with the peer. */
  | 'VIRTIO_DESCRIPTOR'
  /** A chain that loops or is longer than the queue. */
  | 'VIRTIO_CHAIN'
  /** Bytes that lie outside of the registered memory. */
  | 'VIRTIO_ADDRESS'
  /** A buffer to be written that lies in read-only memory. */
  | 'VIRTIO_RIGHTS'
  /** An indirect table where, or of a form that, it may not be. */
  | 'VIRTIO_INDIRECT'
  /** A used length that is larger than the buffer. */
  | 'VIRTIO_LENGTH';

/** The peer broke the ring protocol: the queue is not to be used any more. Never our own fault. */
export class RingError extends Error {
  override readonly name = 'RingError';
  readonly code: RingErrorCode;

  constructor(code: RingErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** L4 error names that the device half of the transport answers with (F4.3). */
export type VirtioErrorName = 'EINVAL' | 'EIO' | 'ENOMEM' | 'ENOSYS' | 'ERANGE';

/** A request of the transport that is refused. */
export class VirtioError extends Error {
  override readonly name = 'VirtioError';
  readonly errno: VirtioErrorName;

  constructor(errno: VirtioErrorName, message: string) {
    super(message);
    this.errno = errno;
  }
}
