/**
 * Traffic counters of every port, as the statistics reader publishes them (F3.11).
 *
 * "tx" is what the switch transmitted to the port, "rx" what it received from it. Doubles count exactly up to 2^53,
 * without BigInt on the packet path.
 */
export class Counters {
  readonly txPackets: Float64Array;
  /** Not delivered to the port; for frames from it: refused by its VLAN rules. */
  readonly txDropped: Float64Array;
  readonly txBytes: Float64Array;
  readonly rxPackets: Float64Array;
  readonly rxBytes: Float64Array;

  constructor(ports: number) {
    this.txPackets = new Float64Array(ports);
    this.txDropped = new Float64Array(ports);
    this.txBytes = new Float64Array(ports);
    this.rxPackets = new Float64Array(ports);
    this.rxBytes = new Float64Array(ports);
  }

  /** One frame went from `from` to `to`. */
  delivered(from: number, to: number, bytes: number): void {
    this.txPackets[to] = (this.txPackets[to] as number) + 1;
    this.txBytes[to] = (this.txBytes[to] as number) + bytes;
    this.rxPackets[from] = (this.rxPackets[from] as number) + 1;
    this.rxBytes[from] = (this.rxBytes[from] as number) + bytes;
  }

  dropped(port: number): void {
    this.txDropped[port] = (this.txDropped[port] as number) + 1;
  }

  /** For a new port in an old slot. */
  reset(port: number): void {
    for (const counter of [this.txPackets, this.txDropped, this.txBytes, this.rxPackets, this.rxBytes])
      counter[port] = 0;
  }
}
