import { describe, expect, it } from 'vitest';
import { E1000, HOST_BRIDGE, X540 } from '../../testing/fake_machine.ts';
import { run, start } from '../../testing/script_lab.ts';

describe('queries', () => {
  it('match, match_cid(s), device, devices and resources', async () => {
    const made = await start();
    run(
      made,
      `Io.hw_add_devices(function()
         soc = Io.Hw.Device(function() uart = Io.Hw.Device(function()
           compatible = "arm,pl011" Resource.reg0 = Io.Res.mmio_r(0x1000, 0x1fff) end) end)
       end)
       local hw = Io.system_bus()
       assert(hw == Io.hw_bus and hw.soc.uart == hw:device("soc/uart") and hw:device("soc.uart") == hw.soc.uart)
       assert(hw:device("soc/none") == nil and hw.none == nil and hw:device("none/uart") == nil)
       assert(hw.soc.uart:match_cid("arm,pl011") and not hw.soc:match_cid("arm,pl011"))
       assert(hw.soc.uart:match_cids("x", "arm,*") == false and hw.soc.uart:match_cids("x", "arm,pl011"))
       assert(#hw:match("*") == 5 and hw:match("*")[1] == hw)
       local n = 0 for d in hw:devices(1) do n = n + 1 end assert(n == 4)
       n = 0 for d in hw:devices() do n = n + 1 end assert(n == 1)
       for r in hw.soc.uart:resources() do print(r:start(), r:_end(), r:type(), r) end
       assert(hw.soc:parent() == hw and hw:children():next():next() == hw.soc and hw.soc.uart:depth() == 2)`,
    );
    expect(made.printed).toEqual(['4096\t8191\t2\treg0 MEM 0x1000-0x1fff']);
  });

  it('class names are replaced behind PCI/, longer names first', async () => {
    const made = await start([HOST_BRIDGE, E1000, { ...X540, classCode: 0x028000 }]);
    run(
      made,
      `local hw = Io.system_bus()
       print(#hw:match("PCI/network"), #hw:match("PCI/ethernet"), #hw:match("PCI/network_nw"), #hw:match("PCI/br_host"))
       print(#hw:match("PCI/ethernet&VEN_8086"), #hw:match("PCI/VEN_8086&ethernet"), #hw:match("PCI/ethernet2"))
       Io.Dt.PCI_cc.mine = "DEV_1528" print(#hw:match("PCI/mine"))`,
    );
    expect(made.printed).toEqual(['2\t1\t1\t1', '1\t0\t0', '1']);
  });

  it('tells a malformed address token once, however many devices there are', async () => {
    const made = await start();
    run(made, 'Io.system_bus():match("PCI/ADR_03.0")');
    expect(made.lines).toEqual(['error: PCI/ADR_xxxx:xx:xx.x format error: ADR_03.0']);
  });
});
