-- vim:ft=lua
--
-- Hardware that no scan finds. The machine does not have it either: nothing answers there, but the
-- configuration can be tried.

Io.hw_add_devices(function()
  uart0 = Io.Hw.Device(function()
    compatible = { "arm,pl011", "arm,primecell" };
    Property.hid = "ARM PL011";
    Resource.regs = Io.Res.mmio(0x1c090000, 0x1c090fff);
    Resource.irq0 = Io.Res.irq(37, Io.Resource.Irq_type_level_high);
  end);
end)
