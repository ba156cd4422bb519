/**
 * The names that a configuration file finds in Lua: `Io` and `wrap`.
 *
 * Devices and resources live in TypeScript (configuration.ts) and are numbers here; a script sees a table
 * without content per device or resource, always the same one, so that `==` works. Everything goes through
 * the one function `__host(operation, where, ...)`, which answers `true, result` or `false, message`.
 * Errors are raised here, with the position of the innermost line of the script.
 */
export const API_SOURCE = String.raw`
local host = __host
__host = nil
local error, ipairs, load, next, pairs, rawset, select, setmetatable, tostring, type, xpcall =
  error, ipairs, load, next, pairs, rawset, select, setmetatable, tostring, type, xpcall
local debug, string, table = debug, string, table
local getinfo, sethook, traceback = debug.getinfo, debug.sethook, debug.traceback

-- Position of the innermost line that belongs to a configuration file: "rom/ixl.vbus:5".
local function where()
  local level = 2
  while true do
    local info = getinfo(level, "Sl")
    if not info then return "" end
    if info.source:sub(1, 1) == "@" and info.currentline > 0 then
      return info.source:sub(2) .. ":" .. info.currentline
    end
    level = level + 1
  end
end

local function fail(message)
  local position = where()
  error((position == "" and "" or position .. ": ") .. message, 0)
end

local function ask(operation, ...)
  local ok, result = host(operation, where(), ...)
  if not ok then fail(result) end
  return result
end

function print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  ask("print", table.concat(parts, "\t"))
end

-- Numbers of the host for the tables that stand for devices and resources, and back.
local device_ids = setmetatable({}, { __mode = "k" })
local resource_ids = setmetatable({}, { __mode = "k" })
local devices, resources = {}, {}
local Device, Resource = {}, {}

local function wrapper(id, known, ids, metatable)
  if not id then return nil end
  local value = known[id]
  if not value then
    value = setmetatable({}, metatable)
    known[id], ids[value] = value, id
  end
  return value
end

local device_meta, resource_meta = {}, { __index = Resource }
local function device_of(id) return wrapper(id, devices, device_ids, device_meta) end
local function resource_of(id) return wrapper(id, resources, resource_ids, resource_meta) end

local function id_of(device)
  local id = device_ids[device]
  if not id then fail("expected device, got: " .. tostring(device)) end
  return id
end

local function devices_of(list)
  local result = {}
  for id in list:gmatch("%d+") do result[#result + 1] = device_of(id + 0) end
  return result
end

function device_meta.__index(device, key)
  local method = Device[key]
  if method ~= nil or type(key) ~= "string" then return method end
  return device_of(ask("find_by_name", device_ids[device], key))
end
function device_meta.__newindex(_, key)
  fail("cannot assign '" .. tostring(key) .. "' to a device: use Io.Dt.add_children()")
end
function device_meta.__tostring(device) return ask("describe", device_ids[device]) end
function resource_meta.__tostring(resource) return ask("describe_resource", resource_ids[resource]) end
resource_meta.__newindex = device_meta.__newindex

-- Plain questions about a device or a resource.
for _, name in ipairs { "name", "hid", "adr", "depth", "set_name", "nresources" } do
  Device[name] = function(device, value) return ask(name, id_of(device), value) end
end
for _, name in ipairs { "parent", "children", "next", "find_by_name" } do
  Device[name] = function(device, value) return device_of(ask(name, id_of(device), value)) end
end
for _, name in ipairs { "id", "type", "flags", "start", "end" } do
  Resource[name == "end" and "_end" or name] = function(resource)
    return ask("resource_field", resource_ids[resource], name)
  end
end

Io = {
  Hw_device_DF_dma_supported = 1,
  Hw_device_DF_multi_vbus = 2,
  Dt = { PCI_cc = {}, MAX_DEPTH = 1000 },
  Res = {},
  Resource = {},
}
for name, code in ask("aliases"):gmatch("(%S+)=(%S+)") do Io.Dt.PCI_cc[name] = code end
for name, value in ask("constants"):gmatch("(%S+)=(%d+)") do Io.Resource[name] = value + 0 end

------------------------------------------------------------------------ resources

local function new_resource(kind, first, last, flags)
  local function check(what, value)
    if type(value) ~= "number" then fail(kind .. " resource: " .. what .. " must be a number, got: " .. tostring(value)) end
  end
  check("start", first)
  check("end", last)
  check("flags", flags)
  return resource_of(ask("new_resource", kind, first, last, flags))
end

function Io.Res.io(first, last, flags)
  return new_resource("io", first, last or first, flags or 0)
end

local function mmio(extra)
  return function(first, last, flags)
    if type(first) == "number" and type(last) == "number" and first > last then
      fail("Mmio region start > end. This is impossible.")
    end
    return new_resource("mmio", first, last or first, type(flags or 0) == "number" and (flags or 0) | extra or flags)
  end
end
Io.Res.mmio_r = mmio(Io.Resource.Mem_type_r)
Io.Res.mmio_w = mmio(Io.Resource.Mem_type_w)
Io.Res.mmio_rw = mmio(Io.Resource.Mem_type_rw)
Io.Res.mmio = Io.Res.mmio_rw

function Io.Res.irq(number, ...)
  local flags = 0
  if select("#", ...) == 1 then
    flags = ...
    if type(flags) ~= "number" then fail("second, argument of Io.Res.irq() must be a ${'`'}flags${'`'} value") end
  end
  local first, last = number, number
  if type(number) == "table" then first, last = number[1], number[2] end
  return new_resource("irq", first, last, flags)
end

------------------------------------------------------------------------ queries

local function replace_aliases(cid)
  local names = {}
  for name in pairs(Io.Dt.PCI_cc) do names[#names + 1] = name end
  -- The original has no order; longer names first keeps "network" from spoiling "network_nw".
  table.sort(names, function(a, b) return #a > #b or (#a == #b and a < b) end)
  for _, name in ipairs(names) do
    cid = cid:gsub("PCI/" .. name, "PCI/" .. Io.Dt.PCI_cc[name])
  end
  return cid
end

-- What a search was, for the message about a bus that stayed empty.
local searches = setmetatable({}, { __mode = "k" })
local empty_wraps = setmetatable({}, { __mode = "k" })

local function check_cid(cid)
  if type(cid) ~= "string" then fail("match takes strings, got: " .. tostring(cid)) end
  return cid
end

function Io.Dt.match_cid(device, cid) return ask("match_cid", id_of(device), check_cid(cid)) end

function Io.Dt.match_cids(device, ...)
  for _, cid in ipairs { ... } do
    if Io.Dt.match_cid(device, cid) then return true end
  end
  return false
end

function Io.Dt.match(device, ...)
  local shown, cids = {}, {}
  for i, cid in ipairs { ... } do
    shown[i] = '"' .. check_cid(cid) .. '"'
    cids[i] = replace_aliases(cid)
  end
  local found = devices_of(ask("match", id_of(device), table.unpack(cids)))
  local why = ask("explain", table.unpack(cids))
  searches[found] = "match(" .. table.concat(shown, ", ") .. ") at " .. where() .. " found nothing" .. why
  return found
end

-- Pre-order, at most max_depth levels below the device, which comes first.
function Io.Dt.iterator(device, max_depth)
  local list, at = devices_of(ask("walk", id_of(device), max_depth or 0)), 0
  return function()
    at = at + 1
    return list[at]
  end
end

function Io.Dt.device(device, path)
  local found = device
  for name in string.gmatch(path, "[^./]+") do
    found = found and found:find_by_name(name)
  end
  return found
end

function Io.Dt.resources(device)
  local index, count = -1, device:nresources()
  return function()
    index = index + 1
    if index < count then return device:resource(index) end
  end
end

function Device.resource(device, index) return resource_of(ask("resource", id_of(device), index)) end
Device.devices = Io.Dt.iterator
Device.match = Io.Dt.match
Device.match_cid = Io.Dt.match_cid
Device.match_cids = Io.Dt.match_cids
Device.device = Io.Dt.device
Device.resources = Io.Dt.resources

function Io.dump_devs(device) ask("dump", id_of(device)) end

------------------------------------------------------------------------ building trees

function Io.Dt.add_child(parent, name, child, index)
  if type(name) == "string" and index ~= nil then name = name .. "[" .. index .. "]" end
  ask("add_child", id_of(parent), id_of(child), type(name) == "string" and name or nil)
end

local function add_resource(device, resource, name)
  local id = resource_ids[resource]
  if not id then fail("expected a resource got: " .. tostring(resource)) end
  ask("add_resource", id_of(device), id, name)
end
function Io.Dt.add_resource(device, resource) add_resource(device, resource) end
function Device.add_resource(device, resource) add_resource(device, resource) end
function Device.add_child(parent, child) Io.Dt.add_child(parent, nil, child) end

-- The keys of a table in the order in which a body assigned them; of other tables: numbers, then names.
local orders = setmetatable({}, { __mode = "k" })

local function ordered(environment)
  local values, order = {}, {}
  orders[values] = order
  return setmetatable(values, {
    __index = environment,
    __newindex = function(self, key, value)
      order[#order + 1] = key
      rawset(self, key, value)
    end,
  })
end

local function keys_of(values)
  local keys = orders[values]
  if keys then return keys end
  keys = {}
  for key in next, values do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    if type(a) == "number" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function each(values, action)
  local seen = {}
  for _, key in ipairs(keys_of(values)) do
    local value = values[key]
    if value ~= nil and not seen[key] then action(key, value) end
    seen[key] = true
  end
end

local function section(name, value, action)
  if type(value) ~= "table" or device_ids[value] or resource_ids[value] then
    fail("'" .. name .. "' must be a table (probably you assigned something else)")
  end
  each(value, action)
end

local handle_member
local sections = {}

function sections.compatible(device, value)
  if type(value) == "string" then value = { value } end
  local message = "'compatible' must be a string or table of strings (probably you assigned something else)"
  if type(value) ~= "table" or device_ids[value] then fail(message) end
  for _, cid in ipairs(value) do
    if type(cid) ~= "string" then fail(message) end
    ask("add_cid", id_of(device), cid)
  end
end

function sections.Property(device, value)
  section("Property", value, function(name, setting)
    local list = type(setting) == "table" and setting or { [-1] = setting }
    for index, element in pairs(list) do
      local kind = type(element)
      if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then element = "a " .. kind end
      ask("set_property", id_of(device), tostring(name), index, element)
    end
  end)
end

function sections.Resource(device, value)
  section("Resource", value, function(name, resource)
    if resource_ids[resource] then
      add_resource(device, resource, name)
    else
      ask("warn", "WARNING: (" .. tostring(name) .. ") in 'Resource' table is not a resource.\n         Ignoring.")
    end
  end)
end

function sections.Child(device, value)
  section("Child", value, function(name, child)
    if device_ids[child] then
      Io.Dt.add_child(device, name, child)
    else
      ask("warn", "WARNING: (" .. tostring(name) .. ") in 'Child' table is not a device.\n         Ignoring.")
    end
  end)
end

function handle_member(device, name, value)
  if sections[name] then
    sections[name](device, value)
  elseif resource_ids[value] then
    add_resource(device, value, name)
  elseif device_ids[value] then
    Io.Dt.add_child(device, name, value)
  elseif type(value) == "table" then
    if next(value) == nil and empty_wraps[value] then ask("found_nothing", id_of(device), empty_wraps[value]) end
    each(value, function(index, element) handle_member(device, tostring(name) .. "[" .. tostring(index) .. "]", element) end)
  else
    fail("cannot handle device member: " .. tostring(name) .. ": " .. tostring(value))
  end
end

-- The list part in order, then the named members.
function Io.Dt.add_device_data(device, members)
  id_of(device)
  local listed = 0
  for index, value in ipairs(members) do
    handle_member(device, index, value)
    listed = index
  end
  each(members, function(name, value)
    if type(name) ~= "number" or name < 1 or name > listed or name % 1 ~= 0 then handle_member(device, name, value) end
  end)
end

function Io.Dt.add_children(parent, body)
  id_of(parent)
  if type(body) ~= "function" then
    if body ~= nil then ask("warn", "WARNING: add_children takes a function, ignored: " .. tostring(body)) end
    return parent
  end
  local index, name, outer = 0, nil, nil
  repeat
    index = index + 1
    name, outer = debug.getupvalue(body, index)
  until name == nil or name == "_ENV"
  if name == nil then
    ask("warn", "Warning: The bus function used for add_children does not have an _ENV\n"
      .. "         Empty vbus? Use 'bus = Io.Vi.System_bus()' instead.")
    return parent
  end
  local members = ordered(outer)
  for _, part in ipairs { "Property", "Resource", "Child" } do members[part] = ordered() end
  debug.upvaluejoin(body, index, function() return members end, 1)
  body()
  Io.Dt.add_device_data(parent, members)
  return parent
end

------------------------------------------------------------------------ hardware and virtual devices

local system_bus = device_of(ask("root"))
function Io.system_bus() return system_bus end
Io.hw_bus = system_bus

function Io.hw_add_devices(body)
  Io.Dt.add_children(system_bus, body)
  return body
end

Io.Hw = setmetatable({}, {
  __index = function(_, kind)
    return function(body)
      local device = device_of(ask("create_hw", tostring(kind)))
      if not device then fail("could not create device: " .. tostring(kind)) end
      return Io.Dt.add_children(device, body)
    end
  end,
})

Io.Vi = setmetatable({}, {
  __index = function(_, kind)
    return function(data)
      local device = device_of(ask("create_vi", tostring(kind)))
      if type(data) == "function" then
        Io.Dt.add_children(device, data)
      elseif type(data) == "table" and not device_ids[data] then
        Io.Dt.add_device_data(device, data)
      end
      return device
    end
  end,
})

function Io.Dt.Range(first, last) return { range = true, first, last } end

local function show_filter(filter)
  for tag in pairs(filter) do
    ask("warn", "ERROR: applying filter expression: " .. tostring(tag) .. "=...")
  end
end

function wrap(list, filter)
  local result = {}
  if device_ids[list] then
    list = { list }
  elseif list == nil then
    ask("warn", "WARNING: wrap() was given nil: no such device (the list of match() starts at 1)")
    empty_wraps[result] = "wrap(nil) at " .. where()
    return result
  elseif type(list) ~= "table" then
    fail("expected device, got: " .. tostring(list))
  end
  for _, device in ipairs(list) do
    result[#result + 1] = device_of(ask("wrap", id_of(device)))
    -- Only GPIO devices have filters, and this machine has none: every filter is refused (-19).
    if type(filter) == "table" then show_filter(filter) end
  end
  if #result == 1 then return result[1] end
  empty_wraps[result] = searches[list]
  return result
end

function Io.add_vbus(name, bus)
  ask("add_vbus", tostring(name), id_of(bus))
end

function Io.add_vbusses(busses)
  if type(busses) ~= "table" then fail("Io.add_vbusses takes a table of vbusses, got: " .. tostring(busses)) end
  each(busses, Io.add_vbus)
  return busses
end

function Io.Gpio_resource()
  fail("Io.Gpio_resource: this machine has no GPIO devices")
end

------------------------------------------------------------------------ running a file

-- Fires every 100,000 instructions; once the time is over, at every instruction, so that no pcall of the script
-- survives it.
local function check_time()
  if host("in_time", "") then return end
  sethook(function()
    local source = getinfo(2, "S").source
    if source:sub(1, 1) == "@" then
      fail("the script does not come to an end: stopped after " .. ask("time_limit") .. " s")
    end
  end, "", 1)
end

return function(source, name)
  local chunk, message = load(source, "@" .. name, "t")
  if not chunk then
    host("outcome", "", "syntax", message)
    return
  end
  sethook(check_time, "", 100000)
  local ok, failure, trace = xpcall(chunk, function(err)
    host("trace", "", traceback(tostring(err), 2))
    return err
  end)
  sethook()
  host("outcome", "", ok and "ok" or "error", ok and "" or tostring(failure))
end
`;
