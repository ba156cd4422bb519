/**
 * Lua part 1: how the other parts ask TypeScript, and how a script's mistakes get their position.
 *
 * Devices and resources live in TypeScript, which names them by tokens: "d3", "r1". For each token there is one empty
 * table, so that `==` works in scripts. `__host(operation, position, ...)` answers `true, results...` or `false, message`.
 */
export const HOST = String.raw`
local host = __host
__host = nil
lib.host = host

-- "rom/ixl.vbus:5": the innermost line of a configuration file that is being executed, or "".
function lib.position()
  for level = 2, 250 do
    local call = debug.getinfo(level, "Sl")
    if not call then break end
    if call.currentline > 0 and call.source:byte() == 64 then -- "@": a file
      return ("%s:%d"):format(call.source:sub(2), call.currentline)
    end
  end
  return ""
end

function lib.fail(message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  local position = lib.position()
  error(position ~= "" and position .. ": " .. message or message, 0)
end

local tokens = setmetatable({}, { __mode = "k" })
local values = {}
-- By the first letter of the tokens: what scripts can do with such a value.
lib.metatables = { d = {}, r = {} }

-- The token of a device ("d") or resource ("r"); nil for anything else.
function lib.token(value, kind)
  local token = value ~= nil and tokens[value] or nil
  if token and token:sub(1, 1) == kind then return token end
  return nil
end

function lib.value(token)
  if token == nil then return nil end
  local value = values[token]
  if value == nil then
    value = setmetatable({}, lib.metatables[token:sub(1, 1)])
    values[token], tokens[value] = value, token
  end
  return value
end

-- "d1 d4" as a list.
function lib.values(list)
  local found = {}
  for token in list:gmatch("%S+") do found[#found + 1] = lib.value(token) end
  return found
end

function lib.need_device(value)
  local token = lib.token(value, "d")
  if not token then lib.fail("expected device, got: %s", tostring(value)) end
  return token
end

local function answer(ok, ...)
  if not ok then lib.fail("%s", (...)) end
  return ...
end

function lib.ask(operation, ...)
  return answer(host(operation, lib.position(), ...))
end

function print(...)
  local words = table.pack(...)
  for i = 1, words.n do words[i] = tostring(words[i]) end
  lib.ask("print", table.concat(words, "\t"))
end

Io.Dt, Io.Res, Io.Resource = {}, {}, {}
Io.Hw_device_DF_dma_supported, Io.Hw_device_DF_multi_vbus = 1, 2
`;
