/**
 * Lua part 2: capability values, their types and methods (l4re-facts.md 1.4, 1.5).
 *
 * A capability is a userdata; what it stands for is kept in a table with weak keys. Several references
 * (`cap:m("r")`) share one `object`, whose finalizer tells the host that ned holds it no more.
 */
export const CAPABILITY = String.raw`
local ned = ...
local host = ned.host

local Cap = { __name = "L4::Cap", __metatable = "L4::Cap" }
local Object = {}
local state = setmetatable({}, { __mode = "k" })
local object_state = setmetatable({}, { __mode = "k" })

local RIGHT = { w = 1, s = 2, r = 4, d = 8, n = 0x10, c = 0x20 }
local SERVER_RIGHTS = 0xef

-- Protocol number and class name of the types, and the methods of those that have a Lua model.
local types = {}
local function define(number, name, service, methods)
  local class = { number = number, name = name, service = service, methods = methods or {} }
  if number then types[number] = class end
  types[name] = class
  return class
end
local function mangle(name)
  local parts = {}
  for part in name:gmatch("[^:%s]+") do parts[#parts + 1] = #part .. part end
  return "N" .. table.concat(parts) .. "E"
end
ned.mangle_class = mangle

define(0x4000, "L4Re::Dataspace", "l4lab.Dataspace")
local Namespace = define(0x4001, "L4Re::Namespace", "l4lab.Namespace")
define(0x4003, "L4Re::Video::Goos")
define(0x4004, "L4Re::Mem_alloc")
define(0x4005, "L4Re::Rm")
define(0x4006, "L4Re::Event")
define(0x4007, "L4Re::Inhibitor")
define(-6, "L4::Sigma0", "l4lab.PciHost")
define(-13, "L4::Log")
define(-14, "L4::Scheduler")
local Factory = define(-15, "L4::Factory", "l4lab.Factory")
define(-16, "L4::Vm")
define(-17, "L4::Dma_space", "l4lab.DmaSpace")
define(-18, "L4::Irq")
define(-20, "L4::Semaphore")
define(-22, "L4::Iommu", "l4lab.Iommu")
define(nil, "L4::Icu", "l4lab.Icu")
define(nil, "L4vbus::Vbus", "l4lab.Vbus")
define(nil, "L4virtio::Device", "l4lab.L4virtio")
local by_service = {}
for _, class in pairs(types) do
  if class.service then by_service[class.service] = class end
end
do
  local mangled = {}
  for _, class in pairs(types) do mangled[mangle(class.name)] = class end
  for name, class in pairs(mangled) do types[name] = class end
end

function ned.find_type(key) return types[key] end

Object.__gc = function(self)
  local id = object_state[self]
  if id then host("release", id) end
end

local function wrap(object, rights, class)
  local cap = ned.new_userdata()
  state[cap] = { object = object, rights = rights, class = class }
  return debug.setmetatable(cap, Cap)
end

-- A capability for an object of the host; class: protocol number, if known.
function ned.new_cap(id, rights, class)
  local object = debug.setmetatable(ned.new_userdata(), Object)
  object_state[object] = id
  return wrap(object, rights, types[class])
end

function ned.is_cap(value) return state[value] ~= nil end

local function check(cap, method)
  local s = state[cap]
  if not s then
    ned.fail("bad argument #1 to '%s' (L4::Cap expected, got %s); methods of capabilities are called with a colon: cap:%s(...)",
      method, type(cap), method)
  end
  return s
end

-- Number that the host knows the object by, and the rights of this reference.
function ned.cap_id(cap)
  local s = state[cap]
  return object_state[s.object], s.rights
end

-- How messages call a capability: what it is and what the script calls it.
function ned.describe(cap)
  local name = ned.name_of(cap)
  return name and '"' .. name .. '"' or tostring(cap)
end

local function parse_rights(x)
  if type(x) == "number" then return x | RIGHT.r end
  if type(x) ~= "string" then
    ned.fail("bad argument to 'mode' (rights are a number or letters of \"rwsdnc\", got %s)", type(x))
  end
  local rights = RIGHT.r
  for letter in x:lower():gmatch(".") do rights = rights | (RIGHT[letter] or 0) end
  return rights
end

local common = {}

function common.is_valid(self)
  check(self, "is_valid")
  return true
end

function common.mode(self, x)
  local s = check(self, "mode")
  if x == nil then return s.rights & 0xf end
  local rights = parse_rights(x)
  if rights == s.rights then return self end
  return wrap(s.object, rights, s.class)
end
common.m, common.rights = common.mode, common.mode

function common.svr(self)
  local s = check(self, "svr")
  if s.rights == SERVER_RIGHTS then return self end
  return wrap(s.object, SERVER_RIGHTS, s.class)
end

function ned.cast(class, cap)
  local s = check(cap, "cast")
  return wrap(s.object, s.rights, class)
end

-- An L4 runtime error as scripts see it: a table with msg and code.
local Error = { __tostring = function(self) return self.msg end }

function ned.raise(problem)
  local text = host("errno_text", problem.errno)
  local where = ned.where()
  local msg = string.format("%s%sruntime error %s (%d)", where, where ~= "" and ": " or "", text, -problem.errno)
  if problem.message ~= "" then msg = msg .. ": " .. problem.message:gsub("%.$", "") end
  error(setmetatable({ msg = msg, code = -problem.errno, reason = problem.code }, Error), 0)
end

function ned.check_result(result, problem)
  if problem then ned.raise(problem) end
  return result
end

-- Asks the object once what it implements; waits until its server is there.
local services = setmetatable({}, { __mode = "k" })
local function interfaces(cap, object, method)
  if not services[object] then
    local known, problem = host("interfaces", object_state[object], ned.name_of(cap) or "", ned.where())
    if not known then
      local where = ned.where()
      error((where ~= "" and where .. ": " or "") .. string.format("Cannot call '%s' on capability %s as %s", method,
        ned.describe(cap), problem.message), 0)
    end
    services[object] = known
  end
  return services[object]
end

Cap.__index = function(cap, key)
  if common[key] then return common[key] end
  local s = state[cap]
  if s.class and s.class.methods[key] then return s.class.methods[key] end
  if type(key) ~= "string" then return nil end
  for _, service in ipairs(interfaces(cap, s.object, key)) do
    local class = by_service[service]
    if class and class.methods[key] then return class.methods[key] end
  end
  return nil
end

Cap.__newindex = function(_, key)
  ned.fail("attempt to set field '%s' of a capability", tostring(key))
end

Cap.__eq = function(a, b)
  local x, y = state[a], state[b]
  return x ~= nil and y ~= nil and object_state[x.object] == object_state[y.object] and x.rights == y.rights
end

Cap.__tostring = function(cap)
  local s = state[cap]
  return string.format("L4::Cap<%s>[%x] r=%x f=%x", s.class and s.class.name or "void", object_state[s.object] << 12,
    s.rights & 0xf, s.rights >> 4)
end

-- One argument of create() for the host.
local function argument(value, position)
  local kind = type(value)
  if kind == "string" and tonumber(value) == nil then return { text = value } end
  if kind == "number" or kind == "string" then
    local number = ned.tointeger(tonumber(value))
    if not number then
      ned.fail("bad argument #%d to 'create' (number %s has no integer representation)", position, value)
    end
    return { number = number }
  end
  if kind == "nil" then return { null = true } end
  if state[value] then return { capability = object_state[state[value].object], rights = state[value].rights } end
  return {}
end

function Factory.methods.create(self, proto, ...)
  check(self, "create")
  local number = ned.math_type(proto) and ned.tointeger(proto)
  if not number then
    ned.fail("bad argument #1 to 'create' (the type of the object is an integer, e.g. L4.Proto.Dataspace or 0; got %s)",
      type(proto))
  end
  local given, arguments = table.pack(...), {}
  for i = 1, given.n do arguments[i] = argument(given[i], i + 1) end
  local id, problem = host("create", object_state[state[self].object], number, arguments, ned.where())
  ned.check_result(id, problem)
  return ned.new_cap(id, RIGHT.r, number ~= 0 and number or nil)
end

function Namespace.methods.query(self, name, rights)
  check(self, "query")
  local mask = rights ~= nil and parse_rights(rights) or RIGHT.r
  return function()
    local id = host("query", object_state[state[self].object], tostring(name))
    collectgarbage()
    return id and ned.new_cap(id, mask) or nil
  end
end
Namespace.methods.q = Namespace.methods.query

function Namespace.methods.__register(self, name, cap)
  check(self, "__register")
  if cap ~= nil and not state[cap] then
    ned.fail("unexpected value to register in namespace (%s)", type(cap))
  end
  local id, rights
  if cap ~= nil then id, rights = ned.cap_id(cap) end
  local _, problem = host("register", object_state[state[self].object], tostring(name), id, rights)
  collectgarbage()
  if problem then ned.raise(problem) end
end

-- A path "a/b/c" from L4.Env on: through tables, then through namespaces.
local function resolve(path)
  local value = ned.Env
  for part in path:gmatch("[^/]+") do
    if type(value) == "table" then value = rawget(value, part)
    elseif state[value] then value = Namespace.methods.query(value, part)()
    else value = nil end
    if value == nil then ned.fail("Could not resolve: '%s'", path) end
  end
  return value
end

-- above: the tables that this one is inside of.
local function register(self, name, value, factory, above)
  if type(value) == "function" then value = value(self, name) end
  if value == nil then return end
  if type(value) == "string" then value = resolve(value) end
  if type(value) == "table" then
    if not factory then ned.fail("unexpected value to register in namespace (table)") end
    value = ned.create_namespace(value, factory, above)
  end
  Namespace.methods.__register(self, name, value)
end

function Namespace.methods.register(self, name, value, factory)
  check(self, "register")
  register(self, name, value, factory, {})
end
Namespace.methods.r = Namespace.methods.register

-- A namespace from a nested table.
function ned.create_namespace(entries, factory, above)
  above = above or {}
  if above[entries] then ned.fail("Cannot make a namespace of a table that is inside of itself") end
  above[entries] = true
  local namespace = factory:create(0x4001)
  for name, value in pairs(entries) do register(namespace, name, value, factory, above) end
  above[entries] = nil
  return namespace
end
`;
