import { afterEach, describe, expect, it } from 'vitest';
import { findProblems, type Received } from './diagnostics.ts';
import { E1000, type FakeFunction, HOST_BRIDGE, I350 } from './testing/fake_machine.ts';
import { type Scenario, scenario } from './testing/scenario.ts';

let made: Scenario | undefined;
afterEach(() => made?.close());

async function problems(
  source: string,
  received: Partial<Received>,
  machine: FakeFunction[] = [HOST_BRIDGE, E1000],
): Promise<string[]> {
  made = await scenario(machine);
  expect(made.run(source, 'rom/ixl.vbus')).toMatchObject({ kind: 'ok' });
  for (const name of made.configuration.busses.keys()) made.bus(name);
  const all = { serverEnds: [], clients: ['sigma0', 'icu', 'rom'], ...received };
  return findProblems(made.configuration.busses, all, made.hardware).map(
    ({ level, text }) => `${level}: ${text}`,
  );
}

/** A file with one bus whose body is given. */
const bus = (name: string, id: string, msis = 'Property.num_msis = 25'): string =>
  `Io.add_vbusses {\n  ${name} = Io.Vi.System_bus(function()\n    ${msis}\n    PCI0 = Io.Vi.PCI_bus(function()\n      nic = wrap(Io.system_bus():match("${id}"))\n    end)\n  end)\n}\n`;

describe('findProblems()', () => {
  it('finds nothing in a good configuration', async () => {
    expect(await problems(bus('ethdevs', 'PCI/CC_0200'), { serverEnds: ['ethdevs'] })).toEqual([]);
  });

  it('tells an empty bus with the search, its line, and what the machine has', async () => {
    expect(await problems(bus('ethdevs', 'PCI/DEV_1521'), { serverEnds: ['ethdevs'] })).toEqual([
      'always: WARNING: vbus \'ethdevs\' (rom/ixl.vbus:2) is empty: match("PCI/DEV_1521") at rom/ixl.vbus:5 found nothing; the machine has: 00:00.0 8086:1237 class 0600, 00:03.0 8086:100e class 0200',
    ]);
  });

  it('tells a token that cannot match', async () => {
    const [text] = await problems(bus('ethdevs', 'PCI/ethernett'), { serverEnds: ['ethdevs'] });
    expect(text).toContain(
      'match("PCI/ethernett") at rom/ixl.vbus:5 found nothing ("CC_0200t" is no token of the match syntax',
    );
  });

  it('tells a bus that nothing was put on, on a machine without devices', async () => {
    expect(await problems('Io.add_vbusses { v = Io.Vi.System_bus() }', { serverEnds: ['v'] }, [])).toEqual([
      "always: WARNING: vbus 'v' (rom/ixl.vbus:1) is empty: no device was put on it; the machine has: no PCI devices",
    ]);
  });

  it('tells a network device without num_msis', async () => {
    const [text] = await problems(bus('ethdevs', 'PCI/CC_0200', ''), { serverEnds: ['ethdevs'] });
    expect(text).toMatch(
      /^always: WARNING: vbus 'ethdevs' \(rom\/ixl\.vbus:2\) has a network device but no Property\.num_msis/,
    );
  });

  it('is visible about a bus with devices and without capability, and about the capability without bus', async () => {
    expect(await problems(bus('ethdevs', 'PCI/CC_0200'), { serverEnds: ['ethdev'] })).toEqual([
      "always: WARNING: Service registration failed: 'ethdevs': vbus 'ethdevs' (rom/ixl.vbus:2) has 1 device, but nobody can reach it, as Io has no capability of that name; Io received: ethdev, sigma0, icu, rom; add `ethdevs = <channel>:svr()` to the caps of Io, or rename the bus",
      "always: WARNING: Io received the capability 'ethdev', but the configuration has no vbus of that name: whoever calls it gets an error; its vbusses: ethdevs",
    ]);
  });

  it('is as quiet as the original about a bus without devices and capability', async () => {
    expect(await problems(bus('i350devs', 'PCI/DEV_1521'), {})).toEqual([
      "warn: WARNING: Service registration failed: 'i350devs'",
    ]);
  });

  it('tells a client end in place of the server end', async () => {
    const [text] = await problems(bus('ethdevs', 'PCI/DEV_1521'), { clients: ['ethdevs'] });
    expect(text).toContain('the capability is a client end; write `ethdevs = <channel>:svr()`');
  });

  it('names both busses that claim a device, with their lines', async () => {
    const source = bus('ethdevs', 'PCI/CC_0200') + bus('i350devs', 'PCI/DEV_1521');
    const found = await problems(source, { serverEnds: ['ethdevs', 'i350devs'] }, [
      HOST_BRIDGE,
      E1000,
      I350(0),
    ]);
    expect(found).toEqual([
      "always: WARNING: 00:04.0 8086:1521 class 0200 is on vbus 'ethdevs' (rom/ixl.vbus:5) and on vbus 'i350devs' (rom/ixl.vbus:13): only one driver can use it; make the matches differ",
    ]);
    expect(made?.lines).toEqual([
      "WARNING: device 'PCI device' already assigned to another virtual bus. (00:04.0 8086:1521 class 0200, first at rom/ixl.vbus:5, again at rom/ixl.vbus:13)",
    ]);
  });
});
