/** The counters of a switch as `l4lab stats` gets them. Read when asked: an unwatched switch does nothing for it. */
import { DROP_REASONS, type DropReason, dropKey } from '#common/capture/drop_reasons';
import type { DeviceQueue } from '#common/virtio/device_queue';
import { RingError } from '#common/virtio/errors';
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Counters } from './counters.ts';
import { formatMac } from './mac_address.ts';
import { CAPACITY } from './mac_table.ts';
import type { Port } from './port_list.ts';
import type { Switch } from './switch.ts';

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
    linkUp: lan.forwarder.linkUp(number),
    noCarrier: lan.lacksCarrier(number),
    ready: queues !== undefined || lan.drives(number),
    inPackets: counters.inPackets[number] as number,
    inBytes: counters.inBytes[number] as number,
    outPackets: counters.txPackets[number] as number,
    outBytes: counters.outBytes[number] as number,
    drops: dropsOf(counters, number),
    rxRing: fillOf(queues?.rx),
    txRing: fillOf(queues?.tx),
    ...extras,
  };
}

function dropsOf(counters: Counters, port: number): m.IDropCount[] {
  const drops: m.IDropCount[] = [];
  for (let n = 0; n < DROP_REASONS; n++) {
    const reason = dropKey(n as DropReason);
    const refused = counters.refusedFor(port, n);
    const lost = counters.droppedFor(port, n) - refused;
    if (refused > 0) drops.push({ reason, count: refused, inbound: true });
    if (lost > 0) drops.push({ reason, count: lost, inbound: false });
  }
  return drops;
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
