/** Lua part 6: `L4.Loader` and `L4.Class` (l4re-facts.md 1.6). */
export const LOADER = `
local ned = ...
local PROTO = { gate = 0, scheduler = -14 }

local Class = {}
ned.Class = Class

function Class.check(object, class)
  if not object or getmetatable(object) ~= class then
    ned.fail("method called with incompatible object")
  end
end

local Loader = {}
Loader.__index = Loader
ned.Loader = Loader

local function check(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Loader then
    ned.fail("method called with incompatible object (loader methods are called with a colon: loader:%s(...))", method)
  end
end

-- Makes its argument a loader; factories that are not given are the loader's memory allocator.
function Loader.new(proto)
  local loader = proto or {}
  local fallback = loader.loader or loader.mem
  for _, key in ipairs { "log_fab", "ns_fab", "rm_fab", "sched_fab" } do
    if loader[key] == nil then loader[key] = fallback end
  end
  if loader.factory == nil then loader.factory = ned.Env.factory end
  return setmetatable(loader, Loader)
end

function Loader:new_channel()
  check(self, "new_channel")
  return self.factory:create(PROTO.gate)
end

-- Words of a command line, then the environment table. Only blanks separate; there is no quoting.
function Loader.split_args(command, posix_env)
  if type(command) ~= "string" then
    ned.fail("bad argument #2 to 'start' (the command line is a string, got %s)", type(command))
  end
  local words = {}
  for word in command:gmatch("%S+") do words[#words + 1] = word end
  words[#words + 1] = posix_env
  return table.unpack(words)
end

function Loader:start(env, command, posix_env)
  check(self, "start")
  return self:startv(env, Loader.split_args(command, posix_env))
end

function Loader:startv(env, ...)
  check(self, "startv")
  if type(env) ~= "table" then
    ned.fail("bad argument #1 to 'start' (environment table expected, e.g. { caps = { ... } }; got %s)", type(env))
  end
  if getmetatable(env) == ned.App_env then
    ned.fail("method called with incompatible object: this environment table was already used by an earlier start; give each start a table of its own (the caps table inside may be shared)")
  end
  if env.caps == nil then env.caps = {} end
  if type(env.caps) ~= "table" then ned.fail("Cannot start as 'caps' must be a table: it is a %s", type(env.caps)) end
  for name, value in pairs(env.caps) do
    if type(value) == "table" and getmetatable(value) == nil then
      env.caps[name] = self:create_namespace(value, env.ns_fab)
    end
  end
  for name, value in pairs(self.default_caps or { rom = ned.Env.rom and ned.Env.rom:m("r") }) do
    if env.caps[name] == nil then env.caps[name] = value end
  end
  env.loader = self
  if env.l4re_dbg == nil then env.l4re_dbg = 2 end
  return ned.App_env.new(env):start(...)
end

function Loader:create_namespace(entries, factory)
  check(self, "create_namespace")
  if type(entries) ~= "table" then return entries end
  return ned.create_namespace(entries, factory or self.ns_fab)
end

function Loader:fill_namespace(namespace, entries, factory)
  check(self, "fill_namespace")
  for name, value in pairs(entries) do namespace:register(name, value, factory or self.ns_fab) end
end

function Loader:create_sched_proxy(args)
  check(self, "create_sched_proxy")
  args = args or {}
  local cpus = args.cpus
  if cpus == nil then cpus = ned.Cpu_set:new() end
  if type(cpus) ~= "table" or getmetatable(cpus) ~= ned.Cpu_set then cpus = ned.Cpu_set:new(cpus) end
  local offset = args.prio_offset or 0
  local limit = args.prio_limit or offset + 10
  local factory = args.fab or self.sched_fab
  return factory:create(PROTO.scheduler, limit, offset, cpus:factory_args())
end

-- The program rom/backtracer becomes the receiver of debug events. There is none in l4lab.
function Loader:start_backtracer(args)
  check(self, "start_backtracer")
  args = args or {}
  local events = self:new_channel()
  self:start({ caps = { svr = events:svr() }, log = { "backtrace" } },
    (args.prog or "rom/backtracer") .. " " .. (args.args or ""))
  self.dbg_events = events
end
`;
