/**
 * Traffic counters of every port, as the statistics reader publishes them (F3.11).
 *
 * "tx" is what the switch transmitted to the port, "rx" what it received from it. Doubles count exactly up to 2^53,
 * without BigInt on the packet path.
 */
import { DROP_REASONS } from '#common/capture/drop_reasons';

export class Counters {
  readonly #reasons: Float64Array;
  readonly txPackets: Float64Array;
  /** Not delivered to the port; for frames from it: refused by its VLAN rules. */
  readonly txDropped: Float64Array;
  readonly txBytes: Float64Array;
  readonly rxPackets: Float64Array;
  readonly rxBytes: Float64Array;
  /** What came in, once for each frame however many ports it goes to, without any header of virtio. */
  readonly inPackets: Float64Array;
  readonly inBytes: Float64Array;

  constructor(ports: number) {
    this.#reasons = new Float64Array(ports * DROP_REASONS);
    this.txPackets = new Float64Array(ports);
    this.txDropped = new Float64Array(ports);
    this.txBytes = new Float64Array(ports);
    this.rxPackets = new Float64Array(ports);
    this.rxBytes = new Float64Array(ports);
    this.inPackets = new Float64Array(ports);
    this.inBytes = new Float64Array(ports);
  }

  /** One frame of `bytes` came in at the port. */
  received(port: number, bytes: number): void {
    this.inPackets[port] = (this.inPackets[port] as number) + 1;
    this.inBytes[port] = (this.inBytes[port] as number) + bytes;
  }

  /** One frame went from `from` to `to`. */
  delivered(from: number, to: number, bytes: number): void {
    this.txPackets[to] = (this.txPackets[to] as number) + 1;
    this.txBytes[to] = (this.txBytes[to] as number) + bytes;
    this.rxPackets[from] = (this.rxPackets[from] as number) + 1;
    this.rxBytes[from] = (this.rxBytes[from] as number) + bytes;
  }

  /** A frame was not delivered to the port, or not taken from it. */
  dropped(port: number, reason: number): void {
    this.noted(port, reason);
    this.txDropped[port] = (this.txDropped[port] as number) + 1;
  }

  /**
   * A frame from the port went nowhere without anybody's fault: its destination is behind the port it came from, or
   * nobody is there. The original does not count it, so it is among the reasons only.
   */
  noted(port: number, reason: number): void {
    const at = port * DROP_REASONS + reason;
    this.#reasons[at] = (this.#reasons[at] as number) + 1;
  }

  /** Frames of the port that were dropped for that reason (one of DROP). */
  droppedFor(port: number, reason: number): number {
    return this.#reasons[port * DROP_REASONS + reason] as number;
  }

  /** For a new port in an old slot. */
  reset(port: number): void {
    const { txPackets, txDropped, txBytes, rxPackets, rxBytes, inPackets, inBytes } = this;
    for (const counter of [txPackets, txDropped, txBytes, rxPackets, rxBytes, inPackets, inBytes])
      counter[port] = 0;
    this.#reasons.fill(0, port * DROP_REASONS, (port + 1) * DROP_REASONS);
  }
}
