/**
 * Lua part 5: from an environment table to a launch request (l4re-facts.md 1.6, 1.7).
 *
 * `L4.App_env` and `L4.exec`. Where the original skips a value silently, a warning says so.
 */
export const START = String.raw`
local ned = ...
local host = ned.host
local PROTO_LOG = -13
local SERVER_RIGHTS = 0xef
local MAX_NAME = 16

-- Tables of capabilities with functions, by the ids of tasks that may be started again.
local launches = {}

local App_env = {}
App_env.__index = App_env
ned.App_env = App_env

-- Calls a function value (again and again) until it gives something else.
local function evaluate(value, ...)
  local calls = 0
  while type(value) == "function" do
    value = value(...)
    calls = calls + 1
    if calls > 100 then ned.fail("Cannot use a function as capability as it must end with a value: it returned functions 100 times") end
  end
  return value
end

local function need_cap(env, key, value)
  value = evaluate(value, env)
  if value ~= nil and not ned.is_cap(value) then
    ned.fail("error: capability expected '%s' (got %s)", key, type(value))
  end
  return value
end

-- What the loader gives for a key that the environment table does not have.
local function lookup(env, key)
  local value = rawget(env, key)
  if value ~= nil then return value end
  local loader = rawget(env, "loader")
  if loader then value = loader[key] end
  return value
end

function App_env.new(proto)
  return setmetatable(proto or {}, App_env)
end

-- The log capability of the new task: created from {tag, color}, or used as it is.
function App_env:log_capability(program)
  local log = evaluate(rawget(self, "log"), self)
  if ned.is_cap(log) then return log end
  if log == nil then log = {} end
  if type(log) ~= "table" then
    ned.fail("error: capability expected 'log' (a table {tag, color} or a capability; got %s)", type(log))
  end
  local factory = lookup(self, "log_fab")
  if factory == nil then factory = lookup(self, "mem") end
  if not ned.is_cap(factory) then ned.fail("Starting an application without valid log factory") end
  local tag = log[1] ~= nil and log[1] or log.tag
  local explicit = tag ~= nil
  if not explicit then tag = program:match("([^/]*)$") end
  local color = log[2] ~= nil and log[2] or log.color
  if color == nil then color = "white" end
  return factory:create(PROTO_LOG, tag, color, table.unpack(log, 3)), not explicit
end

-- Names of the capabilities that are functions: they are evaluated for each start of the task.
local function names_of_functions(caps)
  local names = {}
  for name, value in pairs(caps) do
    if type(name) == "string" and type(value) == "function" then names[#names + 1] = name:sub(1, MAX_NAME) end
  end
  table.sort(names)
  return names
end

-- Named capabilities for the record, in the order of their names: values, functions, or all.
local function named_capabilities(caps, values, functions)
  local names, list = {}, {}
  for name, value in pairs(caps) do
    local wanted = values
    if type(value) == "function" then wanted = functions end
    if type(name) == "string" then
      if wanted then names[#names + 1] = name end
    elseif values then ned.warn("entry [%s] of caps is skipped as names of capabilities are strings", tostring(name)) end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = evaluate(caps[name], caps)
    if name == "" or not ned.is_utf8(name) then ned.fail("Cannot name a capability %q as names are UTF-8 text of 1 to %d bytes", name, MAX_NAME) end
    if #name > MAX_NAME + 1 then ned.fail("Capability name '%s' too long (at most %d characters)", name, MAX_NAME) end
    if ned.is_cap(value) then
      local stored = name:sub(1, MAX_NAME)
      if stored ~= name then ned.warn("capability name '%s' is cut to its first %d characters, '%s'", name, MAX_NAME, stored) end
      local id, rights = ned.cap_id(value)
      list[#list + 1] = { name = stored, id = id, rights = rights, server = rights == SERVER_RIGHTS,
        variable = ned.name_of(value) }
    elseif value ~= nil then
      ned.warn("entry '%s' of caps is skipped as a capability is expected: it is a %s", name, type(value))
    end
  end
  return list
end

-- Splits (prog, args..., env) into argument strings and environment strings.
local function command_line(...)
  local given = table.pack(...)
  local environment = {}
  local last = given[given.n]
  if given.n >= 2 and type(last) == "table" then
    for key, value in pairs(last) do
      local kind = type(value)
      if type(key) ~= "string" or key == "" or key:find("=", 1, true) then
        ned.fail("Cannot set environment variable %s as its name must be a string without '='", tostring(key))
      end
      if kind ~= "string" and kind ~= "number" then
        ned.fail("Cannot set environment variable %s as its value must be a string or a number: it is a %s", key, kind)
      end
      environment[key] = tostring(value)
      if not (ned.is_utf8(key) and ned.is_utf8(environment[key])) then
        ned.fail("Cannot set environment variable %q as name and value must be UTF-8 text", key)
      end
    end
    given.n = given.n - 1
  end
  local argv = {}
  for i = 1, given.n do
    local value = given[i]
    local kind = type(value)
    if kind == "string" or kind == "number" then
      argv[#argv + 1] = tostring(value)
      if not ned.is_utf8(argv[#argv]) then
        ned.fail("bad argument #%d to 'start' (the string must be UTF-8 text: current value is %q)", i + 1, value)
      end
    elseif kind == "table" then
      ned.fail("bad argument #%d to 'start' (string expected, got table; the table of environment variables is the last argument)", i + 1)
    elseif kind ~= "nil" then
      ned.fail("bad argument #%d to 'start' (string expected, got %s)", i + 1, kind)
    end
  end
  if not argv[1] or argv[1] == "" then
    ned.fail("Cannot start a program as its name is missing: expected e.g. \"rom/curl\" after the environment table")
  end
  return argv, environment
end

local POLICIES = { no = true, ["on-failure"] = true, always = true }

-- Whether the task is started again when it has ended: a string, or nil.
local function restart_policy(env, program)
  local policy = rawget(env, "restart")
  if policy == nil or POLICIES[policy] then return policy end
  local text = type(policy) == "string" and '"' .. policy .. '"' or tostring(policy)
  ned.fail('Cannot start %s as restart must be "no", "on-failure" or "always": current value is %s', program, text)
end

function App_env:start(...)
  if getmetatable(self) ~= App_env then ned.fail("method called with incompatible object") end
  local argv, environment = command_line(...)
  local caps = rawget(self, "caps") or {}
  if type(caps) ~= "table" then ned.fail("Cannot start %s as 'caps' must be a table: it is a %s", argv[1], type(caps)) end
  for _, key in ipairs { "mem", "factory", "rm_fab", "scheduler", "dbg_events", "ns_fab", "log_fab" } do
    need_cap(self, key, lookup(self, key))
  end
  local restart = restart_policy(self, argv[1])
  local log, default_tag = self:log_capability(argv[1])
  local mem = lookup(self, "mem")
  local id, problem, keep = host("start", {
    argv = argv,
    functions = names_of_functions(caps),
    restart = restart,
    environment = environment,
    capabilities = named_capabilities(caps, true, not ned.late_functions),
    log = (ned.cap_id(log)),
    default_tag = default_tag or false,
    mem = mem and (ned.cap_id(mem)) or nil,
    debug = ned.tointeger(rawget(self, "l4re_dbg")) or 2,
    where = ned.where(),
  })
  ned.check_result(id, problem)
  if keep then launches[id] = caps end
  return ned.new_task(id)
end

-- Evaluates the functions of a launch for one start of it.
function ned.prepare(id)
  local ok, list = xpcall(named_capabilities, ned.describe_error, launches[id] or {}, false, true)
  if ok then host("prepared", list)
  else host("prepared", {}, ned.error_text(list)) end
end

-- The task will not be started again.
function ned.forget_launch(id) launches[id] = nil end

-- In the original this refers to something that does not exist, and fails.
function App_env:set_ns()
  ned.fail("'set_ns' does not work (nor does it on L4Re): use Loader:create_namespace and caps")
end

function ned.exec(env, ...)
  if type(env) ~= "table" then ned.fail("bad argument #1 to 'exec' (environment table expected, got %s)", type(env)) end
  if getmetatable(env) ~= App_env then env = App_env.new(env) end
  if rawget(env, "loader") == nil then env.loader = ned.default_loader end
  return env:start(...)
end
`;
