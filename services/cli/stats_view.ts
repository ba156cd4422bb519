/** What `l4lab stats` shows of a switch: its counters, and their rates since the time before. The shape of --json. */
import type { l4lab as m } from '../../proto/gen/messages.js';

/** One direction of a port. Rates are per second, null without an earlier reading. */
export interface Traffic {
  readonly packets: number;
  readonly bytes: number;
  readonly packetsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
}

export interface Drop {
  readonly reason: string;
  /** `in`: the frame was refused as it came in; `out`: it was not delivered to the port. */
  readonly direction: 'in' | 'out';
  readonly count: number;
  readonly perSecond: number | null;
}

export interface PortView {
  readonly number: number;
  readonly name: string;
  readonly kind: string;
  /** Null: none. */
  readonly mac: string | null;
  /** `native`, `access 7`, `trunk 1,2`, `trunk all`. */
  readonly vlan: string;
  readonly link: 'up' | 'down';
  /** Why the link is down if nobody took it down: the NIC behind the port has none. */
  readonly carrier: boolean;
  /** The client is ready to send and receive. */
  readonly ready: boolean;
  readonly in: Traffic;
  readonly out: Traffic;
  readonly drops: readonly Drop[];
  readonly rxRing: RingView | null;
  readonly txRing: RingView | null;
  readonly persistent: boolean;
  /** Task that `l4lab port` has started on it; null: none. */
  readonly task: string | null;
}

/** Buffers that the client has offered, and entries of the queue. */
export interface RingView {
  readonly available: number;
  readonly size: number;
}

export interface SwitchView {
  /** Name of its task. */
  readonly switch: string;
  /** Why it could not be asked; nothing else is known then. */
  readonly problem: string | null;
  readonly maxPorts: number;
  readonly macTable: { readonly entries: number; readonly capacity: number };
  /** Milliseconds between the two readings that rates are of; null: there was one. */
  readonly intervalMs: number | null;
  readonly ports: readonly PortView[];
}

export function problemView(name: string, problem: string): SwitchView {
  const macTable = { entries: 0, capacity: 0 };
  return { switch: name, problem, maxPorts: 0, macTable, intervalMs: null, ports: [] };
}

/** The present counters of a switch; rates since `before`. */
export function switchView(name: string, now: m.SwitchStats, before: m.SwitchStats | undefined): SwitchView {
  // A clock that goes back is another switch: it was started anew.
  const elapsed = before ? now.clockMs - before.clockMs : 0;
  const earlier = elapsed > 0 ? before : undefined;
  return {
    switch: name,
    problem: null,
    maxPorts: now.maxPorts,
    macTable: { entries: now.macEntries, capacity: now.macCapacity },
    intervalMs: earlier ? Math.round(elapsed) : null,
    ports: now.ports.map((port) => portView(port, earlier && samePort(earlier, port), earlier ? elapsed : 0)),
  };
}

/** The port in an earlier reading; one that was made since has counted from nothing. */
function samePort(
  { ports }: m.SwitchStats,
  { number, name, mac, inPackets, outPackets }: m.IPortStats,
): m.IPortStats {
  const old = ports.find((port) => port.number === number && port.name === name && port.mac === mac);
  const counted = (old?.inPackets ?? 0) <= (inPackets ?? 0) && (old?.outPackets ?? 0) <= (outPackets ?? 0);
  return old && counted ? old : {};
}

function portView(port: m.IPortStats, before: m.IPortStats | undefined, elapsed: number): PortView {
  const rate = (now: number, earlier: number): number | null =>
    elapsed > 0 ? Math.round(((now - earlier) * 1000) / elapsed) : null;
  const traffic = (packets: 'inPackets' | 'outPackets', bytes: 'inBytes' | 'outBytes'): Traffic => ({
    packets: port[packets] ?? 0,
    bytes: port[bytes] ?? 0,
    packetsPerSecond: rate(port[packets] ?? 0, before?.[packets] ?? 0),
    bytesPerSecond: rate(port[bytes] ?? 0, before?.[bytes] ?? 0),
  });
  return {
    number: port.number ?? 0,
    name: port.name ?? '',
    kind: port.kind ?? '',
    mac: port.mac || null,
    vlan: vlanText(port),
    link: port.linkUp ? 'up' : 'down',
    carrier: !port.noCarrier,
    ready: port.ready ?? false,
    in: traffic('inPackets', 'inBytes'),
    out: traffic('outPackets', 'outBytes'),
    drops: (port.drops ?? []).map((drop) => ({
      reason: drop.reason ?? '',
      direction: drop.inbound ? 'in' : 'out',
      count: drop.count ?? 0,
      perSecond: rate(drop.count ?? 0, earlierCount(before, drop)),
    })),
    rxRing: ringView(port.rxRing),
    txRing: ringView(port.txRing),
    persistent: port.persistent ?? false,
    task: port.task || null,
  };
}

function earlierCount(before: m.IPortStats | undefined, drop: m.IDropCount): number {
  const same = ({ reason, inbound }: m.IDropCount) => reason === drop.reason && inbound === drop.inbound;
  return before?.drops?.find(same)?.count ?? 0;
}

function ringView(fill: m.IRingFill | null | undefined): RingView | null {
  return fill?.size ? { available: fill.available ?? 0, size: fill.size } : null;
}

function vlanText({ access, trunk, trunkAll }: m.IPortStats): string {
  if (access) return `access ${access}`;
  if (trunkAll) return 'trunk all';
  return trunk && trunk.length > 0 ? `trunk ${trunk.join(',')}` : 'native';
}
