/**
 * Lua part 1: the libraries that ned has, and files through named capabilities only (l4re-facts.md 1.2).
 *
 * `math`, `os`, `coroutine` and `utf8` go; what reads files (`io`, `dofile`, `loadfile`, `require`) sees only
 * the named capabilities of ned, read-only; what writes goes to ned's log.
 *
 * Our own code has globals of its own, copied before a script runs: a script may have a global variable `type`.
 */
export const SANDBOX = String.raw`
local ned = ...
local host = ned.host
local G = _G
local private = {}
for name, value in next, G do private[name] = value end
for _, name in next, { "string", "table", "debug" } do
  private[name] = {}
  for key, value in next, G[name] do private[name][key] = value end
end
local _ENV = private

-- Runs one of our further parts with these globals.
function ned.run_part(name, text)
  local chunk, message = load(text, "=[ned] " .. name, "t", private)
  if not chunk then error(message, 0) end
  chunk(ned)
end
ned.globals = G
ned.is_utf8 = function(text) return utf8.len(text) ~= nil end

ned.math_type, ned.tointeger, ned.huge = math.type, math.tointeger, math.huge
local real_tmpname, real_remove = os.tmpname, os.remove
local INTERNAL = "=[ned]"

for _, name in ipairs { "math", "os", "coroutine", "utf8" } do
  G[name] = nil
  package.loaded[name] = nil
end

-- "file:line" of the innermost script code on the stack, or "".
function ned.where()
  for level = 2, 100 do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.currentline > 0 and info.source:sub(1, #INTERNAL) ~= INTERNAL then
      local source = info.source:sub(1, 1) == "@" and info.source:sub(2) or info.short_src
      return source .. ":" .. info.currentline
    end
  end
  return ""
end

-- Raises an error that names the script's line, not ours.
function ned.fail(format, ...)
  local where = ned.where()
  error((where ~= "" and where .. ": " or "") .. string.format(format, ...), 0)
end

-- Prints a warning with the script's line.
function ned.warn(format, ...)
  local where = ned.where()
  host("write", 2, "Warning: " .. (where ~= "" and where .. ": " or "") .. string.format(format, ...) .. "\n")
end

-- The name of the script's variable that holds a value, or nil.
function ned.name_of(value)
  for level = 2, 100 do
    local info = debug.getinfo(level, "Sf")
    if not info then break end
    if info.source:sub(1, #INTERNAL) ~= INTERNAL and info.what ~= "C" then
      for i = 1, 250 do
        local name, held = debug.getlocal(level, i)
        if not name then break end
        if rawequal(held, value) and name:sub(1, 1) ~= "(" then return name end
      end
      for i = 1, 255 do
        local name, held = debug.getupvalue(info.func, i)
        if not name then break end
        if rawequal(held, value) then return name end
      end
    end
  end
  for name, held in next, G do
    if rawequal(held, value) and type(name) == "string" then return name end
  end
  return nil
end

-- Output: to the log, whole strings at a time.
local function write_to(fd, ...)
  local parts = table.pack(...)
  for i = 1, parts.n do
    local part = parts[i]
    if type(part) ~= "string" and type(part) ~= "number" then
      ned.fail("bad argument #%d to 'write' (string expected, got %s)", i, type(part))
    end
    parts[i] = tostring(part)
  end
  host("write", fd, table.concat(parts))
end

function G.print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  host("write", 1, table.concat(parts, "\t") .. "\n")
end

-- Input: the console, in the formats of the manual except "n" beyond one number for each line.
local function read_console(format)
  if format == nil then format = "l" end
  if type(format) == "number" and format >= 0 then return (host("read_stdin", format)) end
  local kind = type(format) == "string" and format:gsub("^%*", ""):sub(1, 1) or ""
  if not kind:match("^[nlLa]$") then ned.fail("bad argument to 'read' (invalid format)") end
  if kind == "a" then return host("read_stdin", "a") or "" end
  local line = host("read_stdin", "l")
  if line == nil then return nil end
  if kind == "L" then return line end
  line = line:gsub("\n$", "")
  if kind == "n" then return tonumber(line) end
  return line
end

local stdin, stdout, stderr = io.stdin, io.stdout, io.stderr
local file_methods = getmetatable(stdout).__index
local real_write, real_read, real_lines = file_methods.write, file_methods.read, file_methods.lines
local real_open = io.open

function file_methods.write(self, ...)
  if self == stdout then write_to(1, ...) return self end
  if self == stderr then write_to(2, ...) return self end
  return real_write(self, ...)
end

function file_methods.read(self, ...)
  if self ~= stdin then return real_read(self, ...) end
  local formats, results = table.pack(...), {}
  if formats.n == 0 then return read_console("l") end
  for i = 1, formats.n do results[i] = read_console(formats[i]) end
  return table.unpack(results, 1, formats.n)
end

function file_methods.lines(self, ...)
  if self ~= stdin then return real_lines(self, ...) end
  local format = ...
  return function() return read_console(format) end
end

-- A file of a named capability: its text, or nil, message, errno.
local function read_file(path)
  local bytes, problem = host("read_file", path)
  if bytes then return bytes end
  -- "Cannot find 'x' in rom as there is no such file": what failed is said by the caller.
  return nil, path .. ": " .. problem.message:gsub("^Cannot %a+ .- as ", "", 1), problem.errno
end

-- A real Lua file over a copy in the interpreter's own memory file system.
function io.open(path, mode)
  mode = mode or "r"
  if type(path) ~= "string" then ned.fail("bad argument #1 to 'open' (string expected, got %s)", type(path)) end
  if not tostring(mode):match("^[rwa]%+?b?$") then ned.fail("bad argument #2 to 'open' (invalid mode)") end
  if not tostring(mode):match("^rb?$") then
    return nil, path .. ": files are read-only here", 13
  end
  local text, message, errno = read_file(path)
  if not text then return nil, message, errno end
  local copy = real_tmpname()
  local file = real_open(copy, "wb")
  real_write(file, text)
  file:close()
  file = real_open(copy, "rb")
  real_remove(copy)
  return file
end

local input, output = stdin, stdout

local function as_file(value, default_mode)
  if type(value) ~= "string" then return value end
  local file, message = io.open(value, default_mode)
  if not file then ned.fail("%s", message) end
  return file
end

function io.input(file)
  if file ~= nil then input = as_file(file, "r") end
  return input
end

function io.output(file)
  if file ~= nil then output = as_file(file, "w") end
  return output
end

function io.read(...) return input:read(...) end
function io.write(...) return output:write(...) end
function io.close(file) return (file or output):close() end

function io.lines(path, ...)
  if path == nil then return input:lines(...) end
  local file, formats = as_file(path, "r"), table.pack(...)
  return function()
    local line = file:read(table.unpack(formats, 1, formats.n))
    if line == nil then file:close() end
    return line
  end
end

function io.popen() ned.fail("'popen' not supported") end
function io.tmpfile() return nil, "files are read-only here", 13 end

-- The text of a Lua file without a byte order mark and a first line that begins with '#', as luaL_loadfile takes it.
function ned.source_of(text)
  return (text:gsub("^\xef\xbb\xbf", "", 1):gsub("^#[^\n]*", "", 1))
end

function G.loadfile(path, mode, ...)
  if path == nil then return load(ned.source_of(host("read_stdin", "a") or ""), "=stdin", mode, ...) end
  if type(path) ~= "string" then ned.fail("bad argument #1 to 'loadfile' (string expected, got %s)", type(path)) end
  local text, message = read_file(path)
  if not text then return nil, "cannot open " .. message end
  return load(ned.source_of(text), "@" .. path, mode, ...)
end

function G.dofile(path)
  local chunk, message = G.loadfile(path)
  -- A syntax error names its own line; a file that cannot be opened gets that of the call.
  if not chunk then
    if message:find("^cannot open ") then ned.fail("%s", message) end
    error(message, 0)
  end
  return chunk()
end

function package.searchpath(name, path, separator, replacement)
  separator, replacement = separator or ".", replacement or "/"
  if separator ~= "" then
    name = name:gsub("%" .. separator, (replacement:gsub("%%", "%%%%")))
  end
  local tried = {}
  for template in path:gmatch("[^;]+") do
    local file = template:gsub("%?", (name:gsub("%%", "%%%%")))
    if read_file(file) then return file end
    tried[#tried + 1] = "no file '" .. file .. "'"
  end
  return nil, table.concat(tried, "\n\t")
end

-- Keeps the preload searcher; C modules cannot be loaded here.
package.searchers = {
  package.searchers[1],
  function(name)
    local file, tried = package.searchpath(name, package.path)
    if not file then return tried end
    local chunk, message = G.loadfile(file)
    if not chunk then error("error loading module '" .. name .. "' from file '" .. file .. "':\n\t" .. message, 0) end
    return chunk, file
  end,
}
package.path = "/usr/local/share/lua/5.4/?.lua;/usr/local/share/lua/5.4/?/init.lua;./?.lua;./?/init.lua"
package.cpath = ""
`;
