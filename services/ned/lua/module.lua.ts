/** Lua part 7: the table that `require("L4")` returns (l4re-facts.md 1.3). */
export const MODULE = String.raw`
local ned = ...
local host = ned.host
local L4 = {}

L4.Proto = {
  Dataspace = 0x4000, Namespace = 0x4001, Goos = 0x4003, Mem_alloc = 0x4004, Rm = 0x4005, Event = 0x4006,
  Inhibitor = 0x4007, Sigma0 = -6, Log = -13, Scheduler = -14, Factory = -15, Vm = -16, Dma_space = -17,
  Irq_sender = -18, Semaphore = -20, Iommu = -22, Ipc_gate = 0,
}
L4.Rights = { w = 1, s = 2, r = 4, d = 8, n = 16, c = 32, ro = 4, rw = 5, rws = 7 }
L4.Ldr_flags = { eager_map = 1, all_segs_cow = 2, pinned_segs = 4 }
L4.Mem_alloc_flags = { Continuous = 1, Pinned = 2, Super_pages = 4 }
L4.Dbg = {
  Info = 1, Warn = 2, Boot = 4, Server = 0x10, Exceptions = 0x20, Cmd_line = 0x40, Loader = 0x80,
  Name_space = 0x400, All = 0xffffffff,
}

local info = host("info")
ned.late_functions = info.late_functions == true
L4.Info = {
  Kip = { str = function() return info.kip end },
  arch = function() return info.arch end,
  platform = function() return info.platform end,
  mword_bits = function() return 64 end,
}

-- Capabilities that a script may ask for without a warning when this lab does not have them.
local OPTIONAL = {
  rwfs = true, kip = true, dma_mgr = true, iommu = true, arm_smc = true, jdb = true, vesa = true, dbg_events = true,
  icu = true, sigma0 = true,
}
local warned = {}
local TYPES = { mem_alloc = -15, factory = -15 }
local RIGHTS_RWS = 7

L4.Env = setmetatable({}, { __index = function(env, key)
  if type(key) == "string" and not OPTIONAL[key] and not warned[key] then
    warned[key] = true
    local names = {}
    for name in next, env do names[#names + 1] = name end
    table.sort(names)
    ned.warn("L4.Env has no capability '%s', so nil is used; it has: %s", key, table.concat(names, ", "))
  end
  return nil
end })
for name, id in pairs(host("env")) do
  L4.Env[name] = ned.new_cap(id, RIGHTS_RWS, TYPES[name])
end
L4.Env.user_factory = L4.Env.mem_alloc
ned.Env = L4.Env

L4.Class, L4.Loader, L4.App_env, L4.Cpu_set = ned.Class, ned.Loader, ned.App_env, ned.Cpu_set
ned.default_loader = ned.Loader.new { factory = L4.Env.factory, mem = L4.Env.mem_alloc, dbg_events = L4.Env.dbg_events }
L4.default_loader = ned.default_loader
L4.exec = ned.exec
L4.mangle_class = ned.mangle_class

function L4.get_cap_class(id)
  local class = ned.find_type(type(id) == "string" and ned.mangle_class(id) or id)
  return class and class.methods
end

function L4.__cast(id, cap)
  local class = ned.find_type(id)
  return class and ned.cast(class, cap) or nil
end

function L4.cast(...)
  if select("#", ...) > 2 then ned.fail("too many arguments to L4.cast (expected 2: type and cap)") end
  local to, cap = ...
  while type(cap) == "function" do cap = cap() end
  if type(to) == "number" then return L4.__cast(to, cap) end
  if type(to) == "string" then return L4.__cast(ned.mangle_class(to), cap) end
  return nil
end

local function sleep(amount, unit, factor)
  if type(amount) ~= "number" then return end
  host("write", 1, "Ned: Sleeping " .. tostring(amount) .. unit .. "\n")
  host("sleep", amount * factor)
end
function L4.sleep(seconds) sleep(seconds, "s", 1000.0) end
function L4.msleep(milliseconds) sleep(milliseconds, "ms", 1.0) end

function L4.server_loop(cap)
  if cap ~= nil and not ned.is_cap(cap) then
    ned.fail("bad argument #1 to 'server_loop' (a channel is expected, got %s)", type(cap))
  end
  ned.serve(cap)
end

ned.L4 = L4
package.preload.L4 = function() return L4 end
`;
