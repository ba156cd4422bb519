import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { requesterOf } from '../pci/function.ts';
import { E1000, type FakeFunction, HOST_BRIDGE, I350, X540 } from '../testing/fake_machine.ts';
import type { Scenario } from '../testing/scenario.ts';
import { devices, run, start } from '../testing/script_lab.ts';
import { resourceName, vbusFlags } from '../tree/resource.ts';
import { PciContainer, ProxyDevice } from '../tree/vi.ts';

const lab = readFileSync(new URL('../../../deploy/labs/curl/ixl.vbus', import.meta.url), 'utf8');

describe('ixl.vbus of the lab', () => {
  it('gives root 0, L4ICU 1, PCI0 2 and the NIC 3', async () => {
    const made = await start();
    run(made, lab);
    expect(devices(made, 'ethdevs')).toEqual(['0 ethdevs', '1 L4ICU', '2 PCI0', '3 nic']);
    expect(devices(made, 'x540devs')).toEqual(['0 x540devs', '1 L4ICU', '2 PCI0']);
    expect(made.bus('i350devs').numMsis).toBe(25);
    expect(made.lines).toEqual([]);
  });

  it('numbers several NICs and warns that two busses claim one', async () => {
    const made = await start([HOST_BRIDGE, E1000, I350(0), I350(1), X540]);
    run(made, lab);
    expect(devices(made, 'ethdevs').slice(3)).toEqual(['3 nic[1]', '4 nic[2]', '5 nic[3]', '6 nic[4]']);
    expect(made.lines).toHaveLength(3);
    expect(made.lines[0]).toBe(
      "WARNING: device 'PCI device' already assigned to another virtual bus. (00:04.0 8086:1521 class 0200, first at rom/test.vbus:17, again at rom/test.vbus:25)",
    );
  });
});

describe('files in the forms of the original', () => {
  it('takes table-form busses and commas or semicolons', async () => {
    const made = await start();
    run(
      made,
      `local hw = Io.system_bus()
       Io.add_vbus("bus", Io.Vi.System_bus { ps2 = wrap(hw:match("PNP0[3F]??")); })
       Io.add_vbusses {
         bus1 = Io.Vi.System_bus { PCI0 = Io.Vi.PCI_bus { pci = wrap(hw:match("PCI/CC_01", "PCI/network")); } },
       }`,
    );
    expect(devices(made, 'bus1')).toEqual(['0 bus1', '1 L4ICU', '2 PCI0', '3 pci']);
    expect(devices(made, 'bus')).toEqual(['0 bus', '1 L4ICU']);
  });

  it('takes hardware devices with compatible, properties and resources', async () => {
    const made = await start();
    run(
      made,
      `Io.Dt.add_children(Io.system_bus(), function()
         FOODEVICE = Io.Hw.Device(function()
           compatible = {"dev-foo,mmio", "dev-foo"};
           Property.hid = "dev-foo,Example";
           Property.flags = Io.Hw_device_DF_dma_supported;
           Resource.irq0 = Io.Res.irq(17, Io.Resource.Irq_type_level_high);
           Resource.registers = Io.Res.mmio(0x6f000000, 0x6f007fff);
         end);
       end);
       Io.add_vbusses { client1 = Io.Vi.System_bus(function()
         a = wrap(Io.system_bus():match("dev-foo,mmio"));
         b = wrap(Io.system_bus().FOODEVICE);
       end) }`,
    );
    const [first] = made.bus('client1').proxies;
    expect(first?.hid).toBe('dev-foo,Example');
    expect(first?.resources.map((r) => [resourceName(r.id), r.type, r.start, r.end, vbusFlags(r)])).toEqual([
      ['irq0', 1, 17, 17, 3],
      ['regi', 2, 0x6f000000, 0x6f007fff, 3],
    ]);
  });

  it('takes an ECAM bridge of an ARM file and tells missing properties', async () => {
    const made = await start();
    run(
      made,
      `if string.packsize("T") * 8 == 64 then cfg_base = 0x4010000000 else cfg_base = 0x3f000000 end
       Io.hw_add_devices(function()
         pciec0 = Io.Hw.Ecam_pcie_bridge(function()
           Property.regs_base = 0x10000000
           Property.cfg_base = cfg_base
           Property.int_a = 32 + 3
         end);
       end)`,
    );
    expect(made.lines).toEqual([
      "error: rom/test.vbus:3: Ecam_pcie_bridge 'pciec0' lacks mandatory properties: regs_size, cfg_size, mmio_base, mmio_size",
    ]);
  });
});

describe('errors of the API', () => {
  const cases: [source: string, message: string][] = [
    ['Io.Hw.Nothing()', 'rom/test.vbus:1: could not create device: Nothing'],
    ['Io.Vi.Nothing(function() a = 1 end)', 'rom/test.vbus:1: expected device, got: nil'],
    ['Io.Res.mmio(5, 4)', 'rom/test.vbus:1: Mmio region start > end. This is impossible.'],
    ['Io.Res.irq(5, "x")', 'rom/test.vbus:1: second, argument of Io.Res.irq() must be a `flags` value'],
    ['Io.Res.irq(5.5)', 'rom/test.vbus:1: irq resource: start must be a whole number of 0 or more, got: 5.5'],
    ['Io.Res.io(-1, 4)', 'rom/test.vbus:1: io resource: start must be a whole number of 0 or more, got: -1'],
    ['Io.Res.io(5, 4)', 'rom/test.vbus:1: io resource: start must not be above end, got: 5 and 4'],
    [
      'Io.Res.irq({ 1, 2^60 })',
      'rom/test.vbus:1: irq resource: end must be below 2^53, got: 1.1529215046068e+18',
    ],
    [
      'Io.Res.mmio(0, 1, 1.5)',
      'rom/test.vbus:1: mmio resource: flags must be a whole number of 0 or more, got: 1.5',
    ],
    ['Io.Res.irq()', 'rom/test.vbus:1: irq resource: start must be a number, got: nil'],
    ['Io.system_bus():match(5)', 'rom/test.vbus:1: match takes strings, got: 5'],
    ['Io.add_vbus("x", nil)', 'rom/test.vbus:1: expected device, got: nil'],
    ['Io.add_vbusses(5)', 'rom/test.vbus:1: Io.add_vbusses takes a table of vbusses, got: 5'],
    [
      'local b = Io.Vi.System_bus()\nIo.add_vbus("x", b) Io.add_vbus("x", Io.Vi.System_bus())',
      "Cannot add vbus 'x' as there is one of that name already, from rom/test.vbus:1",
    ],
    ['wrap(Io.Vi.PCI_bus())', "rom/test.vbus:1: wrap() takes devices of Io.system_bus(), got: PCI_bus ''"],
    ['Io.system_bus().x = 1', "rom/test.vbus:1: cannot assign 'x' to a device: use Io.Dt.add_children()"],
    ['local b = Io.Vi.System_bus() b:add_child(b)', 'as it would contain itself'],
    [
      'local a = Io.Vi.PCI_PCI_bridge() for i = 1, 400 do local b = Io.Vi.PCI_PCI_bridge() b:add_child(a) a = b end',
      'as a tree has at most 300 levels',
    ],
  ];
  it.each(cases)('%s', async (source, message) => {
    const made = await start();
    const outcome = made.run(source);
    expect(outcome.kind).toBe('error');
    expect(outcome.message).toContain(message);
  });

  it('a root that is no System_bus is told and ignored', async () => {
    const made = await start();
    run(made, 'Io.add_vbusses { x = Io.Vi.PCI_bus() }');
    expect(made.lines).toEqual([
      "ERROR: found non system-bus device as root device, ignored: 'x' is PCI_bus '', use Io.Vi.System_bus (rom/test.vbus:1)",
    ]);
    expect(made.configuration.busses.size).toBe(0);
  });
});

describe('wrap()', () => {
  it('returns one proxy, or a list named [1], [2]..., or an empty list', async () => {
    const made = await start([HOST_BRIDGE, E1000, X540]);
    run(
      made,
      `local hw = Io.system_bus()
       print(#wrap(hw:match("PCI/DEV_ffff")), #wrap(hw:match("PCI/CC_02")), wrap(hw:match("PCI/VEN_8086&DEV_100e")))`,
    );
    expect(made.printed).toEqual(['0\t2\tPCI device 00:03.0 8086:100e class 0200']);
  });

  it('takes nil with a warning, as an index of 0 gives it', async () => {
    const made = await start();
    run(
      made,
      'Io.add_vbusses { v = Io.Vi.System_bus(function()\n x = wrap(Io.system_bus():match("PCI/network")[0])\nend) }',
    );
    expect(made.lines).toEqual([
      'WARNING: wrap() was given nil: no such device (the list of match() starts at 1) (rom/test.vbus:2)',
    ]);
    expect(made.bus('v').emptySearches).toEqual(['wrap(nil) at rom/test.vbus:2']);
  });

  it('tells filters that nobody applies', async () => {
    const made = await start();
    run(made, 'wrap(Io.system_bus():match("PCI/network"), { pins = Io.Dt.Range(1, 4) })');
    expect(made.lines).toEqual(['ERROR: applying filter expression: pins=... (rom/test.vbus:1)']);
  });

  it('does not warn about a device that may be on several busses', async () => {
    const made = await start();
    run(
      made,
      `Io.hw_add_devices(function() shared = Io.Hw.Device(function() Property.flags = Io.Hw_device_DF_multi_vbus end) end)
       wrap(Io.system_bus().shared) wrap(Io.system_bus().shared)`,
    );
    expect(made.lines).toEqual([]);
  });
});

describe('virtual PCI busses', () => {
  const places = (made: Scenario, name: string): number[] => {
    const bus = made.bus(name).children.find((child) => child instanceof PciContainer) as PciContainer;
    return bus.children.map((child) => bus.placeOf(child as ProxyDevice) as number);
  };

  it('PCI_bus: functions of one device share a slot, others take the next', async () => {
    const made = await start([HOST_BRIDGE, E1000, I350(0), I350(1), X540]);
    run(
      made,
      `Io.add_vbusses { v = Io.Vi.System_bus(function() PCI0 = Io.Vi.PCI_bus(function()
         a = wrap(Io.system_bus():match("PCI/DEV_1528"))
         b = wrap(Io.system_bus():match("PCI/ADR_0:0:4.1"))
         c = wrap(Io.system_bus():match("PCI/DEV_100e"))
         d = wrap(Io.system_bus():match("PCI/ADR_0:0:4.0"))
       end) end) }`,
    );
    expect(places(made, 'v')).toEqual([0, 0x10000, 0x20000, 0x10001]);
    expect(made.bus('v').proxies.map(({ adr }) => adr)).toEqual([0, 0x10000, 0x20000, 0x10001]);
  });

  it('PCI_bus_ident keeps the physical places', async () => {
    const made = await start([HOST_BRIDGE, E1000, I350(0), I350(1)]);
    run(
      made,
      `Io.add_vbusses { v = Io.Vi.System_bus { PCI0 = Io.Vi.PCI_bus_ident {
         dummy = Io.Vi.PCI_dummy_device(); nics = wrap(Io.system_bus():match("PCI/network")) } } }`,
    );
    expect(places(made, 'v')).toEqual([0, 0x30000, 0x40000, 0x40001]);
  });

  it('leave out what is not PCI, and say so', async () => {
    const made = await start();
    run(
      made,
      `Io.hw_add_devices(function() rtc = Io.Hw.Device(function() Property.hid = "PNP0B00" end) end)
       Io.add_vbusses { v = Io.Vi.System_bus { PCI0 = Io.Vi.PCI_bus { rtc = wrap(Io.system_bus().rtc) } } }`,
    );
    expect(devices(made, 'v')).toEqual(['0 v', '1 L4ICU', '2 PCI0']);
    expect(made.lines[0]).toMatch(
      /^WARNING: 'rtc' \(Device 'rtc' \(PNP0B00\)\) is left out: PCI_bus '' takes PCI devices only/,
    );
  });

  it('refuse a 33rd device', async () => {
    const nics = Array.from({ length: 30 }, (_, n) => ({ ...E1000, device: n + 1 }));
    const bridge: FakeFunction = {
      device: 31,
      ids: [1, 1],
      classCode: 0x060400,
      headerType: 1,
      secondaryBus: 1,
    };
    const behind = [1, 2, 3].map((device) => ({ ...E1000, bus: 1, device }));
    const made = await start([...nics, bridge, ...behind]);
    const body = 'Io.Vi.PCI_bus(function() x = wrap(Io.system_bus():match("PCI/ethernet")) end)';
    const { kind, message } = made.run(body);
    expect(kind).toBe('error');
    expect(message).toMatch(
      /Cannot add PCI device 01:03\.0 .* as all places of its slot or all 32 slots are taken$/,
    );
  });

  it('number themselves: bridges below the root bus get 1, 2...', async () => {
    const made = await start();
    run(
      made,
      `Io.add_vbusses { v = Io.Vi.System_bus(function() PCI0 = Io.Vi.PCI_bus(function()
         br = Io.Vi.PCI_PCI_bridge(function() nic = wrap(Io.system_bus():match("PCI/ethernet")) end)
       end) end) }`,
    );
    expect(devices(made, 'v')).toEqual(['0 v', '1 L4ICU', '2 PCI0', '3 br', '4 nic']);
    const nic = made.bus('v').proxies[0] as ProxyDevice;
    expect((nic.parent as PciContainer).busNumber).toBe(1);
    expect(nic.pci && requesterOf(nic.pci.address)).toBe(0x18);
    expect(nic).toBeInstanceOf(ProxyDevice);
  });
});
