import { describe, expect, it } from 'vitest';
import { devices, run, start } from '../../testing/script_lab.ts';

describe('function bodies', () => {
  it('make every assigned global a member, in the order of the script, and leave the outer globals alone', async () => {
    const made = await start();
    run(
      made,
      `outer = "seen"
       Io.add_vbusses { v = Io.Vi.System_bus(function()
         zz = Io.Vi.PCI_bus(function() print(outer, zz) inner = Io.Vi.PCI_dummy_device() end)
         aa = Io.Vi.PCI_bus()
         print(zz ~= nil)
       end) }
       print(zz, inner)`,
    );
    expect(made.printed).toEqual(['seen\tnil', 'true', 'nil\tnil']);
    expect(devices(made, 'v')).toEqual(['0 v', '1 L4ICU', '2 zz', '3 inner', '4 aa']);
  });

  it('handle list members first, as those of a table', async () => {
    const made = await start();
    run(
      made,
      `Io.add_vbusses {
         v = Io.Vi.System_bus(function() zz = Io.Vi.PCI_bus() _ENV[1] = Io.Vi.PCI_bus() end),
         w = Io.Vi.System_bus { zz = Io.Vi.PCI_bus(), Io.Vi.PCI_bus(), aa = Io.Vi.PCI_bus() } }`,
    );
    expect(devices(made, 'v').slice(2)).toEqual(['2 1', '3 zz']);
    expect(devices(made, 'w').slice(2)).toEqual(['2 1', '3 aa', '4 zz']);
  });

  it('warn and are ignored when they touch no global', async () => {
    const made = await start();
    run(made, 'local n = 0\nIo.add_vbusses { v = Io.Vi.System_bus(function() n = n + 1 end) }\nprint(n)');
    expect(made.printed).toEqual(['0']);
    expect(made.lines).toEqual([
      'Warning: The bus function used for add_children does not have an _ENV (rom/test.vbus:2)\n         It assigns no global, so it adds nothing and is not called; a bus without devices is Io.Vi.System_bus().',
    ]);
  });

  it('see Property, Resource and Child of their own', async () => {
    const made = await start();
    run(
      made,
      `Io.add_vbusses { v = Io.Vi.System_bus(function()
         Property.num_msis = 3
         Child.named = Io.Vi.PCI_bus(function() Property.nothing = 1 end)
       end) }`,
    );
    expect(made.bus('v').numMsis).toBe(3);
    expect(devices(made, 'v')).toEqual(['0 v', '1 L4ICU', '2 named']);
    expect(made.lines).toEqual([
      "error: no property 'nothing' registered: this device has none (rom/test.vbus:3)",
    ]);
  });
});

describe('members', () => {
  const cases: [what: string, body: string, message: string][] = [
    ['a number', 'x = 5', 'rom/test.vbus:1: cannot handle device member: x: 5'],
    ['a nested number', 'x = { { 7 } }', 'rom/test.vbus:1: cannot handle device member: x[1][1]: 7'],
    [
      'compatible = number',
      'compatible = 5',
      "rom/test.vbus:1: 'compatible' must be a string or a list of strings: compatible is a number",
    ],
    [
      'Property = number',
      'Property = 5',
      "rom/test.vbus:1: 'Property' must stay a table of properties: it is a number; write Property.<name> = ...",
    ],
    [
      'a hardware device that is not wrapped',
      'x = Io.system_bus():match("PCI/network")[1]',
      'as one is hardware and one is virtual: wrap() it: x = wrap(...)',
    ],
    [
      'compatible = list with a table',
      'compatible = { "a", { "b" } }',
      "'compatible' must be a string or a list of strings: compatible[2][1] is a string",
    ],
    [
      'Child = number',
      'Child = 1',
      "'Child' must stay a table of devices: it is a number; write Child.<name>",
    ],
    [
      'tables without end',
      'x = {} x.x = x',
      'Cannot add device member x as its tables are nested without end',
    ],
    ['a device twice', 'x = Io.Vi.PCI_bus() y = x', "as it is a child of 'ethdevs' already"],
  ];
  it.each(cases)('refuses %s', async (_what, body, message) => {
    const made = await start();
    const outcome = made.run(
      `local b = Io.Vi.System_bus() b:set_name("ethdevs") Io.Dt.add_children(b, function() ${body} end)`,
    );
    expect(outcome.kind).toBe('error');
    expect(outcome.message).toContain(message);
  });

  it('sets properties or says why not, and goes on', async () => {
    const made = await start();
    run(
      made,
      `Io.add_vbusses { v = Io.Vi.System_bus(function()
         Property.num_msi = 25
         Property.num_msis = "many"
         Property.num_msis = -1
       end),
       w = Io.Vi.System_bus { Property = { num_msis = { 1, 2 } } } }`,
    );
    expect(made.lines).toEqual([
      "error: no property 'num_msi' registered: known here: num_msis (rom/test.vbus:1)",
      'error: setting property num_msis failed: must be an integer within 0..65535: current value is -1 (rom/test.vbus:1)',
      'error: setting property num_msis failed: takes one integer, not a table (rom/test.vbus:6)',
      'error: setting property num_msis failed: takes one integer, not a table (rom/test.vbus:6)',
    ]);
  });

  it('warns about entries of Resource and Child that are neither', async () => {
    const made = await start();
    run(made, 'Io.Vi.System_bus(function() Resource.a = 1 Child.b = 2 end)');
    expect(made.lines).toEqual([
      'WARNING: Resource.a is left out as it is a number: only a resource can stand there (rom/test.vbus:1)',
      'WARNING: Child.b is left out as it is a number: only a device can stand there (rom/test.vbus:1)',
    ]);
  });
});
