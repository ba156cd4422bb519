/** What `IxlDevice` knows of a NIC's queues; the descriptor format behind it is the driver's affair. */

/** Packet-buffer offsets, one for each packet. */
export type Buffers = Int32Array | Uint32Array;

export interface RxQueue {
  /** Descriptors. */
  readonly depth: number;
  /** Moves received packets into `buffers`, at most `count`; returns how many. Never blocks. */
  batch(buffers: Buffers, count: number): number;
  /** True when the next descriptor holds a packet. One read of memory, no register. */
  pending(): boolean;
  /** True when the NIC's own head register says that it has more; reads a register. */
  pendingAtHead(): boolean;
}

export interface TxQueue {
  readonly depth: number;
  /** Queues frames, at most `count`; returns how many were taken. They go back to their pool when sent. */
  batch(buffers: Buffers, count: number): number;
  /** Descriptors that a batch could use now; sent ones are reclaimed first. */
  room(): number;
}
