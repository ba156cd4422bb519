/**
 * Lua part 4: devices described by function bodies and tables.
 *
 * A body runs with a fresh environment that notes what is assigned, in order. Each value is then handed over to
 * TypeScript with the names that lead to it (`Property`, `num_msis`), where members.ts says what it means.
 */
export const BODIES = String.raw`
local ask, fail, need_device = lib.ask, lib.fail, lib.need_device
local Dt = Io.Dt
local MAX_DEPTH = 32

-- Keys of noting tables, in the order of assignment.
local notes = setmetatable({}, { __mode = "k" })

-- A table that notes its keys; what it does not have is looked up in another one.
local function noting(outer)
  local keys = {}
  local noted = setmetatable({}, { __index = outer, __newindex = function(self, key, value)
    keys[#keys + 1] = key
    rawset(self, key, value)
  end })
  notes[noted] = keys
  return noted
end

-- The keys of any other table: numbers first and ascending, then names in alphabetical order.
local function sorted_keys(given)
  local numbers, names = {}, {}
  for key in next, given do
    local list = type(key) == "number" and numbers or names
    list[#list + 1] = key
  end
  table.sort(numbers)
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  return table.move(names, 1, #names, #numbers + 1, numbers)
end

-- The keys of a table of members: what a body appended as a list, then the rest, each once.
function lib.keys(given)
  local seen, keys = {}, {}
  local function add(key)
    if seen[key] or rawget(given, key) == nil then return end
    seen[key] = true
    keys[#keys + 1] = key
  end
  for i = 1, #given do add(i) end
  for _, key in ipairs(notes[given] or sorted_keys(given)) do add(key) end
  return keys
end

local function hand_over(device, value, path)
  local token = lib.token(value, "d") or lib.token(value, "r")
  if type(value) == "table" and not token then
    if #path > MAX_DEPTH then fail("Cannot add device member %s as its tables are nested without end", path[1]) end
    local keys = lib.keys(value)
    if #keys == 0 and lib.reasons[value] then ask("found_nothing", device, lib.reasons[value]) end
    for _, key in ipairs(keys) do
      path[#path + 1] = type(key) == "number" and key or tostring(key)
      hand_over(device, rawget(value, key), path)
      path[#path] = nil
    end
    return
  end
  local kind = type(value)
  if token then kind = lib.token(value, "d") and "device" or "resource" end
  local plain = kind == "number" or kind == "string" or kind == "boolean"
  ask("member", device, kind, token or plain and value or tostring(value), table.unpack(path))
end

function Dt.add_device_data(device, members)
  hand_over(need_device(device), members, {})
end

-- Which upvalue of a function is its environment, and that environment; nil for a function that uses no global.
local function environment_of(body)
  for index = 1, debug.getinfo(body, "u").nups do
    local name, environment = debug.getupvalue(body, index)
    if name == "_ENV" then return index, environment end
  end
end

-- Runs a body where its globals are members; returns what it assigned.
local function members_of(body, index, outer)
  local members = noting(outer)
  for _, section in ipairs { "Property", "Resource", "Child" } do members[section] = noting() end
  debug.upvaluejoin(body, index, function() return members end, 1)
  body()
  return members
end

function Dt.add_children(parent, body)
  need_device(parent)
  if type(body) ~= "function" then
    ask("warn", "WARNING: add_children takes a function, ignored: " .. tostring(body))
    return parent
  end
  local index, outer = environment_of(body)
  if index then
    Dt.add_device_data(parent, members_of(body, index, outer))
  else
    ask("warn", "Warning: The bus function used for add_children does not have an _ENV\n"
      .. "         It assigns no global, so it adds nothing and is not called; a bus without devices is Io.Vi.System_bus().")
  end
  return parent
end

function Dt.add_child(parent, name, child, index)
  if name ~= nil and index ~= nil then name = name .. "[" .. index .. "]" end
  ask("add_child", need_device(parent), need_device(child), type(name) == "string" and name or nil)
end

function Dt.add_resource(device, resource)
  local token = lib.token(resource, "r")
  if not token then fail("expected resource, got: %s", tostring(resource)) end
  ask("add_resource", need_device(device), token)
end
lib.device_methods.add_resource = Dt.add_resource
function lib.device_methods.add_child(parent, child) Dt.add_child(parent, nil, child) end

-- Io.Hw.<Type> and Io.Vi.<Type>: any name is looked up when it is called.
local function types(create)
  return setmetatable({}, { __index = function(_, kind)
    return function(description) return create(tostring(kind), description) end
  end })
end

Io.Hw = types(function(kind, body)
  local device = lib.value((ask("create_hw", kind)))
  if not device then fail("could not create device: %s", kind) end
  if body ~= nil then Dt.add_children(device, body) end
  return device
end)

Io.Vi = types(function(kind, description)
  local device = lib.value((ask("create_vi", kind)))
  if type(description) == "function" then Dt.add_children(device, description)
  elseif type(description) == "table" then Dt.add_device_data(device, description) end
  return device
end)

local root = lib.value((ask("root")))
Io.hw_bus = root
function Io.system_bus() return root end

function Io.hw_add_devices(body)
  Dt.add_children(root, body)
  return body
end
`;
