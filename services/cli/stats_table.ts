/** `l4lab stats` for people: one line for each port, and below what was dropped and why. */
import type { LabRecord } from './registry.ts';
import type { PortView, RingView, SwitchView, Traffic } from './stats_view.ts';
import { bytesText, table } from './table.ts';

const HEAD = ['#', 'PORT', 'KIND', 'MAC', 'VLAN', 'LINK', 'CLIENT'];
const TRAFFIC = ['PACKETS', 'BYTES', 'PKT/S', 'B/S'];
const COLUMNS = [
  ...HEAD,
  ...TRAFFIC.map((name) => `IN ${name}`),
  ...TRAFFIC.map((name) => `OUT ${name}`),
  'DROPS',
  'RX FREE',
  'TX WAIT',
];
const RIGHT = new Set(
  COLUMNS.map((_, column) => column).filter((column) => column === 0 || column >= HEAD.length),
);

export function formatSwitches(lab: LabRecord, switches: readonly SwitchView[]): string {
  return switches.map((view) => formatSwitch(lab, view)).join('\n\n');
}

function formatSwitch(lab: LabRecord, view: SwitchView): string {
  const head = `switch ${view.switch} of lab ${lab.id}`;
  if (view.problem !== null) return `${head}\n${view.problem}`;
  const { ports, maxPorts, macTable, intervalMs } = view;
  const facts = [
    `${ports.filter(({ kind }) => kind !== 'monitor').length} of ${maxPorts} ports`,
    `${macTable.entries} of ${macTable.capacity} MAC addresses`,
    ...(intervalMs === null ? [] : [`rates of the last ${(intervalMs / 1000).toFixed(1)} s`]),
  ];
  const title = `${head}: ${facts.join(', ')}`;
  if (ports.length === 0) return `${title}\nThere are no ports.`;
  return [title, ...table([COLUMNS, ...ports.map(portRow)], RIGHT), ...ports.flatMap(dropLines)].join('\n');
}

function portRow(port: PortView): string[] {
  return [
    String(port.number),
    port.name,
    port.kind,
    port.mac ?? '-',
    port.vlan,
    linkText(port),
    port.ready ? 'ready' : '-',
    ...trafficCells(port.in),
    ...trafficCells(port.out),
    String(port.drops.reduce((sum, { count }) => sum + count, 0)),
    ringText(port.rxRing),
    ringText(port.txRing),
  ];
}

/** What people see of a port's link. */
export function linkText({ link, carrier }: Pick<PortView, 'link' | 'carrier'>): string {
  return carrier ? link : 'no carrier';
}

function trafficCells({ packets, bytes, packetsPerSecond, bytesPerSecond }: Traffic): string[] {
  return [
    String(packets),
    bytesText(bytes),
    packetsPerSecond === null ? '-' : String(packetsPerSecond),
    bytesPerSecond === null ? '-' : bytesText(bytesPerSecond),
  ];
}

function ringText(ring: RingView | null): string {
  return ring === null ? '-' : `${ring.available}/${ring.size}`;
}

function dropLines({ name, drops }: PortView): string[] {
  if (drops.length === 0) return [];
  const list = drops.map(({ reason, direction, count, perSecond }) => {
    const rate = perSecond === null ? '' : `, ${perSecond}/s`;
    return `${reason} ${count} (${direction}${rate})`;
  });
  return [`dropped at ${name}: ${list.join('  ')}`];
}
