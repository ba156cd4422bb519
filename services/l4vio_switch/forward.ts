/**
 * Where a frame goes (F3.5). The ports by number, the MAC table, VLAN rules, counters, and who must be told.
 *
 * Everything per frame is integers in typed arrays. Port numbers: 0 to maxPorts - 1, and maxPorts for the monitor,
 * which is no target of flooding and gets a copy of each frame that was forwarded.
 */

import { DROP, type DropReason, dropKey } from '#common/capture/drop_reasons';
import { INBOUND, OUTBOUND } from '#common/capture/pcapng';
import type { Endpoint } from '#common/vnet/endpoint';
import { Fabric } from '#common/vnet/fabric';
import type { SourceFrame } from '#common/vnet/source_frame';
import { TAG_KEEP } from '#common/vnet/tag';
import { Counters } from './counters.ts';
import type { Log } from './log.ts';
import { formatKey } from './mac_address.ts';
import { KNOWN, keyHi, MacTable, MOVED } from './mac_table.ts';
import { VLAN_NATIVE, type VlanSpec, Vlans } from './vlan.ts';

const NOBODY = -1;

/** Sees the frames of a port. */
export interface FrameTap {
  /**
   * A frame came in at `port` (INBOUND), or went out to it with that change of its tag (OUTBOUND). `reason` is -1, or
   * the one of DROP for which it was not forwarded or delivered. To be copied at once.
   */
  frame(port: number, direction: number, frame: SourceFrame, tag: number, tci: number, reason: number): void;
}

export class Forwarder extends Fabric {
  /** Number of the monitor port. */
  readonly monitor: number;
  readonly macs: MacTable;
  readonly vlans: Vlans;
  readonly counters: Counters;
  readonly #log: Log;
  readonly #taps: (FrameTap | undefined)[];
  /** Numbers of the ports that exist, monitor excluded: the targets of flooding. */
  readonly #live: Int16Array;
  #liveCount = 0;

  constructor(maxPorts: number, log: Log, macs = new MacTable()) {
    super(maxPorts + 1);
    const { slots } = this;
    this.monitor = maxPorts;
    this.macs = macs;
    this.vlans = new Vlans(slots);
    this.counters = new Counters(slots);
    this.#taps = new Array(slots).fill(undefined);
    this.#log = log;
    this.#live = new Int16Array(slots);
  }

  /** Connects a port. Its number must be free. */
  connect(port: number, endpoint: Endpoint, vlan: VlanSpec): void {
    this.vlans.configure(port, vlan);
    this.counters.reset(port);
    this.endpoints[port] = endpoint;
    if (port !== this.monitor) this.#live[this.#liveCount++] = port;
  }

  /** Disconnects a port and forgets the addresses behind it. */
  disconnect(port: number): void {
    this.endpoints[port] = undefined;
    this.#taps[port] = undefined;
    this.macs.flush(port);
    const index = this.#live.subarray(0, this.#liveCount).indexOf(port);
    if (index >= 0) this.#live.copyWithin(index, index + 1, this.#liveCount--);
  }

  /** Lets `tap` see all frames of a port from now on; undefined: nobody does. */
  tap(port: number, tap: FrameTap | undefined): void {
    this.#taps[port] = tap;
  }

  /** Forwards one frame that came in at port `from`. */
  forward(from: number, frame: SourceFrame): void {
    const admitted = this.#admits(from, frame);
    this.#taps[from]?.frame(from, INBOUND, frame, TAG_KEEP, frame.tci, admitted ? -1 : DROP.VLAN);
    if (!admitted) {
      this.counters.dropped(from, DROP.VLAN);
      return;
    }
    const vlan = frame.tagged ? frame.vlan : (this.vlans.value[from] as number);
    this.#learn(from, frame, vlan);
    if (!frame.multicast) {
      const to = this.macs.lookup(frame.dstLo, keyHi(frame.dstHi, vlan));
      if (to === from) return;
      if (to === NOBODY) this.#flood(from, frame, vlan);
      else this.#send(from, to, frame, vlan);
    } else {
      this.#flood(from, frame, vlan);
    }
    this.#send(from, this.monitor, frame, vlan);
  }

  #admits(from: number, frame: SourceFrame): boolean {
    const { vlans } = this;
    if (vlans.value[from] === VLAN_NATIVE) return true;
    if (vlans.isTrunk(from)) return vlans.carries(from, frame.tagged ? frame.vlan : VLAN_NATIVE);
    return !frame.tagged;
  }

  #learn(from: number, frame: SourceFrame, vlan: number): void {
    const hi = keyHi(frame.srcHi, vlan);
    const what = this.macs.learn(frame.srcLo, hi, from);
    if (what !== KNOWN && this.#log.infoEnabled('packet')) this.#sayLearned(what, from, frame, vlan);
  }

  #flood(from: number, frame: SourceFrame, vlan: number): void {
    for (let n = 0; n < this.#liveCount; n++) {
      const to = this.#live[n] as number;
      if (to !== from && this.vlans.carries(to, vlan)) this.#send(from, to, frame, vlan);
    }
  }

  #send(from: number, to: number, frame: SourceFrame, vlan: number): void {
    const endpoint = this.endpoints[to];
    if (endpoint === undefined) return;
    const tag = this.vlans.rewrite(from, to, frame.tagged, to === this.monitor);
    const tci = frame.tagged ? frame.tci : vlan;
    const bytes = endpoint.deliver(frame, tag, tci);
    this.#taps[to]?.frame(to, OUTBOUND, frame, tag, tci, bytes < 0 ? ~bytes : -1);
    if (bytes >= 0) {
      this.counters.delivered(from, to, bytes);
      this.touch(to);
    } else {
      this.counters.dropped(to, ~bytes);
    }
    if (this.#log.traceEnabled('packet')) this.#sayDelivered(from, to, bytes, vlan);
  }

  #sayLearned(what: number, from: number, frame: SourceFrame, vlan: number): void {
    const mac = formatKey(frame.srcLo, frame.srcHi);
    this.#log.info(
      'packet',
      `${what === MOVED ? 'replaced' : 'learned'} ${mac} vlan 0x${vlan.toString(16)} -> port ${from}`,
    );
  }

  #sayDelivered(from: number, to: number, bytes: number, vlan: number): void {
    const result = bytes >= 0 ? `${bytes} bytes` : `dropped (${dropKey(~bytes as DropReason)})`;
    this.#log.trace('packet', `port ${from} -> port ${to} vlan 0x${vlan.toString(16)}: ${result}`);
  }
}
