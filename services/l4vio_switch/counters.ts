/**
 * Traffic counters of every port, as the statistics reader publishes them (F3.11).
 *
 * "tx" is what the switch transmitted to the port, "rx" what it received from it. Doubles count exactly up to 2^53,
 * without BigInt on the packet path.
 */
import { DROP_REASONS } from '#common/capture/drop_reasons';

export class Counters {
  readonly #reasons: Float64Array;
  /** Those of them that were refused as they came in. */
  readonly #refused: Float64Array;
  readonly txPackets: Float64Array;
  /** Not delivered to the port; for frames from it: refused by its VLAN rules. */
  readonly txDropped: Float64Array;
  readonly txBytes: Float64Array;
  readonly rxPackets: Float64Array;
  readonly rxBytes: Float64Array;
  /** What came in, once for each frame however many ports it goes to, without any header of virtio. */
  readonly inPackets: Float64Array;
  readonly inBytes: Float64Array;
  /** What went out, likewise: a frame that is segmented on its way to the client counts as it was. */
  readonly outBytes: Float64Array;

  constructor(ports: number) {
    this.#reasons = new Float64Array(ports * DROP_REASONS);
    this.#refused = new Float64Array(ports * DROP_REASONS);
    this.txPackets = new Float64Array(ports);
    this.txDropped = new Float64Array(ports);
    this.txBytes = new Float64Array(ports);
    this.rxPackets = new Float64Array(ports);
    this.rxBytes = new Float64Array(ports);
    this.inPackets = new Float64Array(ports);
    this.inBytes = new Float64Array(ports);
    this.outBytes = new Float64Array(ports);
  }

  /** One frame of `bytes` came in at the port. */
  received(port: number, bytes: number): void {
    this.inPackets[port] = (this.inPackets[port] as number) + 1;
    this.inBytes[port] = (this.inBytes[port] as number) + bytes;
  }

  /** One frame of `bytes` went out to the port. */
  sent(port: number, bytes: number): void {
    this.outBytes[port] = (this.outBytes[port] as number) + bytes;
  }

  /** One frame went from `from` to `to`. */
  delivered(from: number, to: number, bytes: number): void {
    this.txPackets[to] = (this.txPackets[to] as number) + 1;
    this.txBytes[to] = (this.txBytes[to] as number) + bytes;
    this.rxPackets[from] = (this.rxPackets[from] as number) + 1;
    this.rxBytes[from] = (this.rxBytes[from] as number) + bytes;
  }

  /** A frame was not delivered to the port. */
  dropped(port: number, reason: number): void {
    const at = port * DROP_REASONS + reason;
    this.#reasons[at] = (this.#reasons[at] as number) + 1;
    this.txDropped[port] = (this.txDropped[port] as number) + 1;
  }

  /** A frame was not taken from the port. The original counts that as one that was not delivered to it. */
  refused(port: number, reason: number): void {
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
    this.#refused[at] = (this.#refused[at] as number) + 1;
  }

  /** Frames of the port that were dropped for that reason (one of DROP), coming or going. */
  droppedFor(port: number, reason: number): number {
    return this.#reasons[port * DROP_REASONS + reason] as number;
  }

  /** Those of them that had come in at the port. */
  refusedFor(port: number, reason: number): number {
    return this.#refused[port * DROP_REASONS + reason] as number;
  }

  /** For a new port in an old slot. */
  reset(port: number): void {
    const { txPackets, txDropped, txBytes, rxPackets, rxBytes, inPackets, inBytes, outBytes } = this;
    for (const counter of [txPackets, txDropped, txBytes, rxPackets, rxBytes, inPackets, inBytes, outBytes])
      counter[port] = 0;
    for (const reasons of [this.#reasons, this.#refused])
      reasons.fill(0, port * DROP_REASONS, (port + 1) * DROP_REASONS);
  }
}
