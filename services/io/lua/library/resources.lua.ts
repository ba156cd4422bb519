/** Lua part 2: `Io.Res`, `Io.Resource`, and what a script can ask a resource. */
export const RESOURCES = `
local ask, fail = lib.ask, lib.fail
local Res = Io.Res

for name, value in ask("constants"):gmatch("(%S+)=(%d+)") do Io.Resource[name] = tonumber(value) end

-- Larger numbers lose their last digits on the way to TypeScript, and clients get 64 bits without a sign.
local LIMIT = 1 << 53

local function need_number(kind, what, value)
  local rule
  if type(value) ~= "number" then rule = "a number"
  elseif value < 0 or value % 1 ~= 0 then rule = "a whole number of 0 or more"
  elseif value >= LIMIT then rule = "below 2^53"
  else return end
  fail("%s resource: %s must be %s, got: %s", kind, what, rule, tostring(value))
end

local function new(kind, first, last, flags)
  need_number(kind, "start", first)
  need_number(kind, "end", last)
  need_number(kind, "flags", flags)
  if first > last then fail("%s resource: start must not be above end, got: %s and %s", kind, tostring(first), tostring(last)) end
  return lib.value(ask("new_resource", kind, first, last, flags))
end

function Res.io(first, last, flags) return new("io", first, last or first, flags or 0) end

-- The access rights that a constructor stands for are added to the flags of the script.
for name, right in pairs { mmio = "rw", mmio_rw = "rw", mmio_r = "r", mmio_w = "w" } do
  local access = Io.Resource["Mem_type_" .. right]
  Res[name] = function(first, last, flags)
    last, flags = last or first, flags or 0
    if type(first) == "number" and type(last) == "number" and first > last then
      fail("Mmio region start > end. This is impossible.")
    end
    return new("mmio", first, last, type(flags) == "number" and flags % 1 == 0 and flags | access or flags)
  end
end

function Res.irq(number, flags)
  if flags ~= nil and type(flags) ~= "number" then
    fail("second, argument of Io.Res.irq() must be a ${'`'}flags${'`'} value")
  end
  if type(number) == "table" then return new("irq", number[1], number[2], flags or 0) end
  return new("irq", number, number, flags or 0)
end

function Io.Gpio_resource() fail("Io.Gpio_resource: this machine has no GPIO devices") end

local methods = {}
for method, field in pairs { id = "id", type = "type", flags = "flags", start = "start", _end = "end" } do
  methods[method] = function(resource) return (ask("resource_field", lib.token(resource, "r"), field)) end
end

local meta = lib.metatables.r
meta.__index = methods
meta.__tostring = function(resource) return (ask("describe_resource", lib.token(resource, "r"))) end
meta.__newindex = function(_, key) fail("cannot assign '%s' to a resource", tostring(key)) end
`;
