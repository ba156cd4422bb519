/** Lua part 4: task objects (l4re-facts.md 1.8). */
export const TASK = `
local ned = ...
local host = ned.host

local Task = { __name = "L4::Task", __metatable = "L4::Task" }
local methods = {}
local ids = setmetatable({}, { __mode = "k" })
-- By id: a function until it has run, then true as long as the script has the task object.
local handlers = {}
-- By id, as long as the script has them.
local tasks = setmetatable({}, { __mode = "v" })

local function check(task, method)
  local id = ids[task]
  if not id then ned.fail("bad argument #1 to '%s' (task object expected, got %s)", method, type(task)) end
  return id
end

function ned.new_task(id)
  local task = ned.new_userdata()
  ids[task], tasks[id] = id, task
  return debug.setmetatable(task, Task)
end

-- "initializing", "running", "zombie"; nil once killed or waited for.
function methods.state(self) return (host("task_state", check(self, "state"))) end

function methods.exit_code(self) return (host("task_exit_code", check(self, "exit_code"))) end

-- "killed"; the exit code when it has ended already; nil when nothing is left of it.
function methods.kill(self) return (host("task_kill", check(self, "kill"))) end

-- Blocks the whole interpreter. Of the exit handlers only the awaited task's own runs.
function methods.wait(self)
  local id = check(self, "wait")
  local code = host("task_wait", id)
  ned.run_exit_handler(id, code)
  return code
end

function methods.exit_handler(self, fn)
  local id = check(self, "exit_handler")
  if type(fn) ~= "function" then
    ned.fail("bad argument #1 to 'exit_handler' (function expected, got %s)", type(fn))
  end
  if handlers[id] then ned.fail("exit_handler callback already registered") end
  local ended, code = host("task_on_exit", id)
  handlers[id] = fn
  if not ended then return true end
  ned.run_exit_handler(id, code)
  return false
end

-- again: the task may be started once more, and end once more.
function ned.run_exit_handler(id, code, again)
  local fn = handlers[id]
  if not fn or fn == true then return end
  if not again then handlers[id] = tasks[id] and true or nil end
  local ok, message = xpcall(fn, ned.describe_error, code)
  if not ok then ned.report(message) end
end

Task.__index = methods
Task.__eq = function(a, b) return ids[a] == ids[b] end
Task.__lt = function(a, b) return ids[a] < ids[b] end
Task.__le = function(a, b) return ids[a] <= ids[b] end
Task.__gc = function(task)
  local id = ids[task]
  if handlers[id] == true then handlers[id] = nil end
  host("task_release", id)
end
Task.__tostring = function(task) return "L4::Task[" .. ids[task] .. "]" end
`;
