/** Lua part 9: running scripts, statements and the server loop (l4re-facts.md 1.1, 1.9). */
export const RUN = String.raw`
local ned = ...
local host = ned.host
local INTERNAL = "=[ned]"

-- Message handler of xpcall: text, and the script's calls that led here when there are several.
function ned.describe_error(err)
  local text
  if type(err) == "table" and err.msg ~= nil then text = tostring(err.msg)
  elseif type(err) == "string" or type(err) == "number" then text = tostring(err)
  else
    local meta = getmetatable(err)
    if type(meta) == "table" and meta.__tostring then text = tostring(err)
    else
      local where = ned.where()
      text = (where ~= "" and where .. ": " or "") .. "(error object is a " .. type(err) .. " value)"
    end
  end
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

-- Prints an error as ned does, with a hint for known mistakes; returns its text.
function ned.report(err)
  local text = type(err) == "table" and err.text or tostring(err)
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
  local chunk, message = load((source:gsub("^#[^\n]*", "", 1)), "@" .. name, "t")
  args = args or {}
  if name ~= "=stdin" then
    arg = { [0] = name, table.unpack(args) }
  else
    chunk, message = load(source, name, "t")
  end
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
    say("lua couldn't execute '" .. command .. "': " .. results[2].text .. ".")
    return 5, results[2].text
  end
  local ok, text = pcall(tostring, results[2])
  return 0, ok and text or "?"
end

local entered = false

-- The server loop; only once for each process. Ends only when ned itself ends.
function ned.serve(cap)
  if entered then return end
  entered = true
  local id
  if cap then id = ned.cap_id(cap) end
  local _, problem = host("serve", id, cap and ned.name_of(cap) or nil, ned.where())
  ned.check_result(true, problem)
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
