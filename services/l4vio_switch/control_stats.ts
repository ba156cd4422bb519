/** The counters of a switch as `l4lab stats` gets them. Read when asked: an unwatched switch does nothing for it. */
import { DROP, DROP_REASONS, type DropReason, dropKey } from '#common/capture/drop_reasons';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { RingError } from '#common/virtio/errors';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Counters } from './counters.ts';
import { formatMac } from './mac_address.ts';
import { CAPACITY } from './mac_table.ts';
import type { Port } from './port_list.ts';
import type { Switch } from './switch.ts';

/** Reasons for which a frame is refused where it comes in. */
const INBOUND_REASONS: ReadonlySet<number> = new Set([DROP.VLAN, DROP.STORM, DROP.RATE]);

/** What control knows of a port besides. */
export interface PortExtras {
  readonly persistent: boolean;
  readonly task: string;
}

export function switchStats(lan: Switch, extras: (port: number) => PortExtras): m.ISwitchStats {
  const { forwarder, ports, maxPorts } = lan;
  return {
    maxPorts,
    macEntries: forwarder.macs.size,
    macCapacity: CAPACITY,
    ports: ports.all().map((port) => portStats(lan, port, extras(port.number))),
    clockMs: performance.now(),
  };
}

function portStats(lan: Switch, port: Port, extras: PortExtras): m.IPortStats {
  const { number, name, kind, mac, spec } = port;
  const { counters } = lan.forwarder;
  const queues = lan.queues(number);
  const trunkAll = spec.trunk === 'all';
  return {
    number,
    name,
    kind,
    mac: mac ? formatMac(mac) : '',
    access: spec.access ?? 0,
    trunk: trunkAll ? [] : [...((spec.trunk as readonly number[] | undefined) ?? [])],
    trunkAll,
    ready: queues !== undefined || lan.drives(number),
    inPackets: counters.inPackets[number] as number,
    inBytes: counters.inBytes[number] as number,
    outPackets: counters.txPackets[number] as number,
    outBytes: outBytes(counters, port),
    drops: dropsOf(counters, number),
    rxRing: fillOf(queues?.rx),
    txRing: fillOf(queues?.tx),
    ...extras,
  };
}

/** The statistics page counts the header that virtio puts before each frame; a NIC has none (F3.11). */
function outBytes({ txBytes, txPackets }: Counters, { number, kind }: Port): number {
  const header = kind === 'nic' ? 0 : NET_HDR_SIZE;
  return (txBytes[number] as number) - header * (txPackets[number] as number);
}

function dropsOf(counters: Counters, port: number): m.IDropCount[] {
  return Array.from({ length: DROP_REASONS }, (_, reason) => ({
    reason: dropKey(reason as DropReason),
    count: counters.droppedFor(port, reason),
    inbound: INBOUND_REASONS.has(reason),
  })).filter(({ count }) => count > 0);
}

/** A client whose index is impossible is found out by the data plane, which stops it. */
function fillOf(queue: DeviceQueue | undefined): m.IRingFill {
  try {
    return queue ? { available: queue.available(), size: queue.size } : { available: 0, size: 0 };
  } catch (err) {
    if (err instanceof RingError) return { available: 0, size: 0 };
    throw err;
  }
}
