/** Lua part 9: running scripts, statements and the server loop (l4re-facts.md 1.1, 1.9). */
export const RUN = String.raw`
local ned = ...
local host = ned.host
local INTERNAL = "=[ned]"

local function field_msg(err) return err.msg end

-- The text that an error value has: a string, a field msg or a __tostring; nil when it has none, or fails to say it.
local function text_of(err)
  if type(err) == "string" or type(err) == "number" then return tostring(err) end
  local ok, value = pcall(field_msg, err)
  if not (ok and type(err) == "table" and value ~= nil) then
    local meta = debug.getmetatable(err)
    if not (type(meta) == "table" and rawget(meta, "__tostring")) then return nil end
    value = err
  end
  local said, text = pcall(tostring, value)
  return said and text or nil
end

-- Message handler of xpcall: text, and the script's calls that led here when there are several.
function ned.describe_error(err)
  local where = ned.where()
  where = where ~= "" and where .. ": " or ""
  local text = text_of(err) or where .. "(error object is a " .. type(err) .. " value)"
  -- What Lua itself found wrong below us is the caller's mistake.
  text = text:gsub("^%[ned%] [%w_]+:%d+: ", function() return where end, 1)
  local frames = {}
  for level = 2, 60 do
    local info = debug.getinfo(level, "Sln")
    if not info then break end
    if info.currentline > 0 and info.source:sub(1, #INTERNAL) ~= INTERNAL then
      frames[#frames + 1] = "  called at " .. info.short_src .. ":" .. info.currentline
    end
  end
  table.remove(frames, 1)
  return { text = text, frames = frames }
end

local function say(text) host("write", 2, text .. "\n") end

-- The text of what xpcall with describe_error returns: Lua itself returns a string when there was no room for the handler.
function ned.error_text(err) return type(err) == "table" and err.text or tostring(err) end

-- Prints an error as ned does, with a hint for known mistakes; returns its text.
function ned.report(err)
  local text = ned.error_text(err)
  say("lua error: " .. text:gsub("%.$", "") .. ".")
  if type(err) == "table" then
    for _, frame in ipairs(err.frames) do say(frame) end
  end
  local hint = ned.hint(text)
  if hint then say("hint: " .. hint .. ".") end
  return text
end

-- Runs a chunk; nil, or the text of its error, which has been printed.
local function run(chunk, message, ...)
  if not chunk then return ned.report(message) end
  local ok, err = xpcall(chunk, ned.describe_error, ...)
  if not ok then return ned.report(err) end
  return nil
end

function ned.run_file(name, source, args)
  args = args or {}
  local file = name ~= "=stdin"
  local chunk, message = load(ned.source_of(source), file and "@" .. name or name, "t")
  if file then ned.globals.arg = { [0] = name, table.unpack(args) } end
  local problem = run(chunk, message, table.unpack(args))
  chunk, source = nil, nil
  collectgarbage()
  return problem
end

-- Messages show the text of a statement, even one that starts like the name of a file ("@", "=").
local function chunk_name(statement) return (statement:gsub("^[=@]", " %0")) end

function ned.run_statement(statement)
  local problem = run(load(statement, chunk_name(statement), "t"))
  if problem then say("Error executing cmdline statement") end
  return problem
end

-- One command of a prompt: errno, text. An expression that is no statement is taken as its value.
local function execute(command)
  local chunk, message = load(command, chunk_name(command), "t")
  if not chunk then
    local as_value = load("return " .. command, chunk_name(command), "t")
    if not as_value then
      say("lua couldn't parse '" .. command .. "': " .. message .. ".")
      return 22, message
    end
    chunk = as_value
  end
  local results = table.pack(xpcall(chunk, ned.describe_error))
  if not results[1] then
    local problem = ned.error_text(results[2])
    say("lua couldn't execute '" .. command .. "': " .. problem .. ".")
    return 5, problem
  end
  local ok, text = pcall(tostring, results[2])
  return 0, ok and text or "?"
end

local entered = false

-- The server loop; only once for each process. Ends only when ned itself ends.
function ned.serve(cap)
  if entered then return end
  local id
  if cap then id = ned.cap_id(cap) end
  local _, problem = host("serve", id, cap and ned.name_of(cap) or nil, ned.where())
  ned.check_result(true, problem)
  entered = true
  while true do
    local event = host("next_event")
    if not event then return end
    if event.kind == "exit" then
      ned.run_exit_handler(event.task, event.code, event.again)
      if not event.again then ned.forget_launch(event.task) end
    elseif event.kind == "prepare" then
      ned.prepare(event.task)
    elseif event.kind == "command" then
      host("command_done", event.id, execute(event.statement))
    end
    event = nil
    collectgarbage()
  end
end
`;
