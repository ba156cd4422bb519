/**
 * What may be wrong with the vbusses of a configuration, told before anybody waits for them.
 *
 * The original is silent about most of this: a misspelt capability name or an empty bus shows only as a
 * client that hangs or aborts.
 */
import type { Busses } from './lua/configuration.ts';
import { formatIdentity } from './pci/function.ts';
import { type HwDevice, pciDevices } from './tree/hw.ts';
import { ProxyDevice, type SystemBus } from './tree/vi.ts';

export interface Finding {
  /** 'always' is printed whatever the verbosity; 'warn' at level 2. */
  readonly level: 'always' | 'warn';
  readonly text: string;
}

/** Capabilities that Io received, by kind, in the order of the script. */
export interface Received {
  readonly serverEnds: readonly string[];
  readonly clients: readonly string[];
}

/** Capabilities with a meaning of their own; every other server end should be a vbus. */
const OWN_NAMES = ['sigma0', 'icu', 'iommu', 'platform_ctl', 'rom'];

/** All findings, in the order of the busses. */
export function findProblems(busses: Busses, received: Received, hardware: HwDevice): Finding[] {
  return [
    ...[...busses.values()].flatMap((bus) => busFindings(bus, received, hardware)),
    ...unusedCapabilities(busses, received),
    ...sharedDevices(busses, received, hardware),
  ];
}

function always(text: string): Finding {
  return { level: 'always', text };
}

function busFindings(bus: SystemBus, received: Received, hardware: HwDevice): Finding[] {
  if (!received.serverEnds.includes(bus.name)) return [registrationFailed(bus, received)];
  const findings: Finding[] = [];
  if (bus.proxies.length === 0) findings.push(always(emptyBus(bus, hardware)));
  if (bus.numMsis === 0 && bus.proxies.some((proxy) => proxy.isNic)) {
    findings.push(
      always(
        `WARNING: ${named(bus)} has a network device but no Property.num_msis: ixl compares it with its number of receive queues, even for a device without MSIs, and will complain; add \`Property.num_msis = 25\` to the bus`,
      ),
    );
  }
  return findings;
}

function registrationFailed(bus: SystemBus, received: Received): Finding {
  const text = `WARNING: Service registration failed: '${bus.name}'`;
  if (received.clients.includes(bus.name)) {
    return always(
      `${text}: ${named(bus)} needs the server end of its channel, but the capability is a client end; write \`${bus.name} = <channel>:svr()\` in the caps of Io`,
    );
  }
  const devices = bus.proxies.length;
  if (devices === 0) return { level: 'warn', text };
  const names = [...received.serverEnds, ...received.clients];
  return always(
    `${text}: ${named(bus)} has ${devices} device${devices === 1 ? '' : 's'}, but nobody can reach it, as Io has no capability of that name; Io received: ${names.join(', ') || 'none'}; add \`${bus.name} = <channel>:svr()\` to the caps of Io, or rename the bus`,
  );
}

function emptyBus(bus: SystemBus, hardware: HwDevice): string {
  const why = bus.emptySearches.length > 0 ? bus.emptySearches.join('; ') : 'no device was put on it';
  return `WARNING: ${named(bus)} is empty: ${why}; ${machineHas(hardware)}`;
}

function machineHas(hardware: HwDevice): string {
  const found = pciDevices(hardware).map((device) => formatIdentity(device.pci));
  return `the machine has: ${found.join(', ') || 'no PCI devices'}`;
}

function unusedCapabilities(busses: Busses, received: Received): Finding[] {
  const unused = received.serverEnds.filter((name) => !OWN_NAMES.includes(name) && !busses.has(name));
  return unused.map((name) =>
    always(
      `WARNING: Io received the capability '${name}', but the configuration has no vbus of that name: whoever calls it gets an error; its vbusses: ${[...busses.keys()].join(', ') || 'none'}`,
    ),
  );
}

function sharedDevices(busses: Busses, received: Received, hardware: HwDevice): Finding[] {
  const published = new Set(busses.values());
  return [...hardware.walk()].flatMap((device) => {
    const claims = (device as HwDevice).claims.filter(
      (claim): claim is ProxyDevice =>
        claim instanceof ProxyDevice && claim.bus !== undefined && published.has(claim.bus),
    );
    const [first] = claims;
    if (first === undefined || claims.length < 2 || (device as HwDevice).multiVbus) return [];
    const places = claims.map((claim) => {
      const { name } = claim.bus as SystemBus;
      return `vbus '${name}' (${claim.origin}${received.serverEnds.includes(name) ? '' : ', without capability'})`;
    });
    return [
      always(
        `WARNING: ${first.identity} is on ${places.join(' and on ')}: only one driver can use it; make the matches differ`,
      ),
    ];
  });
}

function named(bus: SystemBus): string {
  return bus.origin === '' ? `vbus '${bus.name}'` : `vbus '${bus.name}' (${bus.origin})`;
}
