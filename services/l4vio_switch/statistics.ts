/**
 * The statistics page as readers see it (F3.11), written into a buffer of their own at each `sync`.
 * Layout: proto/statistics.proto.
 */
import type { Memory } from '#common/memory';
import type { Counters } from './counters.ts';
import type { Port, PortList } from './port_list.ts';

export const STATISTICS = { AGE: 0, MAX_PORTS: 8, ARRAY: 16 } as const;
export const PORT_STATISTICS = {
  SIZE: 80,
  TX_NUM: 0,
  TX_DROPPED: 8,
  TX_BYTES: 16,
  RX_NUM: 24,
  RX_DROPPED: 32,
  RX_BYTES: 40,
  MAC: 48,
  NAME: 54,
  IN_USE: 74,
} as const;
const NAME_BYTES = 20;

/** Bytes of the page for `maxPorts` ports. */
export function statisticsBytes(maxPorts: number): number {
  return STATISTICS.ARRAY + PORT_STATISTICS.SIZE * maxPorts;
}

/**
 * Writes the page at offset `at`. The monitor takes the first entry that no port uses, as in the original; with all
 * in use it is left out (the original refuses to make it).
 */
export function writeStatistics(
  memory: Memory,
  at: number,
  maxPorts: number,
  ports: PortList,
  counters: Counters,
): void {
  memory.u8.fill(0, at, at + statisticsBytes(maxPorts));
  memory.view.setBigUint64(at + STATISTICS.AGE, BigInt(ports.age), true);
  memory.view.setBigUint64(at + STATISTICS.MAX_PORTS, BigInt(maxPorts), true);
  const monitor = ports.get(maxPorts);
  let monitorWritten = monitor === undefined;
  for (let slot = 0; slot < maxPorts; slot++) {
    const own = ports.get(slot);
    const port = own ?? (monitorWritten ? undefined : monitor);
    if (!port) continue;
    if (!own) monitorWritten = true;
    writePort(memory, at + STATISTICS.ARRAY + slot * PORT_STATISTICS.SIZE, port, counters);
  }
}

function writePort(memory: Memory, at: number, port: Port, counters: Counters): void {
  const { number } = port;
  const put = (offset: number, value: number) => memory.view.setBigUint64(at + offset, BigInt(value), true);
  put(PORT_STATISTICS.TX_NUM, counters.txPackets[number] as number);
  put(PORT_STATISTICS.TX_DROPPED, counters.txDropped[number] as number);
  put(PORT_STATISTICS.TX_BYTES, counters.txBytes[number] as number);
  put(PORT_STATISTICS.RX_NUM, counters.rxPackets[number] as number);
  put(PORT_STATISTICS.RX_BYTES, counters.rxBytes[number] as number);
  if (port.mac) memory.u8.set(port.mac, at + PORT_STATISTICS.MAC);
  memory.u8.set(new TextEncoder().encode(port.name).subarray(0, NAME_BYTES - 1), at + PORT_STATISTICS.NAME);
  memory.u8[at + PORT_STATISTICS.IN_USE] = 1;
}
