/**
 * Where a frame goes (F3.5). The ports by number, the MAC table, VLAN rules, limits, counters, and who looks on.
 *
 * Everything per frame is integers in typed arrays. Port numbers: 0 to maxPorts - 1, and maxPorts for the monitor,
 * which is no target of flooding and gets a copy of each frame that was forwarded. What a port has beyond the
 * original is a bit of `#ingress` or `#egress`: a port without any of it costs one read.
 */

import { DROP, type DropReason, dropKey } from '#common/capture/drop_reasons';
import { INBOUND, OUTBOUND } from '#common/capture/pcapng';
import type { Endpoint } from '#common/vnet/endpoint';
import { Fabric } from '#common/vnet/fabric';
import type { SourceFrame } from '#common/vnet/source_frame';
import { growth, TAG_KEEP } from '#common/vnet/tag';
import { Counters } from './counters.ts';
import { Limits, type PortLimits } from './limits.ts';
import type { Log } from './log.ts';
import { formatKey } from './mac_address.ts';
import { KNOWN, keyHi, MacTable, MOVED } from './mac_table.ts';
import { Uplinks } from './uplinks.ts';
import { VLAN_NATIVE, type VlanSpec, Vlans } from './vlan.ts';

const NOBODY = -1;
/** In place of a reason of DROP: the frame goes on. */
const ACCEPTED = -1;

/** Bits of a port: both directions. */
const DOWN = 1;
const TAPPED = 2;
const RATED = 4;
const MIRRORED = 8;
/** Ingress only. */
const STORM_CONTROLLED = 16;
/** Ingress only: frames wait for an uplink that is full. */
const WAITS = 32;
/** Egress only. */
const FILTERED = 16;
const LOOKED_AT = TAPPED | MIRRORED;

/** Sees the frames of a port. */
export interface FrameTap {
  /**
   * A frame came in at `port` (INBOUND), or went out to it with that change of its tag (OUTBOUND). `reason` is -1, or
   * the one of DROP for which it was not forwarded or delivered. To be copied at once.
   */
  frame(port: number, direction: number, frame: SourceFrame, tag: number, tci: number, reason: number): void;
}

/** What a port is to the forwarder. */
export interface ForwardSpec extends VlanSpec, PortLimits {
  /** Gets copies of the frames of other ports, and is no target of flooding. */
  readonly mirror?: unknown;
  /** Ethernet types that copies for this port must have, e.g. 0x0806; default all. */
  readonly filter?: readonly number[] | undefined;
  /** A NIC's: others may have to wait for it. */
  readonly uplink?: boolean;
  /** A guest's: its frames wait while the uplink that they are for is full, instead of being lost. */
  readonly waits?: boolean;
}

export interface ForwarderOptions {
  readonly macs?: MacTable;
  /** Milliseconds; asked at most once for the frames that one port brings at once, and only if something needs it. */
  readonly clock?: () => number;
  /** The next frame of that port cannot go on now: the port is to be activated again in a moment. */
  readonly onHeld?: (port: number) => void;
}

export class Forwarder extends Fabric {
  /** Number of the monitor port. */
  readonly monitor: number;
  readonly macs: MacTable;
  readonly vlans: Vlans;
  readonly counters: Counters;
  readonly #log: Log;
  /** What is said of each frame; levels do not change. */
  readonly #informs: boolean;
  readonly #traces: boolean;
  readonly #ingress: Uint8Array;
  readonly #egress: Uint8Array;
  readonly #limits: Limits;
  readonly #taps: (FrameTap | undefined)[];
  /** For each port those that get a copy of its frames. */
  readonly #mirrors: (readonly number[])[];
  readonly #filters: (readonly number[])[];
  /** Numbers of the ports that exist, monitor and mirrors excluded: the targets of flooding. */
  readonly #live: Int16Array;
  #liveCount = 0;
  readonly #uplinks: Uplinks;
  readonly #onHeld: (port: number) => void;

  constructor(maxPorts: number, log: Log, options: ForwarderOptions = {}) {
    super(maxPorts + 1);
    const { slots } = this;
    const { macs, clock = () => performance.now(), onHeld = () => {} } = options;
    this.monitor = maxPorts;
    this.macs = macs ?? new MacTable();
    this.vlans = new Vlans(slots);
    this.counters = new Counters(slots);
    this.#log = log;
    this.#informs = log.infoEnabled('packet');
    this.#traces = log.traceEnabled('packet');
    this.#ingress = new Uint8Array(slots);
    this.#egress = new Uint8Array(slots);
    this.#limits = new Limits(slots, clock);
    if (this.macs.ages) this.#limits.useClock(1);
    this.#taps = new Array(slots).fill(undefined);
    this.#mirrors = new Array(slots).fill([]);
    this.#filters = new Array(slots).fill([]);
    this.#live = new Int16Array(slots);
    this.#uplinks = new Uplinks(this.endpoints, clock);
    this.#onHeld = onHeld;
  }

  /** Connects a port. Its number must be free. */
  connect(port: number, endpoint: Endpoint, spec: ForwardSpec): void {
    const { rateIn, rateOut, storm, filter, uplink = false, waits = false } = spec;
    this.vlans.configure(port, spec);
    this.#limits.set(port, spec);
    this.#filters[port] = filter ?? [];
    this.#switchOn(this.#ingress, port, RATED, rateIn !== undefined);
    this.#switchOn(this.#ingress, port, STORM_CONTROLLED, storm !== undefined);
    this.#switchOn(this.#egress, port, RATED, rateOut !== undefined);
    this.#switchOn(this.#egress, port, FILTERED, filter !== undefined);
    this.#switchOn(this.#ingress, port, WAITS, waits);
    if (uplink) this.#uplinks.add(port);
    this.endpoints[port] = endpoint;
    if (port !== this.monitor && spec.mirror === undefined) this.#live[this.#liveCount++] = port;
  }

  /** Disconnects a port and forgets the addresses behind it. Its link, its tap and its counters stay as they are. */
  disconnect(port: number): void {
    if (this.endpoints[port] === undefined) return;
    this.endpoints[port] = undefined;
    this.#limits.set(port, {});
    this.mirror(port, []);
    for (const features of [this.#ingress, this.#egress])
      this.#switchOn(features, port, ~(DOWN | TAPPED), false);
    this.macs.flush(port);
    this.#uplinks.remove(port);
    const index = this.#live.subarray(0, this.#liveCount).indexOf(port);
    if (index >= 0) this.#live.copyWithin(index, index + 1, this.#liveCount--);
  }

  /** A port that was disconnected does not come back: the next one of that number begins with nothing. */
  forget(port: number): void {
    this.setLink(port, true);
    this.tap(port, undefined);
    this.counters.reset(port);
  }

  /** Lets `tap` see all frames of a port from now on, whoever is connected to it; undefined: nobody does. */
  tap(port: number, tap: FrameTap | undefined): void {
    this.#taps[port] = tap;
    for (const features of [this.#ingress, this.#egress])
      this.#switchOn(features, port, TAPPED, tap !== undefined);
  }

  /** Gives `to` a copy of all frames of a port from now on, both directions, each as it is at that port. */
  mirror(port: number, to: readonly number[]): void {
    this.#mirrors[port] = to;
    for (const features of [this.#ingress, this.#egress])
      this.#switchOn(features, port, MIRRORED, to.length > 0);
  }

  /** Takes a port's link up or down: down, nothing comes in and nothing goes out, and the addresses are forgotten. */
  setLink(port: number, up: boolean): void {
    for (const features of [this.#ingress, this.#egress]) this.#switchOn(features, port, DOWN, !up);
    if (!up) this.macs.flush(port);
  }

  linkUp(port: number): boolean {
    return ((this.#ingress[port] as number) & DOWN) === 0;
  }

  /** Forwards one frame that came in at port `from`. */
  forward(from: number, frame: SourceFrame): void {
    const features = this.#ingress[from] as number;
    if ((features & WAITS) !== 0 && this.#uplinks.mayWait(frame) && this.#mustWait(from, frame, features)) {
      this.hold();
      this.#onHeld(from);
      return;
    }
    this.counters.received(from, frame.length);
    if (this.#limits.stale) this.#readClock();
    const vlan = frame.tagged ? frame.vlan : (this.vlans.value[from] as number);
    let to = NOBODY;
    let reason: number = this.#admits(from, frame) ? ACCEPTED : DROP.VLAN;
    if (features !== 0) reason = this.#refusal(from, frame, features, reason);
    if (reason === ACCEPTED) {
      this.#learn(from, frame, vlan);
      if (!frame.multicast) to = this.macs.lookup(frame.dstLo, keyHi(frame.dstHi, vlan));
      if (to === NOBODY && (features & STORM_CONTROLLED) !== 0) {
        if (!this.#limits.admitsFlood(from, frame)) reason = DROP.STORM;
      }
    }
    if ((features & LOOKED_AT) !== 0)
      this.#show(from, INBOUND, from, frame, TAG_KEEP, frame.tci, to === from ? DROP.NO_PORT : reason);
    if (reason !== ACCEPTED) {
      this.counters.refused(from, reason);
      return;
    }
    if (to === from) {
      this.counters.noted(from, DROP.NO_PORT);
      return;
    }
    if (to === NOBODY) this.#flood(from, frame, vlan);
    else this.#send(from, to, frame, vlan);
    this.#send(from, this.monitor, frame, vlan);
  }

  override publishTouched(wanting: Parameters<Fabric['publishTouched']>[0]): void {
    super.publishTouched(wanting);
    this.#limits.endBatch();
  }

  /** Nothing is done for a frame that waits: it comes again. */
  #mustWait(from: number, frame: SourceFrame, features: number): boolean {
    let to = NOBODY;
    if (!frame.multicast && (features & DOWN) === 0 && this.#admits(from, frame)) {
      const vlan = frame.tagged ? frame.vlan : (this.vlans.value[from] as number);
      to = this.macs.lookup(frame.dstLo, keyHi(frame.dstHi, vlan));
    }
    return this.#uplinks.waits(from, to !== NOBODY && this.linkUp(to) ? to : NOBODY, frame);
  }

  /** Why a frame is not taken from a port with features, or ACCEPTED; `reason`: what its VLAN says. */
  #refusal(from: number, frame: SourceFrame, features: number, reason: number): number {
    if ((features & DOWN) !== 0) return DROP.LINK_DOWN;
    if (reason !== ACCEPTED || (features & RATED) === 0) return reason;
    return this.#limits.admitsIn(from, frame.length) ? ACCEPTED : DROP.RATE;
  }

  /** Mirrors do not see it: what its port refuses goes to nobody. */
  override refuse(from: number, frame: SourceFrame, reason: number): void {
    this.counters.received(from, frame.length);
    this.#taps[from]?.frame(from, INBOUND, frame, TAG_KEEP, frame.tci, reason);
    this.counters.refused(from, reason);
  }

  override malformed(from: number): void {
    this.counters.refused(from, DROP.MALFORMED);
  }

  override lost(port: number, reason: number): void {
    this.counters.dropped(port, reason);
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
    if (what !== KNOWN && this.#informs) this.#sayLearned(what, from, frame, vlan);
  }

  #flood(from: number, frame: SourceFrame, vlan: number): void {
    let targets = 0;
    for (let n = 0; n < this.#liveCount; n++) {
      const to = this.#live[n] as number;
      if (to === from || !this.vlans.carries(to, vlan)) continue;
      this.#send(from, to, frame, vlan);
      targets += 1;
    }
    if (targets === 0) this.counters.noted(from, DROP.NO_PORT);
  }

  #send(from: number, to: number, frame: SourceFrame, vlan: number): void {
    const endpoint = this.endpoints[to];
    if (endpoint === undefined) return;
    const tag = this.vlans.rewrite(from, to, frame.tagged, to === this.monitor);
    const tci = frame.tagged ? frame.tci : vlan;
    const features = this.#egress[to] as number;
    let bytes: number;
    if (features === 0) {
      bytes = endpoint.deliver(frame, tag, tci);
      this.#count(from, to, bytes, frame.length + growth(tag));
    } else {
      bytes = this.#deliver(from, to, frame, tag, tci);
      if ((features & LOOKED_AT) !== 0)
        this.#show(to, OUTBOUND, from, frame, tag, tci, bytes < 0 ? ~bytes : ACCEPTED);
    }
    if (this.#traces) this.#sayDelivered(from, to, bytes, vlan);
  }

  /** Gives the frame to a port that may have features. Bytes, or `~reason`. */
  #deliver(from: number, to: number, frame: SourceFrame, tag: number, tci: number): number {
    const endpoint = this.endpoints[to];
    if (endpoint === undefined) return ~DROP.NO_PORT;
    const refused = this.#refusesOut(to, frame, tag);
    // What a filter does not want is no loss.
    if (refused === DROP.FILTER) return ~refused;
    const bytes = refused === ACCEPTED ? endpoint.deliver(frame, tag, tci) : ~refused;
    this.#count(from, to, bytes, frame.length + growth(tag));
    return bytes;
  }

  /** `bytes` is what `deliver` said, `length` that of the frame as it is at the port. */
  #count(from: number, to: number, bytes: number, length: number): void {
    if (bytes >= 0) {
      this.counters.delivered(from, to, bytes);
      this.counters.sent(to, length);
      this.touch(to);
    } else {
      this.counters.dropped(to, ~bytes);
    }
  }

  /** Why a frame is not given to a port, or ACCEPTED. */
  #refusesOut(to: number, frame: SourceFrame, tag: number): number {
    const features = this.#egress[to] as number;
    if ((features & DOWN) !== 0) return DROP.LINK_DOWN;
    if ((features & FILTERED) !== 0 && !this.#filters[to]?.includes(frame.etherType())) return DROP.FILTER;
    if ((features & RATED) === 0) return ACCEPTED;
    return this.#limits.admitsOut(to, frame.length + growth(tag)) ? ACCEPTED : DROP.RATE;
  }

  /** Shows a frame at `port` to those who look on. */
  #show(
    port: number,
    direction: number,
    from: number,
    frame: SourceFrame,
    tag: number,
    tci: number,
    reason: number,
  ): void {
    this.#taps[port]?.frame(port, direction, frame, tag, tci, reason);
    const mirrors = this.#mirrors[port] as readonly number[];
    // What was not delivered did not go out; what comes in is shown whatever becomes of it.
    if (direction === OUTBOUND && reason !== ACCEPTED) return;
    for (let n = 0; n < mirrors.length; n++) this.#deliver(from, mirrors[n] as number, frame, tag, tci);
  }

  #readClock(): void {
    const now = this.#limits.readClock();
    if (this.macs.ages) this.macs.setTime(Math.floor(now / 1000));
  }

  #switchOn(features: Uint8Array, port: number, bits: number, on: boolean): void {
    const before = features[port] as number;
    features[port] = on ? before | bits : before & ~bits;
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
