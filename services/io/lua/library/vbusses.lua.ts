/** Lua part 5: hardware on virtual busses, and their publication. */
export const VBUSSES = `
local ask, fail, need_device = lib.ask, lib.fail, lib.need_device

function Io.Dt.Range(first, last) return { first, last, range = true } end

-- Virtual devices that stand for hardware devices: one, or a list. Only GPIO devices take a filter, and this machine
-- has none: every filter is refused.
function wrap(hardware, filter)
  local result = {}
  if hardware == nil then
    ask("warn", "WARNING: wrap() was given nil: no such device (the list of match() starts at 1)")
    lib.reasons[result] = "wrap(nil) at " .. lib.position()
    return result
  end
  local list = hardware
  if lib.token(hardware, "d") then list = { hardware } end
  if type(list) ~= "table" then need_device(list) end
  for i, device in ipairs(list) do
    result[i] = lib.value((ask("wrap", need_device(device))))
    for tag in pairs(type(filter) == "table" and filter or {}) do
      ask("warn", "ERROR: applying filter expression: " .. tostring(tag) .. "=...")
    end
  end
  if #result == 1 then return result[1] end
  lib.reasons[result] = lib.reasons[list]
  return result
end

function Io.add_vbus(name, bus) ask("add_vbus", tostring(name), need_device(bus)) end

function Io.add_vbusses(busses)
  if type(busses) ~= "table" or lib.token(busses, "d") then
    fail("Io.add_vbusses takes a table of vbusses, got: %s", tostring(busses))
  end
  for _, name in ipairs(lib.keys(busses)) do Io.add_vbus(name, busses[name]) end
  return busses
end
`;
