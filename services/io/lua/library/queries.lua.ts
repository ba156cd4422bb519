/** Lua part 3: what a script can ask a device: its data, its relatives, and the match syntax. */
export const QUERIES = `
local ask, fail, need_device = lib.ask, lib.fail, lib.need_device
local Dt = Io.Dt
local methods = {}

for _, name in ipairs { "name", "hid", "adr", "depth" } do
  methods[name] = function(device) return (ask(name, need_device(device))) end
end
for _, name in ipairs { "parent", "children", "next" } do
  methods[name] = function(device) return lib.value((ask(name, need_device(device)))) end
end
function methods.set_name(device, name) ask("set_name", need_device(device), tostring(name)) end
function methods.find_by_name(device, name)
  return lib.value((ask("find_by_name", need_device(device), tostring(name))))
end

-- device.x is a method, else the child of that name.
local meta = lib.metatables.d
function meta.__index(device, key)
  if methods[key] then return methods[key] end
  if type(key) == "string" then return methods.find_by_name(device, key) end
  return nil
end
function meta.__newindex(_, key)
  fail("cannot assign '%s' to a device: use Io.Dt.add_children()", tostring(key))
end
function meta.__tostring(device) return (ask("describe", need_device(device))) end

-- A path of names, with "/" or "." between them.
function Dt.device(device, path)
  need_device(device)
  for name in tostring(path):gmatch("[^/.]+") do
    if device == nil then return nil end
    device = methods.find_by_name(device, name)
  end
  return device
end

local function each_of(list)
  local position = 0
  return function()
    position = position + 1
    return list[position]
  end
end

-- The device itself comes first, then what is at most so many levels below it, in pre-order; without a number nothing is.
function Dt.iterator(device, levels)
  return each_of(lib.values((ask("walk", need_device(device), levels or 0))))
end

function Dt.resources(device)
  return each_of(lib.values((ask("resources", need_device(device)))))
end

------------------------------------------------------------------------ the match syntax

-- Classes by name; a file may add its own.
Dt.PCI_cc = {}
for name, code in ask("class_names"):gmatch("(%S+)=(%S+)") do Dt.PCI_cc[name] = code end

-- "PCI/ethernet&VEN_8086" as "PCI/CC_0200&VEN_8086". In the original it depends on chance whether "network" spoils
-- "network_nw"; here the longest name that fits wins.
local function with_code(pattern)
  local best, rest = "", pattern:match("^PCI/(.*)$")
  if not rest then return pattern end
  for name in pairs(Dt.PCI_cc) do
    if #name > #best and rest:find(name, 1, true) == 1 then best = name end
  end
  return "PCI/" .. (Dt.PCI_cc[best] or "") .. rest:sub(#best + 1)
end

local function patterns_of(...)
  local patterns = table.pack(...)
  for i = 1, patterns.n do
    if type(patterns[i]) ~= "string" then fail("match takes strings, got: %s", tostring(patterns[i])) end
  end
  return patterns
end

function Dt.match_cids(device, ...)
  return (ask("matches", need_device(device), table.unpack(patterns_of(...))))
end
function Dt.match_cid(device, pattern) return Dt.match_cids(device, pattern) end

-- Why a list has nothing in it, for the message about a bus that stays empty.
lib.reasons = setmetatable({}, { __mode = "k" })

function Dt.match(device, ...)
  local given = patterns_of(...)
  local patterns, shown = {}, {}
  for i, pattern in ipairs(given) do
    patterns[i], shown[i] = with_code(pattern), '"' .. pattern .. '"'
  end
  local found, oddity = ask("match", need_device(device), table.unpack(patterns))
  local list = lib.values(found)
  if #list == 0 then
    lib.reasons[list] = ("match(%s) at %s found nothing%s"):format(table.concat(shown, ", "), lib.position(), oddity)
  end
  return list
end

for name, query in pairs { devices = Dt.iterator, device = Dt.device, resources = Dt.resources, match = Dt.match,
                           match_cid = Dt.match_cid, match_cids = Dt.match_cids } do
  methods[name] = query
end
lib.device_methods = methods

function Io.dump_devs(device) ask("dump", need_device(device)) end
`;
